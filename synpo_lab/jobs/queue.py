"""One run of a lab home works at a time; the others wait in the order in which they were asked for.

The slot is a flock: the kernel lets go of it however its holder ends, so the next run starts even after kill -9.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from storage import StorageFault, Store
from storage.state import RunState, read_state

POLL_SECONDS = 0.25


def ahead_of(store: Store, run_id: str) -> list[str]:
    """The runs that will have the slot before this queued run: the one at work, then those asked for earlier."""
    ticket = _ticket(run_id, read_state(store.run(run_id).folder))
    others = {other: state for other, state in _alive(store).items() if other != run_id}
    at_work = [other for other, state in others.items() if state.state != "queued"]
    earlier = sorted(_ticket(other, state) for other, state in others.items() if state.state == "queued")
    return at_work + [other for since, other in earlier if (since, other) < ticket]


@contextmanager
def hold_slot(store: Store, run_id: str, check_stop: Callable[[], None]) -> Iterator[None]:
    """Wait for the home's slot and hold it during the block. `check_stop` may raise to give up waiting."""
    with _opened(store.home / "slot.lock") as descriptor:
        while ahead_of(store, run_id) or not _taken(descriptor):
            check_stop()
            time.sleep(POLL_SECONDS)
        yield


def _ticket(run_id: str, state: RunState) -> tuple[float, str]:
    return (state.since, run_id)


def _alive(store: Store) -> dict[str, RunState]:
    alive = {}
    for run_id in store.runs():
        with suppress(StorageFault):  # deleted meanwhile, or damaged: it is in nobody's way
            state = read_state(store.run(run_id).folder)
            if state.pid is not None:
                alive[run_id] = state
    return alive


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
