"""Where the rows of an id lie: of one column of one run's table the hash, the part and the place of every row, in memory.

Without it, each pair that is opened has the ids of all answers and scores read from their files: a tenth of a second a
million. Made when first asked for, and again when the table has other parts. The ones asked for longest ago are let go
of when all together have more than MOST_ROWS rows, about 16 bytes each; a larger table is read from its parts as ever.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from storage.parts import Stamp
from storage.quoting import enum, quoted

MOST_ROWS = 8_000_000
Places = dict[str, list[int]]  # part -> places
Key = tuple[str, str, str]  # run, table, column


@dataclass(frozen=True, slots=True)
class _Held:
    name: str  # of the table; "" when there are too many rows to hold
    rows: int
    stamp: Stamp


class Lookup:
    """The indexes held for one connection. Safe to ask from several threads."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._held: OrderedDict[Key, _Held] = OrderedDict()
        self._made = 0
        self._lock = threading.Lock()

    def places(self, run_id: str, table: str, column: str, values: Sequence[str], stamp: Stamp) -> Places | None:
        """Where the rows lie whose `column` is one of `values`, and perhaps some others; None when nothing is held.

        `stamp` changes when the run's table does.
        """
        with self._lock, self._connection.cursor() as cursor:
            held = self._of(cursor, (run_id, table, column), stamp)
            if not held.name:
                return None
            found: Places = {}
            which = {"values": list(values)}
            for part, place in cursor.execute(_FIND.format(table=held.name), which).fetchall():
                found.setdefault(part, []).append(place)
            return found

    def _of(self, cursor: duckdb.DuckDBPyConnection, key: Key, stamp: Stamp) -> _Held:
        held = self._held.get(key)
        if held is None or held.stamp != stamp:
            self._drop(cursor, key)
            held = self._held[key] = self._make(cursor, key, stamp)
        self._held.move_to_end(key)
        return held

    def _make(self, cursor: duckdb.DuckDBPyConnection, key: Key, stamp: Stamp) -> _Held:
        run_id, table, column = key
        which = {"run_id": run_id}
        counted = cursor.execute(
            f"SELECT part, count(*) FROM parts.{table} WHERE run_id = $run_id GROUP BY part", which
        )
        parts = dict(counted.fetchall())
        rows = sum(parts.values())
        if not 0 < rows <= MOST_ROWS:
            return _Held("", 0, stamp)
        while self._held and rows + sum(held.rows for held in self._held.values()) > MOST_ROWS:
            self._drop(cursor, next(iter(self._held)))
        self._made += 1
        name = f"lookup.rows_{self._made}"
        cursor.execute("CREATE SCHEMA IF NOT EXISTS lookup")
        cursor.execute(
            f"CREATE TABLE {name} AS SELECT hash({column}) AS key, CAST(part AS {enum(sorted(parts))}) AS part, "
            f"CAST(place AS INTEGER) AS place FROM parts.{table} WHERE run_id = {quoted(run_id)}"
        )
        return _Held(name, rows, stamp)

    def _drop(self, cursor: duckdb.DuckDBPyConnection, key: Key) -> None:
        held = self._held.pop(key, None)
        if held is not None and held.name:
            cursor.execute(f"DROP TABLE {held.name}")


_FIND = "SELECT part, place FROM {table} WHERE key IN (SELECT hash(unnest($values))) ORDER BY part, place"
