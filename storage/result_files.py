"""What a query gave, as a file."""

import csv
import json
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from storage.atomic import replacing
from storage.errors import StorageFault
from storage.export.writers import FORMULA
from storage.sandbox import QueryResult

FileFormat = Literal["csv", "parquet"]


def write_result(result: QueryResult, path: Path, format: FileFormat) -> Path:
    """Write a query's rows to `path`, whole or not at all.

    CSV: lists and structures as JSON, and text that a spreadsheet would take for a formula made plain by a quote.
    Parquet: numbers, texts, truth values and lists keep their types; a column of mixed values is text.
    """
    if format not in get_args(FileFormat):
        raise StorageFault(f"no file format {format!r}", hint=f"use one of: {', '.join(get_args(FileFormat))}")
    with replacing(path) as temporary:
        (_write_csv if format == "csv" else _write_parquet)(result, temporary)
    return path


def _write_csv(result: QueryResult, path: Path) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(_plain(name) for name in result.columns)
        table.writerows([_plain(value) for value in row] for row in result.rows)


def _write_parquet(result: QueryResult, path: Path) -> None:
    columns = [[row[place] for row in result.rows] for place in range(len(result.columns))]
    names = [f"{name}_{place}" if name in result.columns[:place] else name for place, name in enumerate(result.columns)]
    pq.write_table(pa.table([_array(column) for column in columns], names=names), path, compression="zstd")


def _array(column: list[Any]) -> pa.Array:
    try:
        found = pa.array(column)
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        found = pa.array([None if value is None else _text(value) for value in column], pa.string())
    # Parquet has no type for a column of nothing but NULL that every reader knows.
    return found.cast(pa.string()) if pa.types.is_null(found.type) else found


def _plain(value: Any) -> Any:
    value = json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
