"""Answers to a prompt with their scores: what the pair, lineage and response views are made of."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from storage.database import Database
from storage.queries.page import Row


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer with everything known of it."""

    response_id: str
    iteration: int
    role: str
    model: str
    text: str
    n_tokens: int
    finish_reason: str
    sampling: dict[str, Any]
    scores: dict[str, float] = field(default_factory=dict)  # by aspect; "scorer: aspect" when several scored it


@dataclass(frozen=True, slots=True)
class ResponseDetail:
    """One answer and what was asked."""

    answer: Answer
    prompt_id: str
    prompt: str | None  # None when the run has no prompt and no seed of that id


@dataclass(frozen=True, slots=True)
class Lineage:
    """One prompt through all iterations, a page at a time."""

    prompt: Row | None
    answers: list[Answer]  # by iteration; gold, initial, draft, improved, candidates, then evaluation answers
    pairs: list[Row]  # by iteration, without texts
    evals: list[Row]  # of the answers of this page
    n_answers: int  # on all pages
    n_pairs: int


ANSWERS = 40  # of a page; a prompt of a run has fewer, one of an imported data set may have thousands
_SCORES = """
SELECT DISTINCT ON (response_id, scorer, aspect) response_id, scorer, aspect, value
FROM scores
WHERE run_id = $run_id AND response_id IN (SELECT unnest($ids))
ORDER BY response_id, scorer, aspect
"""
_IN_ORDER = """ORDER BY iteration,
    array_position(['gold', 'initial', 'draft', 'improved', 'candidate', 'eval'], role), response_id
"""
_OF_PROMPT = f"""
SELECT iteration, response_id, role, model, text, n_tokens, finish_reason, CAST(sampling AS VARCHAR) AS sampling,
    count(*) OVER () AS total
FROM responses
WHERE run_id = $run_id AND prompt_id = $prompt_id
{_IN_ORDER} LIMIT $limit OFFSET $offset
"""
# Both sides whatever they are, and of the other answers that a side was made from the first of each role.
_OF_PAIR = f"""
SELECT iteration, response_id, role, model, text, n_tokens, finish_reason, CAST(sampling AS VARCHAR) AS sampling
FROM responses
WHERE run_id = $run_id AND prompt_id = $prompt_id AND (list_contains($sides, response_id) OR role = 'gold'
    OR (iteration = $iteration AND role IN ('initial', 'draft', 'improved')))
QUALIFY row_number() OVER (
    PARTITION BY CASE WHEN list_contains($sides, response_id) THEN response_id ELSE role END
    ORDER BY iteration, response_id
) = 1
{_IN_ORDER}
"""
_RESPONSE = """
SELECT iteration, response_id, role, model, text, n_tokens, finish_reason, CAST(sampling AS VARCHAR) AS sampling,
    prompt_id
FROM responses
WHERE run_id = $run_id AND response_id = $response_id
LIMIT 1
"""
_PROMPT_TEXT = """
SELECT text FROM prompts WHERE run_id = $run_id AND prompt_id = $prompt_id
UNION ALL
SELECT prompt FROM seeds WHERE run_id = $run_id AND seed_id = $prompt_id
UNION ALL
SELECT prompt FROM pairs WHERE run_id = $run_id AND prompt_id = $prompt_id
LIMIT 1
"""
_PROMPT = """
SELECT iteration, prompt_id, text, keywords, noise_keyword, source, status, drop_reason
FROM prompts
WHERE run_id = $run_id AND prompt_id = $prompt_id
UNION ALL
SELECT iteration, seed_id, prompt, [], NULL, 'seed', split, NULL
FROM seeds
WHERE run_id = $run_id AND seed_id = $prompt_id
LIMIT 1
"""
_PAIRS = """
SELECT iteration, pair_id, chosen_score, rejected_score, gap, kept, drop_reason,
    count(*) OVER () AS total
FROM parts.pairs
WHERE run_id = $run_id AND prompt_id = $prompt_id
ORDER BY iteration, pair_id
LIMIT $limit OFFSET $offset
"""
_EVALS = """
SELECT iteration, suite, model_a, model_b, response_a, response_b, score_a, score_b, winner
FROM evals
WHERE run_id = $run_id AND prompt_id = $prompt_id AND response_a IN (SELECT unnest($ids))
ORDER BY iteration, suite, model_a, response_a
"""


def answers_of_pair(
    database: Database, run_id: str, prompt_id: str, iteration: int, sides: Sequence[str]
) -> list[Answer]:
    """Both sides of a pair, and the first gold, initial, draft and improved answer beside them."""
    which = {"run_id": run_id, "prompt_id": prompt_id, "iteration": iteration, "sides": list(sides)}
    return _scored(database, run_id, database.rows_of(run_id, "responses", "prompt_id", [prompt_id], _OF_PAIR, which))


def response_detail(database: Database, run_id: str, response_id: str) -> ResponseDetail | None:
    """What was asked of which model, how was it sampled, and what came out?"""
    found = database.row(_RESPONSE, {"run_id": run_id, "response_id": response_id})
    if found is None:
        return None
    prompt_id = found.pop("prompt_id")
    prompt = database.row(_PROMPT_TEXT, {"run_id": run_id, "prompt_id": prompt_id})
    (answer,) = _scored(database, run_id, [found])
    return ResponseDetail(answer, prompt_id, prompt["text"] if prompt else None)


def lineage(database: Database, run_id: str, prompt_id: str, offset: int = 0) -> Lineage:
    """What became of one prompt, iteration by iteration? At most ANSWERS answers and pairs, from `offset` on."""
    which = {"run_id": run_id, "prompt_id": prompt_id}
    window = which | {"limit": ANSWERS, "offset": offset}
    of_prompt = database.rows_of(run_id, "responses", "prompt_id", [prompt_id], _OF_PROMPT, window)
    answers, n_answers = _counted(of_prompt)
    pairs, n_pairs = _counted(database.pair_rows(run_id, _PAIRS, window))
    ids = [row["response_id"] for row in answers]
    return Lineage(
        prompt=next(iter(database.rows_of(run_id, "prompts", "prompt_id", [prompt_id], _PROMPT, which)), None),
        answers=_scored(database, run_id, answers),
        pairs=pairs,
        evals=database.rows_of(run_id, "evals", "prompt_id", [prompt_id], _EVALS, which | {"ids": ids}),
        n_answers=n_answers,
        n_pairs=n_pairs,
    )


def _counted(rows: list[Row]) -> tuple[list[Row], int]:
    """A page's rows without the column that counts all there are, and that count; 0 beyond the last page."""
    return [{name: row[name] for name in row if name != "total"} for row in rows], rows[0]["total"] if rows else 0


def _scored(database: Database, run_id: str, rows: list[Row]) -> list[Answer]:
    ids = [row["response_id"] for row in rows]
    scores: dict[str, list[Row]] = {}
    which = {"run_id": run_id, "ids": ids}
    for score in database.rows_of(run_id, "scores", "response_id", ids, _SCORES, which) if ids else []:
        scores.setdefault(score["response_id"], []).append(score)
    return [
        Answer(**{**row, "sampling": json.loads(row["sampling"] or "{}")}, scores=_by_aspect(scores, row))
        for row in rows
    ]


def _by_aspect(scores: dict[str, list[Row]], row: Row) -> dict[str, float]:
    given = scores.get(row["response_id"], [])
    alone = len({score["scorer"] for score in given}) == 1
    return {score["aspect"] if alone else f"{score['scorer']}: {score['aspect']}": score["value"] for score in given}
