"""A run's events digested: what it is doing, how fast, how long it has worked and how long it may still take."""

import time
from collections.abc import Iterable
from typing import Any

from synpo_lab.jobs.estimate import Ledger
from synpo_lab.run import FINISHED, STARTED

RUN_STAGE = "run"  # the worker's own events: started, finished, stopped, failed


class Timeline:
    """Feed it every event of a run once, in order."""

    def __init__(self) -> None:
        self.stage = ""
        self.iteration: int | None = None
        self.done: int | None = None
        self.total: int | None = None
        self.message = ""
        self.elapsed = 0.0  # seconds of work; the time between an interruption and its resume is none
        self.last_at: float | None = None
        self._is_open = False  # the present stage: begun and not finished
        self._began = self._seen_at = 0.0  # its first event and its last
        self._done_before, self._given = 0, 0  # units: done by an earlier attempt, and in all
        self._first_progress: tuple[float, int] | None = None  # (at, done)
        self._ledger = Ledger()

    def feed(self, events: Iterable[dict[str, Any]]) -> None:
        for event in events:
            self._clock(event)
            if event["stage"] == RUN_STAGE or event["done"] is None:
                continue
            self._enter(event)

    @property
    def seconds_since_last(self) -> float:
        """Since the last event, which may be long ago."""
        return 0.0 if self.last_at is None else max(0.0, time.time() - self.last_at)

    @property
    def rate(self) -> float | None:
        """What the present stage finishes per second, on average since its first progress.

        Not since it began: a model was loaded first, and a training that is resumed leaps to its checkpoint.
        """
        if self._first_progress is None or self.done is None or self.last_at is None:
            return None
        at, done = self._first_progress
        return (self.done - done) / (self.last_at - at) if self.done > done and self.last_at > at else None

    @property
    def stage_seconds_left(self) -> float | None:
        if self.rate is None or self.total is None or self.done is None:
            return None
        return max(0.0, (self.total - self.done) / self.rate)

    def run_seconds_left(self, iterations: int, taken_over: int = 0) -> float | None:
        """Seconds until the last iteration ends, if each stage goes on growing from iteration to iteration as it did.

        `taken_over`: the iterations a fork has from its parent. None while nobody can tell (`Ledger.seconds_left`).
        """
        later = self._ledger.seconds_left(iterations, taken_over)
        return None if later is None else later + self._present_seconds_left()

    def _present_seconds_left(self) -> float:
        if not self._is_open or self.stage_seconds_left is not None:
            return self.stage_seconds_left or 0.0
        units = max(0, (self.total or 0) - (self.done or 0))
        return self._ledger.seconds_for(self.iteration or 0, self.stage, units)

    def _clock(self, event: dict[str, Any]) -> None:
        if self.last_at is not None and not (event["stage"] == RUN_STAGE and event["message"].startswith(STARTED)):
            self.elapsed += max(0.0, event["at"] - self.last_at)
        self.last_at = event["at"]

    def _enter(self, event: dict[str, Any]) -> None:
        if event["message"] == STARTED:
            self._interrupted()
            self._begin(event)
        elif self._first_progress is None:
            self._first_progress = (event["at"], event["done"])
        self.stage, self.iteration = event["stage"], event["iteration"]
        self.done, self.total, self.message = event["done"], event["total"], event["message"]
        self._seen_at = event["at"]
        if self.message.startswith(FINISHED):
            self._book()
            self._is_open = False

    def _begin(self, event: dict[str, Any]) -> None:
        self._is_open, self._first_progress = True, None
        self._began, self._done_before = event["at"], event["done"]
        self._given = max(1, event["total"] or 0)
        if event["iteration"] is not None:
            self._ledger.begin(event["iteration"], event["stage"], self._given)

    def _interrupted(self) -> None:
        """What an attempt that came to no end has done counts; that it began does not: it is begun again."""
        if self._is_open and self.iteration is not None:
            self._book()
            self._ledger.take_back(self.iteration, self.stage, self._given)

    def _book(self) -> None:
        if self.iteration is not None:
            units = max(0, (self.done or 0) - self._done_before)
            self._ledger.book(self.iteration, self.stage, units, self._seen_at - self._began)
