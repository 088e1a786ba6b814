"""Trainings and tests of a run."""

from dataclasses import dataclass

from storage.database import Database
from storage.queries.page import Page, Row
from storage.queries.runs import VALIDATION

_VARIANTS = """
SELECT iteration, trainee, variant, count(*) AS logged, max(step) AS last_step, arg_max(loss, step) AS last_loss
FROM train_steps
WHERE run_id = $run_id AND ($iteration IS NULL OR iteration = $iteration)
GROUP BY iteration, trainee, variant
ORDER BY iteration, list_position(['generator', 'improver', 'policy'], trainee),
    TRY_CAST(split_part(variant, '=', 2) AS DOUBLE) NULLS FIRST, variant
"""
_CURVE = """
SELECT step, loss, lr, grad_norm, reward_margin, reward_accuracy, logp_chosen, logp_rejected, tokens_per_s
FROM (
    SELECT *, row_number() OVER (ORDER BY step) - 1 AS place, count(*) OVER () AS logged
    FROM train_steps
    WHERE run_id = $run_id AND iteration = $iteration AND trainee = $trainee AND variant = $variant
)
WHERE place % greatest(1, CAST(ceil(logged / $points) AS BIGINT)) = 0 OR place = logged - 1
ORDER BY step
"""
# A variant's name ends its model's name: M_1-beta=4, and M_1-beta=4-step=40 in a race; its last word counts.
_GRID = """
SELECT iteration, regexp_extract(model_a, '-(beta=.+?)(-step=[0-9]+)?$', 1) AS variant,
    TRY_CAST(regexp_extract(model_a, '-beta=(.+?)(-step=[0-9]+)?$', 1) AS DOUBLE) AS beta,
    TRY_CAST(regexp_extract(model_a, '-step=([0-9]+)$', 1) AS INTEGER) AS stopped_at,
    avg(score_a) AS score, stddev_samp(score_a) FILTER (isfinite(score_a)) / sqrt(count(*)) AS se, count(*) AS n,
    avg(CASE winner WHEN 'a' THEN 1 WHEN 'tie' THEN 0.5 ELSE 0 END) AS win_rate, avg(len_a) AS mean_length
FROM evals
WHERE run_id = $run_id AND suite = $validation
GROUP BY iteration, variant, beta, stopped_at
QUALIFY row_number() OVER (PARTITION BY iteration, variant ORDER BY stopped_at DESC NULLS FIRST) = 1
ORDER BY iteration, beta NULLS FIRST, variant
"""
_EVALS = """
SELECT e.iteration, e.suite, e.prompt_id, p.text AS prompt, e.model_a, e.model_b, e.response_a, e.response_b,
    a.text AS answer_a, b.text AS answer_b, e.score_a, e.score_b, e.winner, e.len_a, e.len_b
FROM (
    SELECT * FROM evals
    WHERE run_id = $run_id AND ($iteration IS NULL OR iteration = $iteration) AND ($suite IS NULL OR suite = $suite)
        AND ($winner IS NULL OR winner = $winner)
    ORDER BY iteration, score_b - score_a, prompt_id, response_a
    LIMIT $limit OFFSET $offset
) AS e
LEFT JOIN (
    SELECT prompt_id, any_value(text) AS text
    FROM (SELECT prompt_id, text FROM prompts WHERE run_id = $run_id
          UNION ALL SELECT seed_id, prompt FROM seeds WHERE run_id = $run_id)
    GROUP BY prompt_id
) AS p USING (prompt_id)
LEFT JOIN responses AS a ON a.run_id = $run_id AND a.role = 'eval' AND a.response_id = e.response_a
LEFT JOIN responses AS b ON b.run_id = $run_id AND b.role = 'eval' AND b.response_id = e.response_b
ORDER BY e.iteration, e.score_b - e.score_a, e.prompt_id, e.response_a
"""
_EVAL_COUNT = """
SELECT count(*) AS total FROM evals
WHERE run_id = $run_id AND ($iteration IS NULL OR iteration = $iteration) AND ($suite IS NULL OR suite = $suite)
    AND ($winner IS NULL OR winner = $winner)
"""


@dataclass(frozen=True, slots=True)
class GridResult:
    """One training of a grid, on the validation seeds."""

    iteration: int
    variant: str  # "beta=4", or "" where there was no grid
    beta: float | None
    score: float  # mean total score of its answers
    se: float | None  # standard error; None below two answers
    n: int  # answers
    win_rate: float  # against M_0
    mean_length: float  # characters
    won: bool | None  # whether it became M_t; None while that is open
    stopped_at: int | None = None  # the step of a race that it did not get beyond, None when trained to its end


def variants(database: Database, run_id: str, iteration: int | None = None) -> list[Row]:
    """What was trained? Rows of iteration, trainee, variant, logged, last_step and last_loss."""
    return database.rows(_VARIANTS, {"run_id": run_id, "iteration": iteration})


def train_curve(
    database: Database, run_id: str, iteration: int, trainee: str, variant: str = "", *, points: int = 2_000
) -> list[Row]:
    """How did one training go? At most about `points` steps, evenly spaced, the last one included."""
    which = {"run_id": run_id, "iteration": iteration, "trainee": trainee, "variant": variant, "points": points}
    return database.rows(_CURVE, which)


def grid_results(database: Database, run_id: str) -> list[GridResult]:
    """Which beta was best on the validation seeds, and which one became M_t?"""
    rows = database.rows(_GRID, {"run_id": run_id, "validation": VALIDATION})
    chosen = {iteration: _chosen_beta(database, run_id, iteration) for iteration in {row["iteration"] for row in rows}}
    return [GridResult(**row, won=_won(row, chosen[row["iteration"]])) for row in rows]


def evals_page(
    database: Database,
    run_id: str,
    *,
    iteration: int | None = None,
    suite: str | None = None,
    winner: str | None = None,
    limit: int = 20,
    offset: int = 0,
) -> Page:
    """Prompt by prompt, what did the policy and its opponent answer? The clearest wins first."""
    which = {"run_id": run_id, "iteration": iteration, "suite": suite, "winner": winner}
    found = database.row(_EVAL_COUNT, which)
    return Page(database.rows(_EVALS, which | {"limit": limit, "offset": offset}), found["total"] if found else 0)


def _chosen_beta(database: Database, run_id: str, iteration: int) -> float | None:
    marker = database.store.run(run_id).marker(f"iteration={iteration}/policy")
    beta = None if marker is None else marker.get("beta")
    return None if beta is None else float(beta)


def _won(row: Row, chosen: float | None) -> bool | None:
    return None if chosen is None else row["beta"] == chosen and row["stopped_at"] is None
