"""DuckDB over a lab home: one in-memory connection per process, one cursor per caller, every public table as a view.

New parts show at once, since the views read the files by glob; `runs` is a small table brought up to date from the run
folders whenever a cursor is asked for.
"""

import os
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import pyarrow as pa

from storage import schema, sources
from storage.catalogue import public_views
from storage.errors import StorageFault
from storage.folders import RunFolders
from storage.lookup import Lookup
from storage.narrow import FOUND, PAIRS, Narrow, NarrowPairs
from storage.pair_filter import PairFilter
from storage.parts import Stamp, stamp_of
from storage.sandbox_worker import damage
from storage.store import Store

Parameters = Mapping[str, Any]
Answer = TypeVar("Answer")
_SETTINGS = (
    "SET autoinstall_known_extensions = false",
    "SET autoload_known_extensions = false",
    "SET parquet_metadata_cache = true",  # parts never change
    "SET python_enable_replacements = false",
)


MOST_KNOWN = 256  # answers kept
_MISTAKES = (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException)


class Database:
    """Read access to everything a store holds."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._connection = duckdb.connect()
        for setting in _SETTINGS:
            self._connection.execute(setting)
        # Where a large sort spills; by default it would be a folder wherever the program was started.
        spill = Path(tempfile.gettempdir()) / f"synpo-lab-{os.getpid()}"
        self._connection.execute("SET temp_directory = $spill", {"spill": str(spill)})
        self._lock = threading.Lock()
        self._folders = RunFolders(store)
        self._made: list[str] = []
        self._shown: list[sources.RunRow] | None = None
        self._damaged: set[Path] = set()
        self._lookup = Lookup(self._connection)
        self._narrow = NarrowPairs(self._connection, store.runs_folder)
        self._known: OrderedDict[Hashable, tuple[Stamp, Any]] = OrderedDict()
        self.refresh()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """A cursor of its own for one caller, with the public tables up to date. Close it."""
        self.refresh()
        return self._connection.cursor()

    def rows(self, sql: str, parameters: Parameters | None = None) -> list[dict[str, Any]]:
        """All rows of a query, as dicts. StorageFault when the files cannot be read."""
        return self._asked(lambda: self._rows(sql, parameters))

    def row(self, sql: str, parameters: Parameters | None = None) -> dict[str, Any] | None:
        """The first row, or None."""
        return next(iter(self.rows(sql, parameters)), None)

    def pair_rows(
        self,
        run_id: str,
        sql: str,
        parameters: Parameters | None = None,
        rules: PairFilter | None = None,
        search: str | None = None,
    ) -> list[dict[str, Any]]:
        """All rows of a query that reads of `parts.pairs` one run and none of its texts: from memory, see narrow.py.

        With `rules`, the column `meets` says of each pair whether their condition over texts is true; with `search`,
        `parts.found` holds (iteration, pair_id) of the pairs with that text.
        """

        def ask() -> list[dict[str, Any]]:
            source = self.narrow_pairs(run_id, rules).source
            found = self._narrow.found(run_id, search) if search else FOUND
            return self._rows(sql.replace(FOUND, found).replace(PAIRS, source), parameters)

        try:
            return self._asked(ask)
        except duckdb.CatalogException:  # another thread made room meanwhile
            return self._asked(ask)

    def rows_of(
        self,
        run_id: str,
        table: str,
        column: str,
        values: Sequence[str],
        sql: str,
        parameters: Parameters | None = None,
    ) -> list[dict[str, Any]]:
        """All rows of a query that reads of the public `table` only rows of one run whose `column` is among `values`.

        They are found by an index in memory, see lookup.py; the query says the same condition, as it would without one.
        """

        def ask() -> list[dict[str, Any]]:
            self.refresh()
            places = self._lookup.places(run_id, table, column, values, self._stamp(run_id, table))
            if places is None:
                return self._rows(sql, parameters)
            rows = public_views()[table].over(sources.rows_at(self.store, table, places))
            return self._rows(f"WITH {table} AS ({rows})\n{sql}", parameters)

        return self._asked(ask)

    def narrow_pairs(self, run_id: str, rules: PairFilter | None = None) -> Narrow:
        """What `pair_rows` reads."""
        self.refresh()
        return self._asked(lambda: self._narrow.of(run_id, rules))

    def known(self, name: Hashable, run_id: str, tables: Sequence[str], ask: Callable[[], Answer]) -> Answer:
        """What `ask()` gives, asked once as long as the run's parts of these tables are the same.

        `name` says what is asked; `tables` may name `notes`, which are of all runs. What is given is shared: change none.
        """
        key, stamp = (name, run_id), tuple(part for table in tables for part in self._stamp(run_id, table))
        with self._lock:
            held = self._known.get(key)
        if held is None or held[0] != stamp:
            held = (stamp, ask())
        with self._lock:
            self._known[key] = held
            self._known.move_to_end(key)
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
        answer: Answer = held[1]
        return answer

    def _stamp(self, run_id: str, table: str) -> Stamp:
        """What changes when a table of a run does; notes are files that grow."""
        if table == "notes":
            files = sorted(self.store.home.glob("notes/*.jsonl"))
            return tuple(f"{path.name} {path.stat().st_size}" for path in files)
        return stamp_of(self.store.runs_folder / run_id, table)

    def batches(self, sql: str, parameters: Parameters | None = None, size: int = 2_000) -> Iterator[pa.RecordBatch]:
        """The rows of a query in batches of at most `size`, for results of any length."""
        cursor = self.cursor()
        try:
            reader: pa.RecordBatchReader = cursor.sql(sql, params=dict(parameters or {})).to_arrow_reader(size)
            yield from reader
        except _MISTAKES:
            raise
        except duckdb.Error as error:
            raise _unreadable(error) from error
        finally:
            cursor.close()

    def run_rows(self) -> list[sources.RunRow]:
        """Every run's row of `parts.runs`, as its folder is now."""
        return self._folders.rows()

    def refresh(self) -> None:
        """Bring `runs` up to date, and make views of kinds of files that were not there before."""
        with self._lock:
            try:
                self._make_views()
            except duckdb.Error:
                self._pass_over_damaged()
                try:
                    self._make_views()
                except duckdb.Error as error:
                    raise _unreadable(error) from error
            self._show_runs()

    def close(self) -> None:
        self._connection.close()

    def _make_views(self) -> None:
        statements = sources.statements(self.store, relative=False, without=self._damaged)
        if statements != self._made:
            for statement in statements:
                self._connection.execute(statement)
            self._made = statements

    def _pass_over_damaged(self) -> None:
        self._damaged = {path for path in sources.damaged_parts(self.store) if path.exists()}

    def _show_runs(self) -> None:
        rows = self.run_rows()
        if rows == self._shown:
            return
        batch = schema.to_batch(rows, sources.RunRow)
        self._connection.register("fresh_runs", pa.Table.from_batches([batch]))
        self._connection.execute("BEGIN")
        self._connection.execute("DELETE FROM parts.runs")
        self._connection.execute("INSERT INTO parts.runs SELECT * FROM fresh_runs")
        self._connection.execute("COMMIT")
        self._connection.unregister("fresh_runs")
        self._shown = rows

    def _asked(self, ask: Callable[[], Answer]) -> Answer:
        try:
            return ask()
        except _MISTAKES:
            raise
        except duckdb.Error as error:
            if not damage(error):
                raise _unreadable(error) from error
            # A torn part, or a run deleted since the views were made: put that right, then ask once more.
            self._pass_over_damaged()
            try:
                return ask()
            except duckdb.Error as again:
                raise _unreadable(again) from again

    def _rows(self, sql: str, parameters: Parameters | None) -> list[dict[str, Any]]:
        cursor = self.cursor()
        try:
            cursor.execute(sql, dict(parameters or {}))
            names = [column[0] for column in cursor.description or []]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        finally:
            cursor.close()


def _unreadable(error: duckdb.Error) -> StorageFault:
    if not damage(error):
        return StorageFault(f"the lab home cannot be asked this: {error}", hint="ask for less, or ask again")
    return StorageFault(f"the lab home cannot be read: {error}", hint="look for damaged files in the run's folder")
