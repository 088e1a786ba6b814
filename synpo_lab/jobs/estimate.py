"""How long the rest of a run may take: what its stages are given to do, times how long they took for it so far.

What a stage is given (answers to write, optimiser steps) is known without noise, and it is what grows: a pool that
appends trains on more pairs in every iteration. So growth is read from there, not from seconds, which a busy machine
spoils.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(slots=True)
class Work:
    """One stage in one iteration; a grid trains, and a scorer scores, several times under one name."""

    begun: int = 0  # times
    given: int = 0  # units, of all times begun
    done: int = 0  # units, by this run itself
    seconds: float = 0.0  # for `done`


class Ledger:
    """What was given, done and spent, by iteration and stage."""

    def __init__(self) -> None:
        self._work: defaultdict[int, defaultdict[str, Work]] = defaultdict(lambda: defaultdict(Work))

    def begin(self, iteration: int, stage: str, units: int) -> None:
        work = self._work[iteration][_key(stage)]
        work.begun, work.given = work.begun + 1, work.given + units

    def take_back(self, iteration: int, stage: str, units: int) -> None:
        """It was interrupted: it will begin again."""
        work = self._work[iteration][_key(stage)]
        work.begun, work.given = work.begun - 1, work.given - units

    def book(self, iteration: int, stage: str, units: int, seconds: float) -> None:
        work = self._work[iteration][_key(stage)]
        work.done, work.seconds = work.done + units, work.seconds + seconds

    def seconds_left(self, iterations: int, taken_over: int) -> float | None:
        """Of all stages that are not begun yet. `taken_over`: iterations that another run has made, and are no measure.

        None before an own iteration is complete, and in the one after it until the stages that took most of the time
        have begun again: until then nobody can tell how they grow.
        """
        now = max(self._work, default=0)
        whole = [t for t in range(taken_over + 1, now) if t in self._work]
        if not whole:
            return None
        before = self._begun(whole[-1])
        if len(whole) == 1 and not self._shows_growth(before, whole[-1], now):
            return None
        ahead = sum(self._expected(stage, t, whole) for t in range(now + 1, iterations + 1) for stage in before)
        return ahead + sum(self._to_begin(stage, whole) for stage in before)

    def seconds_for(self, iteration: int, stage: str, units: int) -> float:
        """How long these units take if they take as long as they did in the iterations before."""
        return units * self._pace(_key(stage), range(1, iteration + 1))

    def _shows_growth(self, before: list[str], then: int, now: int) -> bool:
        begun = {_kin(stage) for stage in self._begun(now)}
        seconds = {stage: self._work[then][stage].seconds for stage in before}
        return sum(spent for stage, spent in seconds.items() if _kin(stage) in begun) > sum(seconds.values()) / 2

    def _begun(self, iteration: int) -> list[str]:
        return [stage for stage, work in self._work[iteration].items() if work.begun]

    def _to_begin(self, stage: str, whole: list[int]) -> float:
        """Seconds of the times the present iteration has still to begin the stage."""
        now = self._work[max(self._work)][stage]
        if now.begun >= self._work[whole[-1]][stage].begun:
            return 0.0
        given = self._given(stage, max(self._work), whole)
        return max(0.0, given - now.given) * self._pace(stage, [*whole, max(self._work)])

    def _expected(self, stage: str, iteration: int, whole: list[int]) -> float:
        return self._given(stage, iteration, whole) * self._pace(stage, [*whole, max(self._work)])

    def _given(self, stage: str, iteration: int, whole: list[int]) -> float:
        last, given = self._points(stage, whole)[-1]
        return given * (1 + self._growth(stage, whole) * (iteration - last))

    def _growth(self, stage: str, whole: list[int]) -> float:
        """By how much of what it was last given a stage grows in an iteration; of one that is not begun a second time,
        as its kin does: a grid's trainings share their pairs.
        """
        alike = [name for name in self._begun(whole[-1]) if name != stage and _kin(name) == _kin(stage)]
        for name in [stage, *alike]:
            points = self._points(name, whole)
            (first, early), (last, late) = points[0], points[-1]
            if last > first:
                return max(0.0, (late - early) / (last - first) / (late if name == stage else early))
        return 0.0

    def _points(self, stage: str, whole: list[int]) -> list[tuple[int, int]]:
        """(iteration, units) of the iterations that have begun the stage as often as it is begun."""
        now, often = max(self._work), self._work[whole[-1]][stage].begun
        there = [t for t in [*whole, now] if self._work[t][stage].begun >= max(1, often)]
        return [(t, self._work[t][stage].given) for t in there]

    def _pace(self, stage: str, iterations: Iterable[int]) -> float:
        """Seconds per unit."""
        works = [self._work[t][stage] for t in iterations if t in self._work]
        return sum(work.seconds for work in works) / max(1, sum(work.done for work in works))


def _key(stage: str) -> str:
    """A stage's name without the iteration that models' names hold: "look at pairs with M_3"."""
    return re.sub(r"_\d+\b", "", stage)


def _kin(stage: str) -> str:
    return " ".join(stage.split()[:2])
