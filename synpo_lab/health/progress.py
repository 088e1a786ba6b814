"""How far a check has come, for whoever wants to know: a small file in the run's folder, while the check holds its lock."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from storage import RunStore
from storage.atomic import write_text
from storage.locks import is_held

LOCK, FILE = "health.lock", "health.progress.json"
TOLD_EVERY_S = 0.5
START_S = 30.0  # a process that was started holds the lock by then, or never will
STARTING = "starting"

Tell = Callable[[str, int, int], None]  # what is done, how many of how many (0: not counted)


@dataclass(frozen=True, slots=True)
class Progress:
    what: str  # starting, numbers, texts, prompts, near-duplicates, writing
    done: int
    total: int  # 0: not counted
    at: float  # seconds since 1970, UTC


def progress(run: RunStore) -> Progress | None:
    """How far the check of a run that is going on has come; None when none is."""
    said = _said(run)
    if is_held(run.folder / LOCK):
        return said or Progress(STARTING, 0, 0, time.time())
    return said if said and said.what == STARTING and time.time() - said.at < START_S else None


@contextmanager
def telling(run: RunStore, also: Tell) -> Iterator[Tell]:
    """What to call with the progress while a block runs. To be used by the holder of the lock."""
    due = 0.0

    def tell(what: str, done: int, total: int) -> None:
        nonlocal due
        also(what, done, total)
        if time.monotonic() >= due or not total:
            due = time.monotonic() + TOLD_EVERY_S
            say(run, what, done, total)

    try:
        yield tell
    finally:
        forget(run)


def say(run: RunStore, what: str, done: int = 0, total: int = 0) -> None:
    write_text(run.folder / FILE, json.dumps(asdict(Progress(what, done, total, time.time()))))


def forget(run: RunStore) -> None:
    (run.folder / FILE).unlink(missing_ok=True)


def _said(run: RunStore) -> Progress | None:
    try:
        return Progress(**json.loads((run.folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
