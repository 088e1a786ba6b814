"""Ask a run to stop. It ends at the next safe point and keeps everything it has made; `resume` goes on from there."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil

from storage.state import RunState, read_state, set_state
from synpo_lab.errors import RunError
from synpo_lab.home import open_store, storage_errors


def stop(home: Path, run_id: str, *, wait: float = 0.0, kill: bool = False) -> bool:
    """Ask, wait up to `wait` seconds, and with `kill` end a worker that has not stopped by then. Says if it ended.

    Raises RunError when no worker is at it.
    """
    with storage_errors():
        folder = open_store(home).run(run_id).folder
        state = read_state(folder)
        if state.pid is None:
            raise RunError(f"run {run_id} is not at work: it is {state.state}", hint=_what_instead(state, run_id))
        _signal(state, signal.SIGTERM)
        ended = _await_end(folder, state.pid, wait)
        if kill and not ended:
            _signal(state, signal.SIGKILL)
            ended = _await_end(folder, state.pid, 5.0)
            if ended:
                set_state(folder, "stopped", f"killed: it had not stopped within {wait:.0f} s")
    return ended


def _signal(state: RunState, number: signal.Signals) -> None:
    # A worker leads a session of its own. Anything else was misread or has just ended, and is left alone.
    try:
        if state.pid and state.pid > 1 and os.getsid(state.pid) == state.pid:
            _kill(state.pid) if number == signal.SIGKILL else os.kill(state.pid, number)
    except (ProcessLookupError, psutil.NoSuchProcess):
        pass


def _kill(worker: int) -> None:
    """The worker, and all that came of it: a training shared by several processes has a session of its own."""
    family = psutil.Process(worker).children(recursive=True)
    os.killpg(worker, signal.SIGKILL)
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def _await_end(folder: Path, pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while read_state(folder).pid == pid:
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def _what_instead(state: RunState, run_id: str) -> str:
    if state.state in {"finished", "imported"}:
        return "there is nothing to stop"
    return f"go on with it by `synpo-lab resume {run_id}`"
