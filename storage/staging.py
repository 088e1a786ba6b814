"""Rows that show all at once, or never: parts are written beside the run's tables and moved there at the end."""

import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa

from storage.atomic import replacing
from storage.errors import explained
from storage.parts import write_table
from storage.store import RunStore

INCOMING = ".incoming"  # a level above the tables: no glob for parts reaches into it
PART_BYTES = 64_000_000
PART_ROWS = 100_000


class Staging:
    """Collects batches by table and writes them as parts of bounded size."""

    def __init__(self, folder: Path, iteration: int) -> None:
        self._folder = folder
        self._shelf = f"iteration={iteration}"
        self._waiting: dict[str, list[pa.RecordBatch]] = {}
        self._weight: dict[str, tuple[int, int]] = {}  # rows and bytes that wait
        self.rows: dict[str, int] = {}

    def add(self, table: str, batch: pa.RecordBatch) -> None:
        """Take a batch that has the table's schema. Its rows are new: nothing is looked up here."""
        if not batch.num_rows:
            return
        self._waiting.setdefault(table, []).append(batch)
        rows, size = self._weight.get(table, (0, 0))
        self._weight[table] = (rows + batch.num_rows, size + batch.nbytes)
        self.rows[table] = self.rows.get(table, 0) + batch.num_rows
        if self._weight[table][0] >= PART_ROWS or self._weight[table][1] >= PART_BYTES:
            self._write(table)

    def flush(self) -> None:
        """Write what waits."""
        for table in list(self._waiting):
            self._write(table)

    def _write(self, table: str) -> None:
        batches = self._waiting.pop(table)
        self._weight.pop(table)
        path = self._folder / table / self._shelf / f"part-{time.time_ns():020d}-{secrets.token_hex(4)}.parquet"
        with replacing(path) as temporary:
            write_table(pa.Table.from_batches(batches), temporary)


@contextmanager
def all_at_once(run: RunStore, iteration: int) -> Iterator[Staging]:
    """What is added inside the block becomes the run's tables at its end; when the block fails, nothing does.

    Tables of the same names that are there already make room: the run holds what this block made and nothing else.
    """
    folder = run.folder / INCOMING
    with explained("clear", folder):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
    staging = Staging(folder, iteration)
    try:
        yield staging
        staging.flush()
        _publish(folder, run.folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: Path, run: Path) -> None:
    for table in sorted(folder.iterdir()):
        target = run / table.name
        with explained("move into place", target):
            if target.exists():
                shutil.rmtree(target)
            table.rename(target)
