"""What a scorer is: (prompt, answer) rows in, aspects out. Aspect "total" is the number that filters and rankings use."""

from collections.abc import Iterable, Iterator
from typing import Protocol


class Scorer(Protocol):
    name: str  # what Score.scorer says

    def score(self, rows: Iterable[tuple[str, str]]) -> Iterator[dict[str, float]]:
        """One dict per (prompt, answer), in order; each holds "total"."""
        ...
