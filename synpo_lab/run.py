"""What a recipe is handed: the run it works for.

A recipe names its stages, reads and saves records, and marks what is finished. Where things lie, how the screen learns
of progress and how a stop arrives is decided here, so that a recipe reads like the paper's algorithm box:

    with run.stage("draft", t, total=len(prompts)) as progress:
        run.save(tracked(draft(engine, prompts), progress))
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

from storage import RunStore
from storage.staging import Staging, all_at_once
from synpo_lab.config import RunConfig
from synpo_lab.home import storage_errors
from synpo_lab.records import content_id

Item = TypeVar("Item")

STARTED = "started"  # the message of a stage's first event
FINISHED = "finished"  # how the message of its last event begins
EVENT_SECONDS = 1.0  # between two progress events of a stage


class StopRequested(BaseException):
    """Someone asked the run to stop. Like KeyboardInterrupt it is no Exception: `except Exception` must not eat it."""


class Run:
    """One execution of a recipe, as its recipe sees it. Storage problems come out as StorageError."""

    def __init__(self, store: RunStore, config: RunConfig, stop_requested: Callable[[], bool] = lambda: False) -> None:
        self.config = config
        self.run_id = store.run_id
        self._store = store
        self._stop_requested = stop_requested

    @contextmanager
    def stage(
        self, name: str, iteration: int | None = None, total: int | None = None, done: int = 0
    ) -> "Iterator[Progress]":
        """Name what happens inside the block. `done` is what an earlier attempt had finished of `total`."""
        self.check_stop()
        progress = Progress(self, name, iteration, total, done)
        began = time.monotonic()
        progress.write(STARTED)
        try:
            yield progress
        except BaseException as error:
            stopped = self._stop_requested()
            progress.write(f"{'stopped' if stopped else 'failed'} after {time.monotonic() - began:.1f} s")
            if stopped:  # a trainer that was asked to stop leaves by an error of its own
                raise StopRequested from error
            raise
        progress.write(f"{FINISHED} in {time.monotonic() - began:.1f} s")

    def save(self, records: Iterable[Any]) -> int:
        """Append records as they come and say how many were new. What came before an error or a stop is kept."""
        with storage_errors():
            return self._store.append(records)

    def read(self, kind: type[Item], iteration: int | None = None) -> Iterator[Item]:
        """The saved records of a type, of one iteration or of all, in the order they were saved."""
        with storage_errors():
            yield from self._store.read(kind, iteration)

    def ids(self, kind: type, iteration: int | None = None) -> set[str]:
        """The ids of the saved records of a type."""
        with storage_errors():
            return self._store.ids(kind, iteration)

    def notes(self, kind: type[Item]) -> list[Item]:
        """Every reader's note in the lab home, oldest first."""
        with storage_errors():
            return self._store.notes(kind)

    @contextmanager
    def all_at_once(self, iteration: int) -> Iterator[Staging]:
        """What the block adds becomes the run's tables at its end; when it fails or is stopped, nothing does."""
        with storage_errors(), all_at_once(self._store, iteration) as staging:
            yield staging

    def mark(self, name: str, payload: Mapping[str, Any] | None = None) -> None:
        """Say that a step is complete, for example "iteration=1/improver"; a resumed run will not repeat it."""
        with storage_errors():
            self._store.mark(name, dict(payload or {}))

    def done(self, name: str) -> bool:
        """Whether an earlier attempt, or this one, completed the step."""
        with storage_errors():
            return self._store.marked(name)

    def marker(self, name: str) -> dict[str, Any] | None:
        """What the step was marked with, None when it is not complete."""
        with storage_errors():
            return self._store.marker(name)

    def log(self, message: str, level: Literal["info", "warning", "error"] = "info", stage: str = "log") -> None:
        """Tell the reader of the run something."""
        with storage_errors():
            self._store.event(stage, message, level=level)

    def model_folder(self, name: str) -> Path:
        """Where the weights called `name` ("M_1", "R_2", "G") lie, or will."""
        return self._store.models / name

    def stop_requested(self) -> bool:
        """Whether someone asked the run to stop."""
        return self._stop_requested()

    def check_stop(self) -> None:
        """Raises StopRequested when someone asked the run to stop. To be called wherever stopping loses nothing."""
        if self._stop_requested():
            raise StopRequested

    def seed_for(self, *parts: object) -> int:
        """A seed below 2**31 that depends on the run's seed and on `parts`, and on nothing else."""
        return int(content_id("seed", self.config.seed, *parts), 16) % 2**31

    def progress_event(self, stage: str, iteration: int | None, done: int, total: int | None, message: str) -> None:
        with storage_errors():
            self._store.event(stage, message, iteration=iteration, done=done, total=total)


class Progress:
    """The counter of one stage: `done` of `total` (None: not known). Writes an event at most once a second."""

    def __init__(self, run: Run, stage: str, iteration: int | None, total: int | None, done: int) -> None:
        self.done = done
        self.total = total
        self._run = run
        self._stage = stage
        self._iteration = iteration
        self._due = 0.0

    def advance(self, n: int = 1, message: str = "") -> None:
        """`n` more are done."""
        self.done += n
        if time.monotonic() >= self._due:
            self.write(message)

    def check_stop(self) -> None:
        self._run.check_stop()

    def write(self, message: str) -> None:
        self._due = time.monotonic() + EVENT_SECONDS
        self._run.progress_event(self._stage, self._iteration, self.done, self.total, message)


def tracked(items: Iterable[Item], progress: Progress, count: Callable[[Item], int] = lambda item: 1) -> Iterator[Item]:
    """`items` as they come, each counted when its taker comes back for more. Raises StopRequested between two.

    With chunks for items, `count=len`.
    """
    for item in items:
        yield item
        progress.advance(count(item))
        progress.check_stop()
