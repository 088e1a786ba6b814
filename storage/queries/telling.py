"""The twenty pairs that tell most: what to read of a set of pairs when there is time for twenty.

In this order, each pair once (under the first that names it), ties by id, so that the same pairs are always named:

    4  nearest to the cut: the gaps where the filter decides, on either side
    2  widest gap, 2 narrowest gap
    1  chosen answer longest against the rejected one, 1 shortest
    4  scorer, length and trained policy disagree most (`pair_order.DISAGREEMENT`, at least 0.5 of 2)
    6  typical: of each of the six largest topics the pair whose prompt lies nearest the topic's centre on the map, which
       is its medoid under squared distance; without topics, of the groups by gap (above or below the middle), longer
       answer and similarity (above or below the middle), the pair nearest the mean of length change and similarity

Where a kind has too few pairs (no scores, no training, few topics), the next ones of the others take their places, the
least alike and the most repetitive ones among them.
"""

from dataclasses import dataclass
from typing import Any

from storage.database import Database
from storage.queries.page import Row
from storage.queries.pair_order import DISAGREEMENT, ORDERS
from storage.queries.pair_query import PairQuery, matching_rows

TWENTY = 20
QUOTAS = {"cut": 4, "widest": 2, "narrowest": 2, "longer": 1, "shorter": 1, "disagreement": 4, "typical": 6}
QUOTAS |= {"unlike": 0, "repetitive": 0}  # only to fill up


@dataclass(frozen=True, slots=True)
class Pick:
    """Why a pair was picked: a key of QUOTAS, the number it was picked by, and the topic or group it stands for."""

    pair_id: str
    kind: str
    value: float
    group: str = ""


_CUT = "SELECT TRY_CAST(config->>'$.filter.min_gap' AS DOUBLE) AS cut FROM runs WHERE run_id = $run_id"


def _candidates(kind: str, value: str, order: str, where: str = "true") -> str:
    return f"""(SELECT '{kind}' AS kind, pair_id, CAST({value} AS DOUBLE) AS value, '' AS label,
    row_number() OVER () AS place
FROM (SELECT * FROM found WHERE {where} ORDER BY {order}, pair_id LIMIT {TWENTY}))"""


_PICKED = f"""
WITH found AS MATERIALIZED (
    SELECT pair_id, prompt_id, gap, similarity, repetition, len_chosen - len_rejected AS longer,
        {DISAGREEMENT} AS disagreement
    FROM parts.pairs {ORDERS["disagreement"].joins}
    WHERE {{matches}}
), placed AS (
    SELECT pair_id, topic, label, x, y
    FROM found JOIN (SELECT prompt_id, topic, label, x, y FROM topics WHERE run_id = $run_id) USING (prompt_id)
), centres AS (
    SELECT topic, any_value(label) AS label, avg(x) AS x, avg(y) AS y, count(*) AS pairs FROM placed GROUP BY topic
), medoids AS (
    SELECT topic, centres.label, pairs, arg_min(pair_id, ((placed.x - centres.x) ** 2 + (placed.y - centres.y) ** 2,
        pair_id)) AS pair_id
    FROM placed JOIN centres USING (topic)
    GROUP BY ALL
), middle AS (
    SELECT median(gap) FILTER (isfinite(gap)) AS gap, median(similarity) AS alike,
        greatest(stddev_pop(longer), 1) AS spread_longer, greatest(stddev_pop(similarity), 1e-9) AS spread_alike
    FROM found
), grouped AS (
    SELECT pair_id, longer / spread_longer AS u, coalesce(similarity, 0) / coalesce(spread_alike, 1) AS v,
        CASE WHEN found.gap > middle.gap THEN 'wider gap, ' WHEN isfinite(found.gap) THEN 'narrower gap, ' ELSE '' END
            || if(longer > 0, 'chosen longer', 'chosen not longer')
            || CASE WHEN similarity > alike THEN ', more alike' WHEN similarity <= alike THEN ', less alike' ELSE '' END
            AS label
    FROM found, middle
    WHERE NOT EXISTS (FROM centres)
), means AS (
    SELECT label, avg(u) AS u, avg(v) AS v, count(*) AS pairs FROM grouped GROUP BY label
), groups AS (
    SELECT label, pairs,
        arg_min(pair_id, ((grouped.u - means.u) ** 2 + (grouped.v - means.v) ** 2, pair_id)) AS pair_id
    FROM grouped JOIN means USING (label)
    GROUP BY ALL
), typical AS (
    SELECT pair_id, pairs, label FROM medoids UNION ALL SELECT pair_id, pairs, label FROM groups
)
{_candidates("cut", "gap", "abs(gap - $cut)", "isfinite(gap)")}
UNION ALL {_candidates("widest", "gap", "gap DESC", "isfinite(gap)")}
UNION ALL {_candidates("narrowest", "gap", "gap", "isfinite(gap)")}
UNION ALL {_candidates("longer", "longer", "longer DESC", "longer > 0")}
UNION ALL {_candidates("shorter", "-longer", "longer", "longer < 0")}
UNION ALL {_candidates("unlike", "similarity", "similarity", "similarity IS NOT NULL")}
UNION ALL {_candidates("repetitive", "repetition", "repetition DESC", "repetition > 0.1")}
UNION ALL {_candidates("disagreement", "disagreement", "disagreement DESC", "disagreement >= 0.5")}
UNION ALL (
    SELECT 'typical', pair_id, pairs, label, row_number() OVER (ORDER BY pairs DESC, label, pair_id)
    FROM typical ORDER BY pairs DESC, label, pair_id LIMIT {TWENTY}
)
ORDER BY kind, place
"""


def telling_pairs(database: Database, run_id: str, query: PairQuery) -> list[Pick]:
    """Which twenty of these pairs tell most, and why each? Asked once as long as what it is read from is the same."""
    cut, tables = _cut(database, run_id, query), {*query.tables(), "pair_logps", "topics"}
    return database.known(("telling", query, cut), run_id, sorted(tables), lambda: _picks(database, run_id, query, cut))


def _picks(database: Database, run_id: str, query: PairQuery, cut: float) -> list[Pick]:
    rows = matching_rows(database, run_id, query, _PICKED, {"cut": cut})
    waiting = {kind: [row for row in rows if row["kind"] == kind] for kind in QUOTAS}
    chosen: dict[str, Row] = {}
    for kind, quota in QUOTAS.items():
        _take(waiting[kind], quota, chosen)
    while len(chosen) < TWENTY and any(waiting.values()):
        for kind in QUOTAS:
            _take(waiting[kind], min(1, TWENTY - len(chosen)), chosen)
    picks = [Pick(pair_id, row["kind"], row["value"], row["label"]) for pair_id, row in chosen.items()]
    return sorted(picks, key=lambda pick: list(QUOTAS).index(pick.kind))


def _take(waiting: list[Row], number: int, chosen: dict[str, Row]) -> None:
    while number and waiting:
        row: dict[str, Any] = waiting.pop(0)
        if row["pair_id"] not in chosen:
            chosen[row["pair_id"]] = row
            number -= 1


def _cut(database: Database, run_id: str, query: PairQuery) -> float:
    """Where the filter decides: the query's own, else the run's, else 0."""
    if query.rules is not None and query.rules.min_gap is not None:
        return query.rules.min_gap
    found = database.row(_CUT, {"run_id": run_id}) or {}
    return float(found.get("cut") or 0.0)
