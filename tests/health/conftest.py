"""Pairs written by hand, and the facts of a real store that holds them."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from storage.database import Database
from storage.queries.health import pair_facts
from synpo_lab.health.facts import Facts
from synpo_lab.metrics import similarity
from synpo_lab.records import Pair, content_id

FactsOf = Callable[[Sequence[Pair]], Facts]


def a_pair(
    prompt: str = "Name a fruit.",
    chosen: str = "A plum.",
    rejected: str = "A trumpet.",
    *,
    scores: tuple[float, float] | None = None,
    iteration: int = 0,
    kept: bool = True,
    number: int = 0,
) -> Pair:
    """A pair as an import would make it; `number` tells two of equal texts apart."""
    sides = [content_id("response", prompt, number, side, text) for side, text in (("c", chosen), ("r", rejected))]
    better, worse = scores or (None, None)
    gap = None if better is None or worse is None else better - worse
    return Pair(
        iteration=iteration, pair_id=content_id("pair", *sides), prompt_id=content_id("prompt", prompt), prompt=prompt,
        chosen_id=sides[0], rejected_id=sides[1], chosen=chosen, rejected=rejected, chosen_score=better,
        rejected_score=worse, gap=gap, len_chosen=len(chosen), len_rejected=len(rejected), repetition=0.0, kept=kept,
        drop_reason=None if kept else "gap", similarity=similarity(chosen, rejected),
    )  # fmt: skip


@pytest.fixture
def facts_of(tiny_store: Any) -> FactsOf:
    """The facts of these pairs, out of a store."""

    def read(pairs: Sequence[Pair]) -> Facts:
        database = Database(tiny_store(pairs))
        found = Facts.of(pair_facts(database, "run"))
        database.close()
        return found

    return read


def ids(facts: Facts, rows: Any) -> set[str]:
    return {facts.id_of(row) for row in rows}
