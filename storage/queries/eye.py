"""The trainer's eye: how the policies rank the pairs, and where the judges of a pair disagree."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

from storage.database import Database
from storage.queries.eye_conditions import JUDGES, LOOKS, SEEN, SEEN_AT, SEEN_LAST, judged, opinions
from storage.queries.page import Page, Row, known, known_sort

EYE_SORTS = {
    "margin-up": "lowest margin first",
    "margin": "widest margin first",
    "change-up": "what the training lost most first",
    "change": "what the training won most first",
    "before-up": "lowest margin under M_0 first",
    "before": "widest margin under M_0 first",
    "chosen": "chosen answer that became least likely first",
    "gap": "widest gap of the scorer first",
}
_KEYS = """CASE $sort
    WHEN 'margin-up' THEN margin
    WHEN 'margin' THEN -margin
    WHEN 'change-up' THEN margin - margin_0
    WHEN 'change' THEN margin_0 - margin
    WHEN 'before-up' THEN margin_0
    WHEN 'before' THEN -margin_0
    WHEN 'chosen' THEN logp_chosen - logp_chosen_0
    WHEN 'gap' THEN -gap
END"""
_KEPT = "($kept IS NULL OR kept = $kept)"
_PAIRS = "(SELECT pair_id, kept, gap, part, place FROM parts.pairs WHERE run_id = $run_id)"
_COUNTS = f"""
SELECT policy, any_value(beta) AS beta, any_value(gamma) AS gamma, count(*) AS pairs,
    {", ".join(f"count(*) FILTER ({condition}) AS {name.replace(' ', '_')}" for name, condition in LOOKS.items())},
    count(*) FILTER (margin_0 > 0) AS right_0, count(*) FILTER (margin_0 > gamma) AS satisfied_0,
    avg(margin) AS margin, avg(margin_0) AS margin_0,
    avg(logp_chosen) AS logp_chosen, avg(logp_rejected) AS logp_rejected,
    avg(logp_chosen_0) AS logp_chosen_0, avg(logp_rejected_0) AS logp_rejected_0
FROM ({SEEN}) JOIN {_PAIRS} USING (pair_id)
WHERE {_KEPT}
GROUP BY policy
ORDER BY policy
"""
_POINTS = f"""
SELECT pair_id, margin, margin_0, gap
FROM ({SEEN_AT}) JOIN {_PAIRS} USING (pair_id)
WHERE {_KEPT}
ORDER BY hash(pair_id)
LIMIT $limit
"""
# Both histograms share their bins; what lies outside the middle 99 % falls into the first and the last.
_BINS = f"""
WITH seen AS MATERIALIZED (
    SELECT margin, margin_0 FROM ({SEEN_AT}) JOIN {_PAIRS} USING (pair_id)
    WHERE {_KEPT} AND isfinite(margin) AND isfinite(margin_0)
), ends AS (
    SELECT least(quantile_cont(margin, 0.005), quantile_cont(margin_0, 0.005)) AS low,
        greatest(quantile_cont(margin, 0.995), quantile_cont(margin_0, 0.995)) AS high
    FROM seen
), widths AS (SELECT low, greatest((high - low) / $bins, 1e-9) AS width FROM ends)
SELECT any_value(low) + any_value(width) * bin AS left, any_value(width) AS width,
    count(*) FILTER (after) AS after, count(*) FILTER (NOT after) AS before
FROM (
    SELECT low, width, after, least($bins - 1, greatest(0, CAST(floor((value - low) / width) AS BIGINT))) AS bin
    FROM widths, (SELECT margin AS value, true AS after FROM seen UNION ALL SELECT margin_0, false FROM seen)
)
GROUP BY bin
ORDER BY bin
"""
_ROWS = f"""
WITH found AS MATERIALIZED (
    SELECT *, {_KEYS} AS key FROM ({SEEN_AT}) JOIN {_PAIRS} USING (pair_id)
    WHERE {_KEPT} AND ({{look}})
), page AS (
    SELECT *, (SELECT count(*) FROM found) AS total FROM found ORDER BY key NULLS LAST, pair_id
    LIMIT $limit OFFSET $offset
)
SELECT page.* EXCLUDE (part, place), texts.iteration, left(texts.prompt, $excerpt) AS prompt,
    left(texts.chosen, $excerpt) AS chosen, left(texts.rejected, $excerpt) AS rejected
