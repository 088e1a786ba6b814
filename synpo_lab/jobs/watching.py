"""How runs are doing, told from their folders alone."""

import threading
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from storage import RunStore
from storage.state import RunState, State, read_state
from synpo_lab.errors import StorageError
from synpo_lab.home import open_store, storage_errors
from synpo_lab.jobs.provenance import stored_info
from synpo_lab.jobs.queue import ahead_of
from synpo_lab.jobs.timeline import Timeline


@dataclass(frozen=True, slots=True)
class Parent:
    """Where a fork began."""

    run_id: str
    iteration: int
    decided_again: tuple[int, ...]  # iterations whose pairs the fork's filter decided anew


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run at one moment. Times in seconds; None where nothing honest can be said."""

    run_id: str
    recipe: str
    title: str
    state: State
    message: str  # why it failed, whom it waits for, ...
    stage: str  # what it is at, or was at last; "" before the first stage
    iteration: int | None
    iterations: int | None  # rounds in all
    done: int | None  # of the stage
    total: int | None
    rate: float | None  # finished per second in this stage
    seconds_left: float | None  # of the stage
    run_seconds_left: float | None  # of the whole run; told once it can be seen how stages grow
    elapsed: float  # seconds of work; the time between an interruption and a resume is none
    created_at: float  # seconds since 1970, UTC
    parent: Parent | None = None  # of a fork


class Watch:
    """Follows the runs of a lab home, for any number of threads. Keep one: it reads no line of the logs twice."""

    def __init__(self, home: Path) -> None:
        self._store = open_store(home, read_only=True)
        self._timelines: defaultdict[str, Timeline] = defaultdict(Timeline)
        self._read_up_to: defaultdict[str, int] = defaultdict(int)
        self._lock = threading.Lock()

    def runs(self) -> list[RunStatus]:
        """Every run, the latest made first. One whose folder is damaged says so in its message."""
        with storage_errors():
            statuses = [self._run_or_damage(run_id) for run_id in self._store.runs()]
        return sorted(statuses, key=lambda status: (status.created_at, status.run_id), reverse=True)

    def run(self, run_id: str) -> RunStatus:
        """One run. StorageError when there is none of that id, or its folder is damaged."""
        with storage_errors(), self._lock:
            run = self._store.run(run_id)
            state = read_state(run.folder)
            self._read_on(run)
            return _status(run, state, self._timelines[run_id], self._message(run_id, state))

    def _run_or_damage(self, run_id: str) -> RunStatus:
        try:
            return self.run(run_id)
        except StorageError as error:
            return replace(_UNREADABLE, run_id=run_id, message=str(error))

    def _read_on(self, run: RunStore) -> None:
        events, self._read_up_to[run.run_id] = run.events(self._read_up_to[run.run_id])
        self._timelines[run.run_id].feed(events)

    def _message(self, run_id: str, state: RunState) -> str:
        if state.state != "queued":
            return state.message
        waited_for = ahead_of(self._store, run_id)
        return f"behind {waited_for[-1]}" if waited_for else "starting"


def status(home: Path) -> list[RunStatus]:
    """Every run of the lab home at this moment, the latest made first."""
    return Watch(home).runs()


def log_tail(folder: Path, lines: int = 50) -> str:
    """The end of what the run's worker has printed: warnings of libraries, and tracebacks."""
    path = folder / "worker.log"
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 400 * lines))
        return "\n".join(file.read().decode("utf-8", "replace").splitlines()[-lines:])


def _status(run: RunStore, state: RunState, timeline: Timeline, message: str) -> RunStatus:
    info = stored_info(run)
    at_work = state.state in {"running", "stopping"}
    parent = _parent(info)
    taken_over = parent.iteration if parent else 0
    return RunStatus(
        run_id=run.run_id,
        recipe=info.get("recipe", ""),
        title=info.get("title", ""),
        state=state.state,
        message=message,
        stage=timeline.stage,
        iteration=timeline.iteration,
        iterations=info.get("iterations"),
        done=timeline.done,
        total=timeline.total,
        rate=timeline.rate if at_work else None,
        seconds_left=timeline.stage_seconds_left if at_work else None,
        run_seconds_left=timeline.run_seconds_left(info.get("iterations") or 0, taken_over) if at_work else None,
        elapsed=timeline.elapsed + (timeline.seconds_since_last if at_work else 0.0),
        created_at=info.get("created_at", 0.0),
        parent=parent,
    )


def _parent(info: dict[str, Any]) -> Parent | None:
    origin = info.get("parent")
    return Parent(origin["run_id"], origin["iteration"], tuple(origin["decided_again"])) if origin else None


_UNREADABLE = RunStatus("", "", "", "interrupted", "", "", None, None, None, None, None, None, None, 0.0, 0.0)
