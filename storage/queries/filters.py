"""What a filter keeps, asked of all stored pairs: the questions of the filter page.

Every answer comes from the columns held in memory (storage/narrow.py); texts are read only of rows that are shown.
`iteration` None: all of the run's.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from storage.database import Database
from storage.narrow import BINS, NUMBERS, over_texts
from storage.pair_filter import NOT_SAMPLED, REASONS, PairFilter, filter_sql, reason_code_sql
from storage.queries.excerpts import excerpts
from storage.queries.page import Page, Row
from storage.queries.runs import Step, prompts_lost

Answer = TypeVar("Answer")

MOST_KNOWN = 64  # answers kept of a run
_HERE = "($iteration IS NULL OR iteration = $iteration)"


@dataclass(frozen=True, slots=True)
class ThresholdCount:
    """What a filter makes of one iteration's pairs."""

    iteration: int
    pairs: int
    kept: int  # before sampling down to the pool's size
    kept_by_run: int  # what the run's own filter kept, before that sampling
    dropped: dict[str, int] = field(default_factory=dict)  # by the first rule that drops a pair

    def sampled(self, at_most: int | None) -> int:
        """How many of the kept a training reads of an iteration. None: all."""
        return self.kept if at_most is None else min(self.kept, at_most)


_REASONS = "SELECT iteration, {code} AS reason, count(*) AS pairs FROM parts.pairs GROUP BY ALL ORDER BY iteration"
_BY_RUN = f"""
SELECT iteration, count(*) FILTER (kept OR drop_reason = '{NOT_SAMPLED}') AS pairs FROM parts.pairs GROUP BY iteration
"""


def threshold_counts(database: Database, run_id: str, rules: PairFilter) -> list[ThresholdCount]:
    """How many pairs of each iteration would these rules keep, and which rule drops how many?"""
    counts: dict[int, dict[str | None, int]] = {}
    for row in _judged(database, run_id, _REASONS, rules):
        reason = None if row["reason"] is None else REASONS[row["reason"]]
        counts.setdefault(row["iteration"], {})[reason] = row["pairs"]
    by_run = _known(database, run_id, "kept by run", lambda: _kept_by_run(database, run_id))
    return [
        ThresholdCount(
            iteration=iteration,
            pairs=sum(reasons.values()),
            kept=reasons.get(None, 0),
            kept_by_run=by_run.get(iteration, 0),
            dropped={reason: count for reason, count in reasons.items() if reason is not None},
        )
        for iteration, reasons in counts.items()
    ]


def _kept_by_run(database: Database, run_id: str) -> dict[int, int]:
    return {row["iteration"]: row["pairs"] for row in database.pair_rows(run_id, _BY_RUN)}


