"""A run's events digested: what it is doing, how fast, how long it has worked and how long it may still take."""

import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from synpo_lab.run import FINISHED, STARTED

RUN_STAGE = "run"  # the worker's own events: started, finished, stopped, failed
ESTIMATE_FROM = 2  # complete iterations


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
        self._stage_began = 0.0
        self._first_progress: tuple[float, int] | None = None  # (at, done) of the present stage
        self._seconds: dict[int, dict[str, float]] = defaultdict(dict)  # by iteration and stage, once finished

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

    def run_seconds_left(self, iterations: int) -> float | None:
        """Seconds until the last iteration ends, if each stage goes on growing from iteration to iteration as it did.

        None before two iterations are complete: with one, nobody can tell how they grow.
        """
        now = self.iteration
        if now is None or now <= ESTIMATE_FROM:
            return None
        stages = self._seconds[now - 1]
        present = sum(self._left_of(stage, now) for stage in stages)
        return present + sum(self._expected(stage, t) for t in range(now + 1, iterations + 1) for stage in stages)

    def _left_of(self, stage: str, iteration: int) -> float:
        """Of all the stages of that name in the present iteration: a grid trains under one name several times."""
        spent = self._seconds[iteration].get(stage, 0.0)
        if stage != self.stage or self.message.startswith(FINISHED):
            return max(0.0, self._expected(stage, iteration) - spent)
        spent += (self.last_at or 0.0) - self._stage_began
        return max(self.stage_seconds_left or 0.0, self._expected(stage, iteration) - spent)

    def _expected(self, stage: str, iteration: int) -> float:
        seen = [(t, self._seconds[t][stage]) for t in range(1, self.iteration or 0) if stage in self._seconds[t]]
        (first, early), (last, late) = seen[0], seen[-1]
        growth = max(0.0, (late - early) / (last - first)) if last > first else 0.0
        return late + growth * (iteration - last)

    def _clock(self, event: dict[str, Any]) -> None:
        if self.last_at is not None and not (event["stage"] == RUN_STAGE and event["message"].startswith(STARTED)):
            self.elapsed += max(0.0, event["at"] - self.last_at)
        self.last_at = event["at"]

    def _enter(self, event: dict[str, Any]) -> None:
        if event["message"] == STARTED:
            self._stage_began, self._first_progress = event["at"], None
        elif self._first_progress is None:
            self._first_progress = (event["at"], event["done"])
        self.stage, self.iteration = event["stage"], event["iteration"]
        self.done, self.total, self.message = event["done"], event["total"], event["message"]
        if self.message.startswith(FINISHED) and self.iteration is not None:
            seconds = self._seconds[self.iteration]
            seconds[self.stage] = seconds.get(self.stage, 0.0) + event["at"] - self._stage_began
