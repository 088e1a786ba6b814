"""What the rows of each format are: the SQL that finds them and the shape they are given."""

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.database import Database
from storage.export.writers import (
    Row,
    Rows,
    as_json,
    batched,
    rows_of,
    write_array,
    write_csv,
    write_lines,
    write_parquet,
)
from storage.queries.pair_query import PairQuery
from storage.queries.runs import VALIDATION, suites

COMPARED = ("alpaca-eval", "llm-comparator")  # of pairs, or of an evaluation
LARGEST_SCORE = 1.5  # LLM Comparator's scale

_TRL = """SELECT prompt, chosen, rejected, chosen_score AS score_chosen, rejected_score AS score_rejected, gap,
    iteration, pair_id"""
_TRL_CHAT = f"{_TRL}, messages"
_OUTPUTS = "SELECT DISTINCT ON (prompt) prompt AS instruction, chosen AS output, $generator AS generator"
# LLM Comparator: above 0, A is better. Of a pair that nobody scored it is known which side was chosen.
_SIDES = """SELECT prompt AS input_text, chosen AS output_text_a, rejected AS output_text_b, coalesce(gap, 1.0) AS score,
    iteration"""
_LAST = """
WITH last AS (
    SELECT * FROM evals
    WHERE run_id = $run_id AND suite = $suite
        AND iteration = (SELECT max(iteration) FROM evals WHERE run_id = $run_id AND suite = $suite)
), asked AS (
    SELECT prompt_id, any_value(text) AS text FROM prompts WHERE run_id = $run_id GROUP BY prompt_id
), said AS (
    SELECT response_id, any_value(text) AS text FROM responses WHERE run_id = $run_id AND role = 'eval'
    GROUP BY response_id
)
"""
_EVAL_OUTPUTS = f"""{_LAST}
SELECT DISTINCT ON (model_a, prompt_id) asked.text AS instruction, a.text AS output, $run_id || '/' || model_a AS generator
FROM last JOIN asked USING (prompt_id) JOIN said AS a ON a.response_id = last.response_a
ORDER BY model_a, prompt_id
"""
_EVAL_SIDES = f"""{_LAST}
SELECT asked.text AS input_text, a.text AS output_text_a, b.text AS output_text_b, score_a - score_b AS score,
    iteration, (SELECT string_agg(DISTINCT model_a, ', ' ORDER BY model_a) FROM last) AS model_a,
    (SELECT string_agg(DISTINCT model_b, ', ' ORDER BY model_b) FROM last) AS model_b
FROM last JOIN asked USING (prompt_id) JOIN said AS a ON a.response_id = last.response_a
    JOIN said AS b ON b.response_id = last.response_b
ORDER BY prompt_id
"""


Batches = Iterator[pa.RecordBatch]
_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_CHAT_SCHEMA = pa.schema(
    [
        *((side, _MESSAGES) for side in ("prompt", "chosen", "rejected")),
        *((name, pa.float64()) for name in ("score_chosen", "score_rejected", "gap")),
        ("iteration", pa.int64()),
        ("pair_id", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a format is written: ask `sql` with `parameters`, hand the batches to `write`."""

    write: Callable[[Path, Batches], int]
    sql: str
    parameters: dict[str, Any]


def evaluated_suite(database: Database, run_id: str) -> str | None:
    """The evaluation prompts that a run's policies are told by; None where it has none."""
    return next((name for name in suites(database, run_id) if name != VALIDATION), None)


def plan(run_id: str, format: str, query: PairQuery, *, chat: bool, suite: str | None = None) -> Plan:
    """The plan of a format for the pairs of a query; with `suite`, of COMPARED for the evaluation on it."""
    pairs, which = f"FROM pairs WHERE {query.matches()}", query.bound(run_id)
    if format in COMPARED:
        return _compared(run_id, format, pairs, which, suite)
    if format in {"trl", "datasets"}:
        sql = f"{_TRL_CHAT if chat else _TRL} {pairs}"
        return Plan(_preference_writer(format, chat), sql, which)
    writers = {"jsonl": _lines, "parquet": write_parquet, "csv": _csv}
    return Plan(writers[format], f"SELECT * {pairs}", which)


def _compared(run_id: str, format: str, pairs: str, which: dict[str, Any], suite: str | None) -> Plan:
    tested = {"run_id": run_id, "suite": suite}
    if format == "alpaca-eval":
        if suite is not None:
            return Plan(_outputs, _EVAL_OUTPUTS, tested)
        return Plan(_outputs, f"{_OUTPUTS} {pairs} ORDER BY prompt", which | {"generator": run_id})
    if suite is not None:
        return Plan(partial(_comparison, run_id), _EVAL_SIDES, tested)
    sides = f"{_SIDES}, 'chosen' AS model_a, 'rejected' AS model_b {pairs}"
    return Plan(partial(_comparison, run_id), sides, which)


def _preference_writer(format: str, chat: bool) -> Callable[[Path, Batches], int]:
    if format == "trl":
        return _chat_lines if chat else _lines
    return _chat_parquet if chat else write_parquet


def _lines(path: Path, batches: Batches) -> int:
    return write_lines(path, rows_of(batches))


def _csv(path: Path, batches: Batches) -> int:
    return write_csv(path, rows_of(batches))


def _chat_lines(path: Path, batches: Batches) -> int:
    return write_lines(path, map(_as_chat, rows_of(batches)))


def _chat_parquet(path: Path, batches: Batches) -> int:
    return write_parquet(path, batched(map(_as_chat, rows_of(batches)), _CHAT_SCHEMA))


def _as_chat(row: Row) -> Row:
    """TRL's conversational preference row with an explicit prompt: every text a list of messages."""
    messages = row.pop("messages")
    prompt = json.loads(messages) if messages else [{"role": "user", "content": row["prompt"]}]
    said = {side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")}
    return row | {"prompt": prompt} | said


def _outputs(path: Path, batches: Batches) -> int:
    rows = (as_json({"dataset": "synpo-lab", **row}) for row in rows_of(batches))
    return write_array(path, "[\n", rows, "\n]\n")


def _comparison(run_id: str, path: Path, batches: Batches) -> int:
    rows = rows_of(batches)
    first = next(rows, None)
    if first is None:
        return 0
    models = [{"name": first["model_a"]}, {"name": first["model_b"]}]
    head = {"metadata": {"source_path": run_id, "custom_fields_schema": []}, "models": models, "examples": []}
    return write_array(path, as_json(head)[:-2] + "\n", _examples(first, rows), "\n]}\n")


def _examples(first: Row, others: Rows) -> Iterator[str]:
    yield _example(first)
    for row in others:
        yield _example(row)


def _example(row: Row) -> str:
    score = row["score"] if row["score"] is not None and math.isfinite(row["score"]) else 0.0
    example = {name: row[name] for name in ("input_text", "output_text_a", "output_text_b")}
    example |= {"tags": [f"iteration {row['iteration']}"], "individual_rater_scores": [], "custom_fields": {}}
    return as_json(example | {"score": max(-LARGEST_SCORE, min(LARGEST_SCORE, score))})
