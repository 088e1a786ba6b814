"""Pairs and evaluations out of the lab, in the shapes other tools read.

trl             one JSON object a line: prompt, chosen, rejected, scores; `datasets.load_dataset("json", ...)` and TRL's
                preference trainers take it as it is
parquet, jsonl  every column of the view `pairs`
csv             the same for spreadsheets: a text that a spreadsheet would run as a formula (it begins with = + - @, a
                tab or a carriage return) gets an apostrophe in front; every other text is exact
alpaca-eval     AlpacaEval's `model_outputs`: what the last policy answered to the evaluation prompts
llm-comparator  LLM Comparator's JSON: the last policy against its opponent

The last two fall back on the pairs (chosen; chosen against rejected) where a run has no evaluation. Rows stream, and
the file appears whole or not at all.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from storage.atomic import replacing
from storage.database import Database
from storage.errors import StorageFault, explained
from storage.queries.filters import PairFilter
from storage.queries.pairs import PairQuery
from storage.queries.runs import VALIDATION, suites

Format = Literal["trl", "parquet", "jsonl", "csv", "alpaca-eval", "llm-comparator"]
Batches = Iterator[pa.RecordBatch]

ENDINGS: dict[Format, str] = {
    "trl": "jsonl",
    "parquet": "parquet",
    "jsonl": "jsonl",
    "csv": "csv",
    "alpaca-eval": "json",
    "llm-comparator": "json",
}
FORMULA = ("=", "+", "-", "@", "\t", "\r")
LARGEST_SCORE = 1.5  # LLM Comparator's scale

_TRL = """SELECT prompt, chosen, rejected, chosen_score AS score_chosen, rejected_score AS score_rejected, gap,
    iteration, pair_id"""
_OUTPUTS = "SELECT DISTINCT ON (prompt) prompt AS instruction, chosen AS output, $generator AS generator"
_SIDES = """SELECT prompt AS input_text, chosen AS output_text_a, rejected AS output_text_b, gap AS score, iteration"""
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
SELECT DISTINCT ON (prompt_id) asked.text AS instruction, a.text AS output, $run_id || '/' || model_a AS generator
FROM last JOIN asked USING (prompt_id) JOIN said AS a ON a.response_id = last.response_a
ORDER BY prompt_id
"""
_EVAL_SIDES = f"""{_LAST}
SELECT asked.text AS input_text, a.text AS output_text_a, b.text AS output_text_b, score_a - score_b AS score,
    iteration, model_a, model_b
FROM last JOIN asked USING (prompt_id) JOIN said AS a ON a.response_id = last.response_a
    JOIN said AS b ON b.response_id = last.response_b
ORDER BY prompt_id
"""


@dataclass(frozen=True, slots=True)
class ExportReport:
    rows: int
    path: Path
    bytes: int


def export(
    database: Database,
    run_id: str,
    to: Path | str,
    format: Format,
    kept: bool = True,
    *,
    query: PairQuery | None = None,
    rules: PairFilter | None = None,
    overwrite: bool = False,
) -> ExportReport:
    """Write a run's pairs (or evaluations) to a file; into a folder, under the run's name.

    `kept`: only pairs the run trained on. `query`: only pairs it matches. `rules`: the pairs these rules keep, whatever
    the run decided. StorageFault when the run or format is unknown, the file exists, or there is nothing to write.
    """
    database.store.run(run_id)
    path = _target(Path(to), run_id, format, overwrite)
    chosen = query or PairQuery()
    if rules is not None:
        chosen = replace(chosen, rules=rules)
    elif kept:
        chosen = replace(chosen, kept=True)
    write, sql, parameters = _plan(database, run_id, format, chosen)
    with replacing(path) as temporary:
        rows = write(temporary, database.batches(sql, parameters))
        if not rows:
            raise StorageFault(
                f"run {run_id!r} has nothing to export as {format}",
                hint="export --all pairs, or look at the drop reasons" if kept else "the run has no pairs yet",
            )
    return ExportReport(rows, path, path.stat().st_size)


