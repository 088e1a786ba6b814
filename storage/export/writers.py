"""Rows of a query to a file, as they come. Each returns how many there were."""

import csv
import json
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = dict[str, Any]
Rows = Iterator[Row]
FORMULA = ("=", "+", "-", "@", "\t", "\r")
BATCH_ROWS = 2_000


def write_lines(path: Path, rows: Rows) -> int:
    """One JSON object a line."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(as_json(row) + "\n")
            count += 1
    return count


def write_parquet(path: Path, batches: Iterable[pa.RecordBatch]) -> int:
    """Batches of one schema."""
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


def write_csv(path: Path, rows: Rows) -> int:
    """For spreadsheets: a text that one would run as a formula gets an apostrophe in front."""
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        for row in rows:
            table = csv.writer(file)
            if count == 0:
                table.writerow(row)
            table.writerow(_cell(value) for value in row.values())
            count += 1
    return count


def write_array(path: Path, head: str, rows: Iterator[str], tail: str) -> int:
    """JSON values one after the other between `head` and `tail`."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write(head)
        for row in rows:
            file.write((",\n" if count else "") + row)
            count += 1
        file.write(tail)
    return count


def rows_of(batches: Iterable[pa.RecordBatch]) -> Rows:
    """Batches as dicts."""
    for batch in batches:
        yield from batch.to_pylist()


def batched(rows: Rows, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Dicts as batches of a schema."""
    waiting: list[Row] = []
    for row in rows:
        waiting.append(row)
        if len(waiting) == BATCH_ROWS:
            yield pa.RecordBatch.from_pylist(waiting, schema)
            waiting = []
    if waiting:
        yield pa.RecordBatch.from_pylist(waiting, schema)


def as_json(row: Row) -> str:
    """A row as JSON. NaN and infinity are not JSON; readers take null."""
    plain = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in row.items()
    }
    return json.dumps(plain, ensure_ascii=False, allow_nan=False)


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
