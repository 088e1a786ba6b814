"""Runs: the list, one run iteration by iteration, and several against each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from storage.database import Database
from storage.pair_filter import NOT_SAMPLED, REASONS
from storage.queries.page import Page, Row

VALIDATION = "validation"  # the suite that chooses beta: seeds, not held-out prompts


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run of the list."""

    run_id: str
    title: str
    recipe: str
    state: str
    message: str
    created_at: datetime  # UTC
    since: datetime  # UTC; since when it is in this state
    policy: str
    scorer: str
    seed: int | None
    iterations: int | None
    config: str  # JSON


@dataclass(frozen=True, slots=True)
class IterationOverview:
    """One iteration in numbers; None where there is nothing to average."""

    iteration: int
    prompts_generated: int
    prompts_kept: int
    pairs: int
    pairs_kept: int
    mean_gap: float | None  # of all pairs
    mean_gap_kept: float | None
    mean_initial: float | None  # total score, over the prompts that have a pair in this iteration
    mean_draft: float | None
    mean_improved: float | None
    mean_policy: float | None  # total score on the evaluation prompts
    mean_opponent: float | None
    win_rate: float | None  # 0 to 1, a tie is half a win
    n: int  # comparisons
    ties: int
    length_ratio: float | None  # mean length of the policy's answers over the opponent's


@dataclass(frozen=True, slots=True)
class WinRate:
    """One point of a win-rate curve: one model against one other, in one judge's eyes."""

    run_id: str
    iteration: int
    suite: str
    model_a: str  # the policy under test
    model_b: str  # its opponent
    annotator: str  # who judged; "" for the run's scorer
    win_rate: float
    n: int  # comparisons
    ties: int
    mean_policy: float
    mean_opponent: float


@dataclass(frozen=True, slots=True)
class Step:
    """One bar of the attrition waterfall."""

    what: str  # "prompts" or "pairs"
    reason: str  # "generated" or "paired" for the bar things start from, else the drop reason
    dropped: int
    left: int


_RUNS = """
SELECT run_id, title, recipe, state, message, created_at, since, policy, scorer, seed, iterations,
    CAST(config AS VARCHAR) AS config
FROM runs
ORDER BY created_at DESC, run_id
"""
_SUITES = """
SELECT suite, count(*) AS results FROM evals WHERE run_id = $run_id GROUP BY suite ORDER BY suite = $validation, suite
"""
_OVERVIEW = """
WITH answers AS MATERIALIZED (
    SELECT iteration, response_id, prompt_id, role
    FROM responses
    WHERE run_id = $run_id AND role IN ('initial', 'draft', 'improved')
), made AS (
    SELECT iteration, count(*) AS prompts_generated, count(*) FILTER (status = 'kept') AS prompts_kept
    FROM prompts
    WHERE run_id = $run_id AND status <> 'held-out'
    GROUP BY iteration
), paired AS (
    SELECT iteration, count(*) AS pairs, count(*) FILTER (kept) AS pairs_kept, avg(gap) AS mean_gap,
        avg(gap) FILTER (kept) AS mean_gap_kept
    FROM pairs
    WHERE run_id = $run_id
    GROUP BY iteration
), totals AS (
    SELECT response_id, any_value(value) AS value
    FROM scores
    WHERE run_id = $run_id AND aspect = 'total' AND response_id IN (SELECT response_id FROM answers)
    GROUP BY response_id
), answered AS (
    SELECT iteration,
        avg(value) FILTER (role = 'initial') AS mean_initial,
        avg(value) FILTER (role = 'draft') AS mean_draft,
        avg(value) FILTER (role = 'improved') AS mean_improved
    FROM answers
    JOIN totals USING (response_id)
    WHERE (iteration, prompt_id) IN (
        SELECT (iteration, prompt_id) FROM pairs WHERE run_id = $run_id
    )
    GROUP BY iteration
), tested AS (
    SELECT iteration, avg(score_a) AS mean_policy, avg(score_b) AS mean_opponent,
        avg(CASE winner WHEN 'a' THEN 1 WHEN 'tie' THEN 0.5 ELSE 0 END) AS win_rate,
        count(*) AS n, count(*) FILTER (winner = 'tie') AS ties,
        sum(len_a) / nullif(sum(len_b), 0) AS length_ratio
    FROM evals
    WHERE run_id = $run_id AND suite = $suite
    GROUP BY iteration
    HAVING count(DISTINCT (model_a, model_b, annotator)) = 1  -- annotations may be about several models: no rate is theirs
), every AS (
    SELECT iteration FROM made UNION SELECT iteration FROM paired UNION SELECT iteration FROM tested
)
SELECT iteration, coalesce(prompts_generated, 0) AS prompts_generated, coalesce(prompts_kept, 0) AS prompts_kept,
    coalesce(pairs, 0) AS pairs, coalesce(pairs_kept, 0) AS pairs_kept, mean_gap, mean_gap_kept,
    mean_initial, mean_draft, mean_improved, mean_policy, mean_opponent, win_rate, coalesce(n, 0) AS n, coalesce(ties, 0) AS ties,
    length_ratio
FROM every
LEFT JOIN made USING (iteration)
LEFT JOIN paired USING (iteration)
LEFT JOIN answered USING (iteration)
LEFT JOIN tested USING (iteration)
ORDER BY iteration
"""
_OVERVIEWED = ["prompts", "pairs", "responses", "scores", "evals"]
_WIN_RATES = """
SELECT run_id, iteration, suite, model_a, model_b, annotator,
    avg(CASE winner WHEN 'a' THEN 1 WHEN 'tie' THEN 0.5 ELSE 0 END) AS win_rate,
    count(*) AS n, count(*) FILTER (winner = 'tie') AS ties,
    avg(score_a) AS mean_policy, avg(score_b) AS mean_opponent
FROM evals
WHERE ($run_ids IS NULL OR list_contains($run_ids, run_id))
    AND (suite = $suite OR ($suite IS NULL AND suite <> $validation))
GROUP BY run_id, iteration, suite, model_a, model_b, annotator
ORDER BY run_id, suite, iteration, model_a, model_b, annotator
"""
_ASPECTS = """
SELECT r.iteration, r.role, s.aspect, avg(s.value) AS mean, count(*) AS answers
FROM responses AS r
JOIN scores AS s ON s.run_id = $run_id AND s.response_id = r.response_id
WHERE r.run_id = $run_id AND (r.role = 'eval' OR (r.iteration, r.prompt_id) IN (
    SELECT (iteration, prompt_id) FROM pairs WHERE run_id = $run_id
)) AND NOT contains(r.model, '-beta=')
GROUP BY r.iteration, r.role, s.aspect
ORDER BY r.iteration, array_position(['gold', 'initial', 'draft', 'improved', 'candidate', 'eval'], r.role), s.aspect
"""
_PROMPTS_LOST = """
SELECT coalesce(drop_reason, status) AS reason, count(*) AS n
FROM prompts
WHERE run_id = $run_id AND status <> 'held-out' AND ($iteration IS NULL OR iteration = $iteration)
GROUP BY reason
ORDER BY list_position(['malformed', 'invalid', 'evaluation', 'seed', 'duplicate'], reason) NULLS LAST, reason
"""
_PAIRS_LOST = """
SELECT coalesce(drop_reason, 'kept') AS reason, count(*) AS n
FROM pairs
WHERE run_id = $run_id AND ($iteration IS NULL OR iteration = $iteration)
GROUP BY reason
ORDER BY list_position($order, reason) NULLS LAST, reason
"""
_EVENTS = """
SELECT events.at AS at, stage, iteration, done, total, message, level
FROM events
WHERE run_id = $run_id AND ($level IS NULL OR level = $level)
ORDER BY events.at DESC
LIMIT $limit OFFSET $offset
"""
_EVENT_COUNT = "SELECT count(*) AS n FROM events WHERE run_id = $run_id AND ($level IS NULL OR level = $level)"


