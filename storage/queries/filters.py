"""What a filter keeps, asked of all stored pairs: the questions of the filter page."""

from dataclasses import dataclass, field

from storage.database import Database
from storage.pair_filter import PairFilter, filter_sql
from storage.queries.excerpts import excerpts
from storage.queries.page import Page


@dataclass(frozen=True, slots=True)
class ThresholdCount:
    """What a filter makes of one iteration's pairs."""

    iteration: int
    pairs: int
    kept: int
    kept_by_run: int  # what the run's own filter kept, before sampling down to the pool's size
    dropped: dict[str, int] = field(default_factory=dict)  # by the first rule that drops a pair


_THRESHOLD_COUNTS = """
SELECT iteration, {reason} AS reason, count(*) AS pairs,
    count(*) FILTER (kept OR drop_reason = 'not sampled') AS kept_by_run
FROM pairs
WHERE run_id = $run_id
GROUP BY ALL
ORDER BY iteration
"""


def threshold_counts(database: Database, run_id: str, rules: PairFilter) -> list[ThresholdCount]:
    """How many pairs of each iteration would these rules keep, and which rule drops how many?"""
    counts: dict[int, dict[str | None, int]] = {}
    by_run: dict[int, int] = {}
    sql = _THRESHOLD_COUNTS.format(reason=filter_sql(rules))
    for row in database.rows(sql, {"run_id": run_id, **rules.bound()}):
        counts.setdefault(row["iteration"], {})[row["reason"]] = row["pairs"]
        by_run[row["iteration"]] = by_run.get(row["iteration"], 0) + row["kept_by_run"]
    return [
        ThresholdCount(
            iteration=iteration,
            pairs=sum(reasons.values()),
            kept=reasons.get(None, 0),
            kept_by_run=by_run[iteration],
            dropped={reason: count for reason, count in reasons.items() if reason is not None},
        )
        for iteration, reasons in counts.items()
    ]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of gaps in equal bins; bin i spans edges[i] (included) to edges[i + 1] (the last one: included)."""

    edges: list[float]
    counts: list[int]
    kept: list[int]  # of these, how many the run kept
    not_numbers: int  # pairs whose gap is infinite or no number, in no bin


# The division may land one bin beside the edges that are returned; a gap is where those say.
_GAP_BINS = """
WITH gaps AS MATERIALIZED (
    SELECT gap, kept FROM pairs WHERE run_id = $run_id AND ($iteration IS NULL OR iteration = $iteration)
), bounds AS (
    SELECT min(gap) AS low, coalesce(nullif((max(gap) - min(gap)) / $bins, 0), 1 / $bins) AS width
    FROM gaps
    WHERE isfinite(gap)
), guessed AS (
    SELECT gap, kept, low, width, CAST(floor((gap - low) / width) AS BIGINT) AS guess
    FROM gaps, bounds
    WHERE isfinite(gap)
)
SELECT greatest(0, least($bins - 1, guess + CASE
        WHEN gap < low + guess * width THEN -1
        WHEN gap >= low + (guess + 1) * width THEN 1
        ELSE 0
    END)) AS bin,
    count(*) AS pairs, count(*) FILTER (kept) AS kept, any_value(low) AS low, any_value(width) AS width
FROM guessed
GROUP BY bin
UNION ALL
SELECT NULL, count(*), 0, NULL, NULL FROM gaps WHERE NOT isfinite(gap)
"""


def gap_histogram(database: Database, run_id: str, iteration: int | None = None, bins: int = 40) -> Histogram:
    """How are the gaps spread, in one iteration or all?"""
    rows = database.rows(_GAP_BINS, {"run_id": run_id, "iteration": iteration, "bins": bins})
    by_bin = {row["bin"]: row for row in rows}
    not_numbers = by_bin.pop(None)["pairs"]
    if not by_bin:
        return Histogram([], [], [], not_numbers)
    low, width = next((row["low"], row["width"]) for row in by_bin.values())
    empty = {"pairs": 0, "kept": 0}
    return Histogram(
        edges=[low + i * width for i in range(bins + 1)],
        counts=[by_bin.get(i, empty)["pairs"] for i in range(bins)],
        kept=[by_bin.get(i, empty)["kept"] for i in range(bins)],
        not_numbers=not_numbers,
    )


@dataclass(frozen=True, slots=True)
class Change:
    """What moving from one filter to another does."""

    added: int  # pairs the second keeps and the first did not
    removed: int  # pairs the first kept and the second does not


_BOTH = """
SELECT gap, pair_id, part, place, ({before}) AS before, ({after}) AS after
FROM parts.pairs
WHERE run_id = $run_id AND ($iteration IS NULL OR iteration = $iteration)
"""
_CHANGE = f"""
SELECT count(*) FILTER (before IS NOT NULL AND after IS NULL) AS added,
    count(*) FILTER (before IS NULL AND after IS NOT NULL) AS removed
FROM ({_BOTH})
"""
_CHANGED_PLACES = f"""
WITH changed AS MATERIALIZED (SELECT * FROM ({_BOTH}) WHERE (before IS NULL) <> (after IS NULL))
SELECT part, place, before AS dropped_before, after AS dropped_after, after IS NULL AS kept_after,
    (SELECT count(*) FROM changed) AS total
FROM changed
ORDER BY gap DESC, pair_id
LIMIT $limit OFFSET $offset
"""


def changed_counts(
    database: Database, run_id: str, before: PairFilter, after: PairFilter, iteration: int | None = None
) -> Change:
    """How many pairs come in and go out when one filter takes the place of another?"""
    which = {"run_id": run_id, "iteration": iteration, **before.bound("before_"), **after.bound("after_")}
    found = database.row(_both(_CHANGE, before, after), which) or {"added": 0, "removed": 0}
    return Change(**found)


def changed_rows(
    database: Database,
    run_id: str,
    before: PairFilter,
    after: PairFilter,
    *,
    iteration: int | None = None,
    limit: int = 20,
    offset: int = 0,
    excerpt: int = 200,
) -> Page:
    """Which pairs come in or go out when one filter takes the place of another? Widest gap first, texts cut short.

    Beside a pair's columns, `dropped_before` and `dropped_after`: the rule that drops it, None where it is kept; and
    `kept_after`.
    """
    which = {"run_id": run_id, "iteration": iteration, **before.bound("before_"), **after.bound("after_")}
    places = database.rows(_both(_CHANGED_PLACES, before, after), which | {"limit": limit, "offset": offset})
    if not places:
        change = changed_counts(database, run_id, before, after, iteration)
        return Page([], change.added + change.removed)
    names = ("dropped_before", "dropped_after", "kept_after")
    fates = ({name: place[name] for name in names} for place in places)
    rows = excerpts(database, places, excerpt)
    return Page([row | fate for row, fate in zip(rows, fates, strict=True)], places[0]["total"])


def _both(sql: str, before: PairFilter, after: PairFilter) -> str:
    return sql.format(before=filter_sql(before, "before_"), after=filter_sql(after, "after_"))