def waterfall(
    database: Database,
    run_id: str,
    counts: Sequence[ThresholdCount],
    *,
    at_most: int | None,
    iteration: int | None = None,
) -> list[Step]:
    """Where do prompts and pairs get lost under rules, from those generated to the pairs trained on?

    `counts`: the rules' `threshold_counts`; `at_most`: what the kept pairs of an iteration are sampled down to, None
    where nothing is sampled.
    """
    counted = [row for row in counts if iteration in {None, row.iteration}]
    if not counted:
        return []
    left = sum(row.pairs for row in counted)
    steps = [*prompts_lost(database, run_id, iteration), Step("pairs", "paired", 0, left)]
    dropped = Counter({NOT_SAMPLED: sum(row.kept - row.sampled(at_most) for row in counted)})
    for row in counted:
        dropped.update(row.dropped)
    for reason in (*REASONS, NOT_SAMPLED):
        if dropped[reason]:
            left -= dropped[reason]
            steps.append(Step("pairs", reason, dropped[reason], left))
    return steps


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of a number in equal bins; bin i spans edges[i] (included) to edges[i + 1] (the last one: included)."""

    edges: list[float]  # empty when no pair has the number; of length_ratio: log2(len(chosen) / len(rejected))
    counts: list[int]
    kept: list[int]  # of these, how many the rules keep
    not_numbers: int  # pairs in no bin: without that number, or with an infinite one


_EVERY = "SELECT '{name}' AS name, bin_{name} AS bin, count(*) AS pairs FROM {source} GROUP BY bin_{name}"
_TOTALS = "\nUNION ALL ".join(_EVERY.format(name=name, source=f"parts.pairs WHERE {_HERE}") for name in NUMBERS)
_KEPT = f"""
WITH found AS MATERIALIZED (
    SELECT {", ".join(f"bin_{name}" for name in NUMBERS)} FROM parts.pairs WHERE {_HERE} AND ({{reason}}) IS NULL
)
{" UNION ALL ".join(_EVERY.format(name=name, source="found") for name in NUMBERS)}
"""


def histograms(
    database: Database, run_id: str, rules: PairFilter, iteration: int | None = None
) -> dict[str, Histogram]:
    """How are the numbers that the rules cut spread, and how many of each bin do the rules keep?

    By the name of the number: gap, chosen_score, length_ratio, repetition, similarity.
    """
    here = {"iteration": iteration}
    totals = _known(database, run_id, ("totals", iteration), lambda: _by_bin(database.pair_rows(run_id, _TOTALS, here)))
    kept = _by_bin(_judged(database, run_id, _KEPT, rules, here))
    scales = database.narrow_pairs(run_id).scales
    return {name: _histogram(scale.edges() if scale else [], totals, kept, name) for name, scale in scales.items()}


def _by_bin(rows: list[Row]) -> dict[tuple[str, int | None], int]:
    return {(row["name"], row["bin"]): row["pairs"] for row in rows}


def _histogram(
    edges: list[float], totals: dict[tuple[str, int | None], int], kept: dict[tuple[str, int | None], int], name: str
) -> Histogram:
    bins = range(BINS) if edges else ()
    return Histogram(
        edges=edges,
        counts=[totals.get((name, i), 0) for i in bins],
        kept=[kept.get((name, i), 0) for i in bins],
        not_numbers=totals.get((name, None), 0),
    )


@dataclass(frozen=True, slots=True)
class Effects:
    """What the pairs that a filter keeps are like; None where there are none to ask."""

    kept: int
    longer: float | None  # share whose chosen answer is the longer one
    length_ratio: float | None  # geometric mean of len(chosen) / len(rejected)
    similarity: float | None  # mean share of words the two sides have in common
    gap: float | None  # mean


_EFFECTS = f"""
SELECT count(*) AS kept, avg(CAST(len_chosen > len_rejected AS INTEGER)) AS longer,
    exp(avg(ln(len_chosen / len_rejected)) FILTER (len_chosen > 0 AND len_rejected > 0)) AS length_ratio,
    avg(similarity) FILTER (isfinite(similarity)) AS similarity, avg(gap) FILTER (isfinite(gap)) AS gap
FROM parts.pairs
WHERE {_HERE} AND ({{reason}}) IS NULL
"""


def effects(database: Database, run_id: str, rules: PairFilter, iteration: int | None = None) -> Effects:
    """What are the pairs like that these rules keep?"""

    def ask() -> Effects:
        (found,) = _judged(database, run_id, _EFFECTS, rules, {"iteration": iteration})
        return Effects(**found)

    # The filter others are compared with is asked for again with every move; verdicts come in at any time.
    return ask() if rules.verdicts else _known(database, run_id, ("effects", rules, iteration), ask)


_TOPICS = f"""
SELECT topic, any_value(label) AS label, count(*) AS pairs, count(*) FILTER (reason IS NULL) AS kept
FROM (SELECT prompt_id, {{reason}} AS reason FROM parts.pairs WHERE {_HERE})
JOIN (SELECT prompt_id, topic, label FROM topics WHERE run_id = $run_id) USING (prompt_id)
GROUP BY topic
ORDER BY pairs DESC, topic
LIMIT $limit
"""


def kept_by_topic(
    database: Database, run_id: str, rules: PairFilter, iteration: int | None = None, limit: int = 12
) -> list[Row]:
    """Of which topics do these rules keep how much? The largest topics; rows of topic, label, pairs, kept."""
    return _judged(database, run_id, _TOPICS, rules, {"run_id": run_id, "iteration": iteration, "limit": limit})


@dataclass(frozen=True, slots=True)
class Change:
    """What moving from one filter to another does."""

    added: int  # pairs the second keeps and the first did not
    removed: int  # pairs the first kept and the second does not


_BOTH = f"""
SELECT gap, pair_id, part, place, ({{before}}) AS before, ({{after}}) AS after
FROM parts.pairs
WHERE {_HERE}
"""
_CHANGE = f"""
SELECT count(*) FILTER (before IS NOT NULL AND after IS NULL) AS added,
    count(*) FILTER (before IS NULL AND after IS NOT NULL) AS removed
