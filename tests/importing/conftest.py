"""Files of every container, and an import in this process."""

import csv
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage import RunStore
from synpo_lab import recipes
from synpo_lab.home import open_home, open_store
from synpo_lab.importing.launching import import_config
from synpo_lab.run import Run

Rows = Sequence[Mapping[str, Any]]


def as_jsonl(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def as_escaped_jsonl(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def as_gzipped_jsonl(path: Path, rows: Rows) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def as_json(path: Path, rows: Rows) -> None:
    path.write_text(json.dumps(list(rows), ensure_ascii=False, indent=1), encoding="utf-8")


def as_csv(path: Path, rows: Rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def as_parquet(path: Path, rows: Rows) -> None:
    pq.write_table(pa.Table.from_pylist(list(rows)), path)


def as_arrow(path: Path, rows: Rows) -> None:
    table = pa.Table.from_pylist(list(rows))
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)


WRITERS: dict[str, Callable[[Path, Rows], None]] = {
    "jsonl": as_jsonl,
    "escaped.jsonl": as_escaped_jsonl,
    "jsonl.gz": as_gzipped_jsonl,
    "json": as_json,
    "csv": as_csv,
    "parquet": as_parquet,
    "arrow": as_arrow,
}


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., RunStore]:
    """A function that imports files as the worker's recipe does, but in this process: imported(path, format=...)."""

    def build(*paths: Path, name: str = "data", stop: Callable[[], bool] = lambda: False, **given: Any) -> RunStore:
        config = import_config([str(path) for path in paths], **given)
        store = open_store(open_home(tmp_path / "home")).create_run(name, config.to_yaml(), {"recipe": "import"})
        recipes.get("import")(config, Run(store, config, stop))
        return store

    return build
