"""What a scorer is, and what a ranker is: texts in, numbers by aspect out.

Aspect "total" is the one that filters and rankings use. A row without it was not scored: a judge's answer that says nothing
strict, for example. It is counted under "unparsed", and the answer takes no further part.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Protocol

from typing_extensions import TypeIs

from synpo_lab.engines.base import Check

Aspects = dict[str, float]


class Scorer(Protocol):
    """Gives each answer a number of its own."""

    name: str  # what Score.scorer says: the scorer, its model and that model's revision

    def score(self, rows: Iterable[tuple[str, str]]) -> Iterator[Aspects]:
        """One dict per (prompt, answer), in order; each holds "total"."""
        ...


class Ranker(Protocol):
    """Compares two answers: its number is by how much the first is better, 0 for equals, and turns its sign with them."""

    name: str

    def compare(self, rows: Iterable[tuple[str, str, str]]) -> Iterator[Aspects]:
        """One dict per (prompt, answer, other), in order; each holds "total"."""
        ...


def is_ranker(scorer: "Scorer | Ranker") -> "TypeIs[Ranker]":
    return hasattr(scorer, "compare")


def watch(scorer: "Scorer | Ranker", check: Check) -> None:
    """Let `check` interrupt the scorer's work by what it raises, where the scorer has a `check` to call."""
    if hasattr(scorer, "check"):
        scorer.check = check


def inspect(scorer: "Scorer | Ranker") -> None:
    """Let a scorer look at what is small of its model; it raises what would keep it from loading, as far as that shows."""
    look = getattr(scorer, "inspect", None)
    if look is not None:
        look()


def release(scorer: "Scorer | Ranker") -> None:
    """Give back what the scorer holds (a model); it loads it again when it is asked again."""
    close = getattr(scorer, "close", None)
    if close is not None:
        close()


def against_anchors(ranker: Ranker, rows: Iterable[tuple[str, str]], anchors: Mapping[str, str]) -> Iterator[Aspects]:
    """A ranker's numbers for single answers: each against the anchor of its prompt (`anchors`: prompt -> answer).

    The gap of two answers of which one is the anchor is exactly the ranker's; of two others it is the difference of theirs.
    """
    others = [(prompt, answer, anchors[prompt]) for prompt, answer in rows]
    asked = ranker.compare(row for row in others if row[1] != row[2])
    for _, answer, other in others:
        yield {"total": 0.0} if answer == other else next(asked)