FROM ({_BOTH})
"""
_CHANGED_PLACES = f"""
SELECT part, place, before AS dropped_before, after AS dropped_after, after IS NULL AS kept_after
FROM ({_BOTH})
WHERE (before IS NULL) <> (after IS NULL)
ORDER BY {{order}}, pair_id
LIMIT $limit OFFSET $offset
"""
# NaN is above every number in DuckDB; pairs without a score come last, whatever the order.
_WIDEST = "CASE WHEN isnan(gap) THEN NULL ELSE gap END DESC NULLS LAST"


def changed_counts(
    database: Database, run_id: str, before: PairFilter, after: PairFilter, iteration: int | None = None
) -> Change:
    """How many pairs come in and go out when one filter takes the place of another?"""
    (found,) = _compared(database, run_id, _CHANGE, before, after, {"iteration": iteration})
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
    change = changed_counts(database, run_id, before, after, iteration)
    which = {"iteration": iteration, "limit": limit, "offset": offset}
    places = _compared(database, run_id, _CHANGED_PLACES.replace("{order}", _WIDEST), before, after, which)
    names = ("dropped_before", "dropped_after", "kept_after")
    fates = ({name: place[name] for name in names} for place in places)
    rows = excerpts(database, places, excerpt)
    return Page([row | fate for row, fate in zip(rows, fates, strict=True)], change.added + change.removed)


_FATE = f"SELECT part, place, pair_id, gap FROM parts.pairs WHERE {_HERE} AND ({{reason}}) IS NOT DISTINCT FROM $fate"
_FATE_COUNT = f"SELECT count(*) AS total FROM ({_FATE})"
_FATE_PLACES = f"SELECT part, place FROM ({_FATE}) ORDER BY {_WIDEST}, pair_id LIMIT $limit OFFSET $offset"
_FATE_SAMPLE = f"SELECT part, place FROM ({_FATE}) ORDER BY hash(pair_id), pair_id LIMIT $limit"


def rows_of_fate(
    database: Database,
    run_id: str,
    rules: PairFilter,
    reason: str | None,
    *,
    iteration: int | None = None,
    limit: int = 20,
    offset: int = 0,
    excerpt: int = 200,
) -> Page:
    """Which pairs does a rule drop (None: which are kept)? Widest gap first, texts cut short."""
    which = {"iteration": iteration, "fate": reason}
    (counted,) = _judged(database, run_id, _FATE_COUNT, rules, which)
    places = _judged(database, run_id, _FATE_PLACES, rules, which | {"limit": limit, "offset": offset})
    return Page(excerpts(database, places, excerpt), counted["total"])


def sampled_answers(
    database: Database, run_id: str, rules: PairFilter, iteration: int | None = None, limit: int = 200
) -> list[str]:
    """The chosen answers of some pairs that the rules keep: always the same ones, in an order that means nothing."""
    which = {"iteration": iteration, "fate": None, "limit": limit}
    places = _judged(database, run_id, _FATE_SAMPLE, rules, which)
    return [row["chosen"] for row in excerpts(database, places, 4_000)]


def _judged(
    database: Database, run_id: str, sql: str, rules: PairFilter, which: dict[str, Any] | None = None
) -> list[Row]:
    """The rows of a query in which {reason} stands for what the filter says of a pair, {code} for that as a number."""
    condition = "meets" if over_texts(rules) else None
    asked = sql.replace("{code}", reason_code_sql(rules, condition=condition))
    asked = asked.replace("{reason}", filter_sql(rules, condition=condition))
    return database.pair_rows(run_id, asked, (which or {}) | rules.bound(), rules)


def _compared(
    database: Database, run_id: str, sql: str, before: PairFilter, after: PairFilter, which: dict[str, Any]
) -> list[Row]:
    """The rows of a query in which {before} and {after} stand for what two filters say of a pair."""
    # One condition over texts at a time is held; when both filters have one, and not the same, texts are read.
    texts = {over_texts(rules) for rules in (before, after)} - {None}
    held = "meets" if len(texts) == 1 else None

    def told(rules: PairFilter, prefix: str) -> str:
        return filter_sql(rules, prefix, condition=held if over_texts(rules) else None)

    asked = sql.replace("{before}", told(before, "before_")).replace("{after}", told(after, "after_"))
    bound = which | before.bound("before_") | after.bound("after_")
    if len(texts) > 1:
        return database.rows(asked.replace(_HERE, f"run_id = $run_id AND {_HERE}"), bound | {"run_id": run_id})
    return database.pair_rows(run_id, asked, bound, before if over_texts(before) else after)


def _known(database: Database, run_id: str, name: object, ask: Callable[[], Answer]) -> Answer:
    """What `ask()` gives, asked once as long as the run's pairs are the same."""
    known = database.narrow_pairs(run_id).known
    if name in known:
        found: Answer = known[name]
        return found
    answer = ask()
    if len(known) >= MOST_KNOWN:
        known.clear()
    known[name] = answer
    return answer
