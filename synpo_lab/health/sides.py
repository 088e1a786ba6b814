"""Checks of the two sides of a pair against each other."""

from dataclasses import replace

import numpy as np

from synpo_lab.health.check import Check, Rows, histogram
from synpo_lab.health.facts import Facts
from synpo_lab.health.report import CheckResult, Plot

NEAR = 0.95  # similarity

IDENTICAL = Check(
    "identical sides", "sides",
    "The chosen and the rejected answer are the same text: there is nothing to prefer, and the loss only adds noise.",
    "Drop them: they teach nothing.", 0.0, 0.01,
)  # fmt: skip
NEAR_IDENTICAL = Check(
    "near-identical sides", "sides",
    f"The two answers differ but share {NEAR:.0%} of their words or more: preference optimisation is known to push down "
    "the likelihood of both sides of such pairs (Pal et al., arXiv 2402.13228).",
    "Filter by similarity, or look whether the small difference is the one you want to teach.", 0.02, 0.10,
)  # fmt: skip


def identical_sides(facts: Facts) -> tuple[CheckResult, Rows]:
    rows = {int(row): (1.0, "the same text") for row in np.flatnonzero(facts.identical)}
    return IDENTICAL.result(facts, rows, plot=_spread(facts, 1.0)), rows


def near_identical_sides(facts: Facts) -> tuple[CheckResult, Rows]:
    """Sides whose similarity (metrics.similarity) is at least NEAR and that are not the same text."""
    near = (facts.similarity >= NEAR) & ~facts.identical
    rows = {int(row): (float(facts.similarity[row]), "of words in common") for row in np.flatnonzero(near)}
    return NEAR_IDENTICAL.result(facts, rows, among=~np.isnan(facts.similarity), plot=_spread(facts, NEAR)), rows


def _spread(facts: Facts, at_least: float) -> Plot | None:
    """The histogram of similarities; the bin from `at_least` up is marked."""
    edges = [i / 20 for i in range(21)]
    plot = histogram(facts.similarity, "Similarity of the two sides", "share of words in common, 0 to 1", edges=edges)
    return None if plot is None else replace(plot, marked=[min(19, round(at_least * 20))])