def list_runs(database: Database) -> list[RunSummary]:
    """Which runs are there? The latest made first."""
    return [RunSummary(**row) for row in database.rows(_RUNS)]


def suites(database: Database, run_id: str) -> list[str]:
    """Which sets of prompts was the policy tested on? Held-out suites first, "validation" last."""
    return [row["suite"] for row in database.rows(_SUITES, {"run_id": run_id, "validation": VALIDATION})]


def run_overview(database: Database, run_id: str, suite: str | None = None) -> list[IterationOverview]:
    """How did the run go, iteration by iteration? Tested on `suite`, or on its first held-out suite."""
    if suite is None:
        suite = next((name for name in suites(database, run_id) if name != VALIDATION), "")
    which = {"run_id": run_id, "suite": suite}
    rows = database.known(("overview", suite), run_id, _OVERVIEWED, lambda: database.rows(_OVERVIEW, which))
    return [IterationOverview(**row) for row in rows]


def win_rate_curve(database: Database, run_ids: Sequence[str] | None = None, suite: str | None = None) -> list[WinRate]:
    """How does the win rate move over iterations? `run_ids` None: all runs; `suite` None: every held-out suite."""
    wanted = None if run_ids is None else list(run_ids)
    rows = database.rows(_WIN_RATES, {"run_ids": wanted, "suite": suite, "validation": VALIDATION})
    return [WinRate(**row) for row in rows]


def aspect_means(database: Database, run_id: str) -> list[Row]:
    """Which aspect of the answers gets better? Rows of iteration, role, aspect, mean and answers."""
    return database.rows(_ASPECTS, {"run_id": run_id})


def attrition(database: Database, run_id: str, iteration: int | None = None) -> list[Step]:
    """Where do prompts and pairs get lost? From those generated to the pairs trained on."""
    which = {"run_id": run_id, "iteration": iteration, "order": [*REASONS, NOT_SAMPLED]}
    return [
        *prompts_lost(database, run_id, iteration),
        *_waterfall("pairs", "paired", database.rows(_PAIRS_LOST, which)),
    ]


def prompts_lost(database: Database, run_id: str, iteration: int | None = None) -> list[Step]:
    """Where do prompts get lost, from those generated to those answered? Nothing where none were generated."""
    rows = database.rows(_PROMPTS_LOST, {"run_id": run_id, "iteration": iteration})
    return _waterfall("prompts", "generated", rows)


def events_page(
    database: Database, run_id: str, *, level: str | None = None, limit: int = 100, offset: int = 0
) -> Page:
    """What happened in a run? The latest first."""
    which = {"run_id": run_id, "level": level}
    found = database.row(_EVENT_COUNT, which)
    return Page(database.rows(_EVENTS, which | {"limit": limit, "offset": offset}), found["n"] if found else 0)


def _waterfall(what: str, first: str, rows: list[Row]) -> list[Step]:
    left = sum(row["n"] for row in rows)
    if not left:
        return []
    steps = [Step(what, first, 0, left)]
    for row in rows:
        if row["reason"] != "kept":
            left -= row["n"]
            steps.append(Step(what, row["reason"], row["n"], left))
    return steps
