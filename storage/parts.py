"""Parquet parts: one shelf holds the parts of one table in one iteration of one run."""

import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage import schema
from storage.atomic import replacing
from storage.errors import explained

FLUSH_ROWS = 8_000  # held in memory until then
FLUSH_CHARACTERS = 64_000_000
LONGEST_WAIT_S = 30.0
GROUP_ROWS = (
    2_000  # read whole for one row of them; with fewer, footers of a million rows weigh more than their numbers
)

Complaint = Callable[[Path, str], None]
Stamp = tuple[str, ...]  # what changes when a table does


def stamp_of(run_folder: Path, table: str) -> Stamp:
    """The names of the parts of a run's table, each of which is written once."""
    return tuple(sorted(path.name for path in (run_folder / table).glob("*/part-*.parquet")))


@dataclass(frozen=True, slots=True)
class Shelf:
    """The folder <run>/<table>/iteration=<t>."""

    folder: Path
    kind: type

    @property
    def iteration(self) -> int:
        return int(self.folder.name.removeprefix("iteration="))

    def parts(self) -> list[Path]:
        """Oldest first: a part's name begins with the time it was written."""
        with explained("list", self.folder):
            return sorted(self.folder.glob("part-*.parquet")) if self.folder.is_dir() else []

    def write(self, records: list[Any]) -> None:
        path = self.folder / f"part-{time.time_ns():020d}-{secrets.token_hex(4)}.parquet"
        batch = schema.to_batch(records, self.kind)
        with replacing(path) as temporary:
            write_table(pa.Table.from_batches([batch]), temporary)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a part's rows as every part is written."""
    pq.write_table(table, path, compression="zstd", write_page_checksum=True, row_group_size=GROUP_ROWS)


def shelves(table_folder: Path, kind: type) -> list[Shelf]:
    """The shelves of a table, by iteration."""
    with explained("list", table_folder):
        folders = [path for path in table_folder.glob("iteration=*") if path.is_dir()]
    return sorted((Shelf(folder, kind) for folder in folders), key=lambda shelf: shelf.iteration)


def rows(shelf: Shelf, columns: list[str] | None, complain: Complaint) -> Iterator[pa.Table]:
    """Each part's rows, oldest part first. An unreadable part is handed to `complain` and left out."""
    for path in shelf.parts():
        table = _whole_part(path, columns, complain)
        if table is not None:
            yield table


def is_whole(path: Path, *, thorough: bool = False) -> bool:
    """Whether a part's footer can be read; `thorough`: and every page of it."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as part:
            if thorough:
                part.read()
    except (pa.ArrowException, OSError):
        return not path.exists()
    return True


def _whole_part(path: Path, columns: list[str] | None, complain: Complaint) -> pa.Table | None:
    # Read wholly before a row is given out (parts are bounded), so a part damaged in the middle gives no rows at all.
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as part:
            return part.read(columns)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            with explained("read", path):
                raise
        complain(path, str(error))
        return None


class Writer:
    """Collects records and writes them in parts of bounded size.

    `shelf_of` says where a record goes, `known` which identities (hashes) that shelf holds already.
    """

    def __init__(self, shelf_of: Callable[[Any], Shelf], known: Callable[[Shelf], set[int]]) -> None:
        self._shelf_of = shelf_of
        self._known = known
        self._waiting: defaultdict[Shelf, list[Any]] = defaultdict(list)
        self._rows = self._characters = 0
        self._started = self._flushed = time.monotonic()

    def write(self, records: Iterable[Any]) -> int:
        count = 0
        try:
            for record in records:
                count += self._take(record)
                if self._is_due():
                    self._flush()
        finally:
            self._flush()
        return count

    def _take(self, record: Any) -> bool:
        shelf = self._shelf_of(record)
        known, key = self._known(shelf), schema.fingerprint(record)
        if key in known:
            return False
        known.add(key)
        self._waiting[shelf].append(record)
        self._rows += 1
        self._characters += schema.characters(record)
        return True

    def _is_due(self) -> bool:
        if self._rows >= FLUSH_ROWS or self._characters >= FLUSH_CHARACTERS:
            return True
        now = time.monotonic()
        # Rows show up soon at first and parts grow with the age of the stage, so a long stage leaves few parts.
        wait = min(LONGEST_WAIT_S, 1 + (now - self._started) / 10)
        return self._rows > 0 and now - self._flushed > wait

    def _flush(self) -> None:
        for shelf in list(self._waiting):
            records = self._waiting.pop(shelf)
            try:
                shelf.write(records)
            except BaseException:
                self._known(shelf).difference_update(map(schema.fingerprint, records))
                raise
        self._rows = self._characters = 0
        self._flushed = time.monotonic()
