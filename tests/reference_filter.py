"""The rules of the filter once more, in plain Python: what the SQL of storage/pair_filter.py is tested against.

Verdicts and the free condition have no second implementation; they are tested by example.
"""

import math

from synpo_lab.config import FilterConfig
from synpo_lab.records import Pair


def drop_reason(pair: Pair, rules: FilterConfig) -> str | None:
    """The first rule that refuses the pair, None if it is kept."""
    if _lacks(pair.gap, rules.min_gap, rules.max_gap) or _lacks(pair.chosen_score, rules.min_chosen_score):
        return "no score"
    refusals = [
        (rules.min_gap is not None and not pair.gap > rules.min_gap, "gap"),
        (rules.max_gap is not None and pair.gap > rules.max_gap, "gap"),
        (rules.min_chosen_score is not None and pair.chosen_score < rules.min_chosen_score, "chosen score"),
        (above(pair.len_chosen, rules.max_length_ratio, pair.len_rejected), "length"),
        (rules.min_length_ratio is not None and pair.len_chosen < rules.min_length_ratio * pair.len_rejected, "length"),
        (above(pair.repetition, rules.max_repetition), "repetition"),
        (above(pair.similarity, rules.max_similarity), "similarity"),
        (rules.drop_duplicates and pair.duplicate, "duplicate"),
    ]
    return next((reason for refused, reason in refusals if refused), None)


def above(value: float | None, most: float | None, unit: float = 1.0) -> bool:
    return most is not None and value is not None and value > most * unit


def _lacks(value: float | None, *rules: float | None) -> bool:
    return any(rule is not None for rule in rules) and (value is None or math.isnan(value))
