"""The orders pairs can be read in: for each a key, ascending, with what it is computed from."""

from dataclasses import dataclass

from storage.queries.eye_conditions import MARGINS

_MARGINS = f"LEFT JOIN ({MARGINS}) USING (pair_id)"
_USUAL = """CROSS JOIN (
    SELECT avg(abs(gap)) AS usual_gap FROM parts.pairs WHERE run_id = $run_id AND isfinite(gap)
)"""

# What three judges think of a pair, each from -1 (the rejected answer is better) to 1: the scorer by its gap, one that
# only looks at length, and the trained policy by its margin. Half way at the usual gap, a third longer, and gamma.
OPINIONS = """[
    gap / nullif(abs(gap) + usual_gap, 0),
    (len_chosen - len_rejected) / nullif(len_chosen + len_rejected, 0),
    margin / nullif(abs(margin) + gamma, 0)
]"""
# Rounded: the mean of many numbers may differ in its last digit from one asking to the next, and with it the order.
DISAGREEMENT = f"round(list_max({OPINIONS}) - list_min({OPINIONS}), 9)"


@dataclass(frozen=True, slots=True)
class Order:
    words: str  # what a reader chooses
    key: str  # SQL over a row of `pairs` joined to `joins`; smallest first, no value last
    joins: str = ""


ORDERS = {
    "gap": Order("widest gap first", "-gap"),
    "gap-up": Order("narrowest gap first", "gap"),
    "chosen-score": Order("best chosen answer first", "-chosen_score"),
    "chosen-score-up": Order("worst chosen answer first", "chosen_score"),
    "rejected-score": Order("best rejected answer first", "-rejected_score"),
    "margin": Order("widest margin of the policy first", "-margin", _MARGINS),
    "margin-up": Order("ranked most wrongly by the policy first", "margin", _MARGINS),
    "disagreement": Order("scorer, length and policy disagree most", f"-({DISAGREEMENT})", _MARGINS + _USUAL),
    "length-ratio": Order("highest length ratio first", "-(len_chosen / greatest(len_rejected, 1))"),
    "length-change": Order("chosen answer longer by most first", "len_rejected - len_chosen"),
    "length-change-up": Order("chosen answer shorter by most first", "len_chosen - len_rejected"),
    "repetition": Order("most repetitive chosen answer first", "-repetition"),
    "similarity": Order("most alike sides first", "-similarity"),
    "similarity-up": Order("least alike sides first", "similarity"),
    "given": Order("in the order they are named in", "list_position($ids, pair_id)"),
    "telling": Order("the twenty that tell most", "list_position($ids, pair_id)"),  # ids: `telling.telling_pairs`
    "shuffled": Order("shuffled, always the same", "CAST(hash(pair_id) AS DOUBLE)"),
}
PAIR_SORTS = {name: order.words for name, order in ORDERS.items()}


def key_sql(sort: str, *, named: bool = False) -> str:
    """The key of an order as a number that is never missing: no value is NaN, which DuckDB puts above all others.

    `named`: $ids is bound. Without it pairs "in the order they are named in" have none.
    """
    key = ORDERS[sort].key
    return "'nan'::DOUBLE" if "$ids" in key and not named else f"coalesce(CAST({key} AS DOUBLE), 'nan'::DOUBLE)"


def source_sql(sort: str) -> str:
    """What `key_sql` and a `PairQuery` read from: one row a pair, with `part` and `place`."""
    return f"parts.pairs {ORDERS[sort].joins}"
