"""What state a run is in, told by its folder alone; right after kill -9, a full restart, or a copy to another machine.

`state.json` says what the worker or the launcher last said; `worker.lock` is flocked by the worker for its whole life,
and the kernel lets go of it however the worker ends. A run that says it is running while nobody holds the lock was
interrupted.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from storage.atomic import write_text
from storage.errors import StorageFault, explained

State = Literal["queued", "running", "stopping", "stopped", "interrupted", "failed", "finished", "imported"]
NEEDS_WORKER: frozenset[State] = frozenset({"queued", "running", "stopping"})
LAUNCH_GRACE_S = 15.0
LOCK_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class RunState:
    state: State
    message: str
    since: float  # seconds since 1970, UTC
    pid: int | None  # the worker's, while it lives


def set_state(folder: Path, state: State, message: str = "") -> None:
    """Say what state the run is in now."""
    write_text(folder / "state.json", json.dumps({"state": state, "message": message, "since": time.time()}))


def read_state(folder: Path) -> RunState:
    """The run's state as it is now."""
    pid = _worker_pid(folder)
    said = _said(folder)
    if said.state not in NEEDS_WORKER:
        return said
    # The lock was looked at before the state was read: a worker that began in between is found by looking again.
    pid = pid or _worker_pid(folder)
    starting = said.state == "queued" and 0 <= time.time() - said.since < LAUNCH_GRACE_S
    if pid is not None or starting:
        return RunState(said.state, said.message, said.since, pid)
    return RunState("interrupted", said.message or f"the worker ended while {said.state}", said.since, None)


@contextmanager
def hold_worker_lock(folder: Path) -> Iterator[None]:
    """Hold the run for this process. StorageFault when another one holds it."""
    with explained("lock", folder):
        descriptor = os.open(folder / "worker.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        with explained("lock", folder):
            _lock(descriptor, folder)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def worker_alive(folder: Path) -> bool:
    """Whether a process holds the run."""
    return _worker_pid(folder) is not None


def _lock(descriptor: int, folder: Path) -> None:
    # A reader that asks whether the lock is held holds it itself for a moment.
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise StorageFault(
                    f"another process is working on run {folder.name!r}",
                    hint="watch it with `synpo-lab status`, or stop it first with `synpo-lab stop`",
                ) from None
            time.sleep(0.02)


def _worker_pid(folder: Path) -> int | None:
    """The process that holds the lock: None when nobody does, 0 when it has not said yet who it is."""
    path = folder / "worker.lock"
    with explained("look at", path):
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return None
        except BlockingIOError:
            return int(os.pread(descriptor, 20, 0) or 0)
        finally:
            os.close(descriptor)


def _said(folder: Path) -> RunState:
    path = folder / "state.json"
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        if said["state"] not in get_args(State):
            raise ValueError(f"unknown state {said['state']!r}")
        return RunState(said["state"], str(said["message"]), float(said["since"]), None)
    except FileNotFoundError:
        return RunState("queued", "", folder.stat().st_mtime if folder.exists() else 0.0, None)
    except (ValueError, KeyError, TypeError) as error:
        raise StorageFault(
            f"{path} is damaged: {error}", hint="delete that file; the run then reads as interrupted"
        ) from None