FROM page JOIN parts.pairs AS texts USING (part, place)
ORDER BY key NULLS LAST, page.pair_id
"""
_TWO = list(combinations(JUDGES, 2))
_CELLS = ", ".join(
    f"count(*) FILTER ({one} = {a} AND {other} = {b}) AS {one}_{other}_{word}"
    for one, other in _TWO
    for word, a, b in (("both", 1, 1), ("first", 1, -1), ("second", -1, 1), ("neither", -1, -1))
)
_TIES = ", ".join(
    f"count(*) FILTER ({one} = 0 AND {other} IS NOT NULL OR {other} = 0 AND {one} IS NOT NULL) AS {one}_{other}_ties"
    for one, other in _TWO
)
_JUDGED = ", ".join(f"count({judge}) AS {judge}" for judge in JUDGES)
_AGREEMENT = "SELECT {columns} FROM ({opinions}) WHERE {kept} AND ($iteration IS NULL OR iteration = $iteration)"
_ROUNDS = "SELECT DISTINCT iteration FROM parts.pairs WHERE run_id = $run_id ORDER BY iteration"
_VALUES = {
    "label": "1",
    "scorer": "gap",
    "policy": "margin",
    "training": "(logp_chosen - logp_chosen_0) - (logp_rejected - logp_rejected_0)",
    "length": "len_chosen - len_rejected",
    "readers": "votes",
}


@dataclass(frozen=True, slots=True)
class EyeCount:
    """How one policy ranks the pairs it was asked about. Margins in reward units, log-probs in nats per token, means."""

    policy: int  # t of M_t
    beta: float
    gamma: float
    pairs: int
    satisfied: int  # margin > gamma
    short_of_gamma: int  # 0 < margin <= gamma
    ranked_wrongly: int  # margin <= 0
    learned: int  # wrong under M_0, right under M_t
    unlearned: int  # right under M_0, wrong under M_t
    right_before_and_after: int
    wrong_before_and_after: int
    chosen_less_likely: int  # under M_t than under M_0
    seen_by_the_policy: int
    right_0: int  # margin > 0 under M_0
    satisfied_0: int  # margin > gamma under M_0
    margin: float
    margin_0: float
    logp_chosen: float
    logp_rejected: float
    logp_chosen_0: float
    logp_rejected_0: float


@dataclass(frozen=True, slots=True)
class Cells:
    """How often two judges prefer which side of a pair. Pairs that only one of them judged are not counted."""

    one: str
    other: str
    both: int  # both prefer the chosen side
    first: int  # `one` prefers the chosen side, `other` the rejected one
    second: int  # the other way round
    neither: int  # both prefer the rejected side
    ties: int  # one of them prefers neither


def eye_counts(database: Database, run_id: str, *, kept: bool | None = True) -> list[EyeCount]:
    """How does each policy rank the pairs? `kept`: those it trained on, those it did not, or all of them."""
    return [EyeCount(**row) for row in database.rows(_COUNTS, {"run_id": run_id, "kept": kept})]


def eye_points(
    database: Database, run_id: str, policy: int, *, kept: bool | None = True, limit: int = 2_000
) -> list[Row]:
    """Pairs with their margins under M_0 and M_t, at most `limit`, always the same ones."""
    return database.rows(_POINTS, {"run_id": run_id, "policy": policy, "kept": kept, "limit": limit})


def eye_histogram(
    database: Database, run_id: str, policy: int, *, kept: bool | None = True, bins: int = 48
) -> list[Row]:
    """How are the margins spread? Rows of left, width, before (under M_0) and after (under M_t); empty bins left out."""
    return database.rows(_BINS, {"run_id": run_id, "policy": policy, "kept": kept, "bins": bins})


def eye_page(
    database: Database,
    run_id: str,
    policy: int,
    *,
    kept: bool | None = True,
    look: str = "seen by the policy",
    sort: str = "margin-up",
    limit: int = 20,
    offset: int = 0,
    excerpt: int = 160,
) -> Page:
    """Which pairs does M_t rank how? `look` is one of LOOKS. Texts are cut to `excerpt` characters."""
    which = {"run_id": run_id, "policy": policy, "kept": kept, "sort": known_sort(sort, EYE_SORTS)}
    sql = _ROWS.format(look=LOOKS[known(look, LOOKS, "view of the trainer")])
    rows = database.rows(sql, which | {"limit": limit, "offset": offset, "excerpt": excerpt})
    if rows or not offset:
        return Page(rows, rows[0]["total"] if rows else 0)
    first = database.rows(sql, which | {"limit": 1, "offset": 0, "excerpt": 0})
    return Page([], first[0]["total"] if first else 0)


def agreement_cells(
    database: Database,
    run_id: str,
    *,
    policy: int | None = None,
    iteration: int | None = None,
    kept: bool | None = None,
) -> tuple[list[Cells], dict[str, int]]:
    """How often do any two judges of the pairs agree? And how many pairs has each of them judged?

    `policy`: the round whose policy is asked (None: the latest that saw the pair). `iteration`: of the pairs.
    """
    columns = f"{_CELLS}, {_TIES}, {_JUDGED}"
    sql = _AGREEMENT.format(columns=columns, opinions=opinions(_seen(policy)), kept=_KEPT)
    which = _bound(run_id, policy) | {"iteration": iteration, "kept": kept}
    name, tables = ("agreement", policy, iteration, kept), ["pairs", "pair_logps", "notes"]
    (row,) = database.known(name, run_id, tables, lambda: database.pair_rows(run_id, sql, which))
    names = ("both", "first", "second", "neither", "ties")
    cells = [Cells(one, other, *(row[f"{one}_{other}_{name}"] for name in names)) for one, other in _TWO]
    return cells, {judge: row[judge] for judge in JUDGES}


def pair_rounds(database: Database, run_id: str) -> list[int]:
    """Which iterations have pairs?"""
    return [row["iteration"] for row in database.rows(_ROUNDS, {"run_id": run_id})]


def opinion_points(
    database: Database,
    run_id: str,
    one: str,
    other: str,
    *,
    policy: int | None = None,
    iteration: int | None = None,
    kept: bool | None = None,
    limit: int = 2_000,
) -> list[Row]:
    """Pairs with two judges' numbers, x and y, at most `limit`, always the same ones."""
    x, y = (_VALUES[known(judge, _VALUES, "judge")] for judge in (one, other))
    sql = f"""
    SELECT pair_id, CAST({x} AS DOUBLE) AS x, CAST({y} AS DOUBLE) AS y
    FROM {judged(_seen(policy))}
    WHERE {_KEPT} AND ($iteration IS NULL OR iteration = $iteration) AND isfinite(x) AND isfinite(y)
    ORDER BY hash(pair_id) LIMIT $limit
    """
    return database.rows(sql, _bound(run_id, policy) | {"iteration": iteration, "kept": kept, "limit": limit})


def _seen(policy: int | None) -> str:
    return SEEN_LAST if policy is None else SEEN_AT


def _bound(run_id: str, policy: int | None) -> dict[str, Any]:
    return {"run_id": run_id} | ({} if policy is None else {"policy": policy})
