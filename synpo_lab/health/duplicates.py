"""Rows that stand in the data more than once, or against each other."""

import numpy as np

from synpo_lab.health.check import Check, Rows, bars, sizes
from synpo_lab.health.facts import Facts
from synpo_lab.health.report import CheckResult

DUPLICATE = Check(
    "exact duplicate", "rows",
    "An earlier pair has the same prompt and the same two answers in the same order: it counts twice in training.",
    "Keep one of each: a filter without duplicates does.", 0.0, 0.05,
)  # fmt: skip
CONFLICT = Check(
    "conflicting labels", "rows",
    "Another pair of the same prompt and the same two answers prefers the other one: one of the two labels is wrong.",
    "Decide by reading, or drop both.", 0.0, 0.02,
)  # fmt: skip


def exact_duplicates(facts: Facts) -> tuple[CheckResult, Rows]:
    """Every occurrence of a row but the first."""
    _, first, group, times = np.unique(facts.row_key, return_index=True, return_inverse=True, return_counts=True)
    again = np.ones(len(facts), bool)
    again[first] = False
    rows = {
        int(row): (float(times[group[row]]), f"same as {facts.id_of(int(first[group[row]]))}")
        for row in np.flatnonzero(again)
    }
    plot = sizes("How often a repeated row occurs", "times", "rows", (int(n) for n in times[times > 1]))
    return DUPLICATE.result(facts, rows, plot=plot), rows


def conflicting_labels(facts: Facts) -> tuple[CheckResult, Rows]:
    """Pairs that another pair contradicts. Pairs whose sides are the same text contradict nothing."""
    order = np.argsort(facts.row_key, kind="stable")
    place = np.searchsorted(facts.row_key, facts.swapped_key, sorter=order)
    other = order[np.minimum(place, len(order) - 1)] if len(order) else order
    against = (facts.row_key[other] == facts.swapped_key) & ~facts.identical
    rows = {
        int(row): (None, f"the other way round in {facts.id_of(int(other[row]))}") for row in np.flatnonzero(against)
    }
    told = {"agree with the rest": float(len(facts) - len(rows)), "contradicted": float(len(rows))}
    plot = bars("Pairs that another pair contradicts", "label", "pairs", told, ["contradicted"])
    return CONFLICT.result(facts, rows, plot=plot), rows