def _target(to: Path, run_id: str, format: str, overwrite: bool) -> Path:
    if format not in get_args(Format):
        raise StorageFault(f"no export format {format!r}", hint=f"use one of: {', '.join(get_args(Format))}")
    path = to / f"{run_id}.{ENDINGS[format]}" if to.is_dir() else to  # type: ignore[index]
    with explained("look at", path):
        taken = path.exists()
    if taken and not overwrite:
        raise StorageFault(f"{path} exists already", hint="choose another path, or say that it may be overwritten")
    return path


Plan = tuple[Callable[[Path, Batches], int], str, dict[str, Any]]


def _plan(database: Database, run_id: str, format: Format, query: PairQuery) -> Plan:
    pairs, which = f"FROM pairs WHERE {query.matches()}", query.bound(run_id)
    suite = next((name for name in suites(database, run_id) if name != VALIDATION), None)
    tested = {"run_id": run_id, "suite": suite}
    if format == "alpaca-eval":
        if suite is not None:
            return _write_outputs, _EVAL_OUTPUTS, tested
        return _write_outputs, f"{_OUTPUTS} {pairs} ORDER BY prompt", which | {"generator": run_id}
    if format == "llm-comparator":
        if suite is not None:
            return _comparison(run_id), _EVAL_SIDES, tested
        return _comparison(run_id), f"{_SIDES}, 'chosen' AS model_a, 'rejected' AS model_b {pairs}", which
    if format == "trl":
        return _write_lines, f"{_TRL} {pairs}", which
    writers = {"jsonl": _write_lines, "parquet": _write_parquet, "csv": _write_csv}
    return writers[format], f"SELECT * {pairs}", which


def _write_lines(path: Path, batches: Batches) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in _rows(batches):
            file.write(_json(row) + "\n")
            count += 1
    return count


def _write_parquet(path: Path, batches: Batches) -> int:
    count, writer = 0, None
    try:
        for batch in batches:
            writer = writer or pq.ParquetWriter(path, batch.schema, compression="zstd")
            writer.write_batch(batch)
            count += batch.num_rows
    finally:
        if writer is not None:
            writer.close()
    return count


def _write_csv(path: Path, batches: Batches) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        for row in _rows(batches):
            table = csv.writer(file) if count else _headed(file, list(row))
            table.writerow(_cell(value) for value in row.values())
            count += 1
    return count


def _headed(file: Any, names: list[str]) -> Any:
    table = csv.writer(file)
    table.writerow(names)
    return table


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _write_outputs(path: Path, batches: Batches) -> int:
    rows = (_json({"dataset": "synpo-lab", **row}) for row in _rows(batches))
    return _write_array(path, "[\n", rows, "\n]\n")


def _comparison(run_id: str) -> Callable[[Path, Batches], int]:
    def write(path: Path, batches: Batches) -> int:
        rows = _rows(batches)
        first = next(rows, None)
        if first is None:
            return 0
        models = [{"name": first["model_a"]}, {"name": first["model_b"]}]
        head = {"metadata": {"source_path": run_id, "custom_fields_schema": []}, "models": models, "examples": []}
        return _write_array(path, _json(head)[:-2] + "\n", _examples(first, rows), "\n]}\n")

    return write


def _examples(first: dict[str, Any], others: Iterator[dict[str, Any]]) -> Iterator[str]:
    yield _example(first)
    for row in others:
        yield _example(row)


def _example(row: dict[str, Any]) -> str:
    score = row["score"] if math.isfinite(row["score"]) else 0.0
    example = {name: row[name] for name in ("input_text", "output_text_a", "output_text_b")}
    example |= {"tags": [f"iteration {row['iteration']}"], "individual_rater_scores": [], "custom_fields": {}}
    return _json(example | {"score": max(-LARGEST_SCORE, min(LARGEST_SCORE, score))})


def _write_array(path: Path, head: str, rows: Iterator[str], tail: str) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(head)
        for row in rows:
            file.write((",\n" if count else "") + row)
            count += 1
        file.write(tail)
    return count


def _rows(batches: Batches) -> Iterator[dict[str, Any]]:
    for batch in batches:
        yield from batch.to_pylist()


def _json(row: dict[str, Any]) -> str:
    # NaN and infinity are not JSON; readers take null.
    plain = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()
    }
    return json.dumps(plain, ensure_ascii=False, allow_nan=False)
