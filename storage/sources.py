"""From files to the views `parts.*` that the public tables stand on: the SQL that reads a lab home.

To DuckDB a glob that matches nothing is an error, and a column that no part has yet is unknown. So each view is the
union of no rows with all columns, and of whatever files there are. `part` and `place` say where a row lies: its file,
and how many rows come before it there.
"""

import glob
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from storage import schema
from storage.catalogue import public_views
from storage.quoting import quoted
from storage.store import Store

_SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.bool_(): "BOOLEAN",
    pa.list_(pa.string()): "VARCHAR[]",
}
_EVENT = {
    "at": "DOUBLE",
    "stage": "VARCHAR",
    "iteration": "BIGINT",
    "done": "BIGINT",
    "total": "BIGINT",
    "message": "VARCHAR",
    "level": "VARCHAR",
}
NOTE_COLUMNS = {"pair_id": "VARCHAR", "verdict": "VARCHAR", "text": "VARCHAR", "author": "VARCHAR", "at": "DOUBLE"}
VOTE_COLUMNS = {
    "run_id": "VARCHAR",
    "pair_id": "VARCHAR",
    "prompt": "VARCHAR",
    "history": "VARCHAR",
    "model_a": "VARCHAR",
    "model_b": "VARCHAR",
    "response_a": "VARCHAR",
    "response_b": "VARCHAR",
    "answer_a": "VARCHAR",
    "answer_b": "VARCHAR",
    "sampling": "VARCHAR",
    "seed": "BIGINT",
    "winner": "VARCHAR",
    "blind": "BOOLEAN",
    "author": "VARCHAR",
    "at": "DOUBLE",
}


@dataclass(frozen=True, slots=True)
class RunRow:
    """What `parts.runs` holds: a run's folder at a glance. Times are seconds since 1970, UTC."""

    run_id: str
    title: str
    recipe: str
    state: str
    message: str
    created_at: float
    since: float
    policy: str
    scorer: str
    seed: int | None
    iterations: int | None
    config: str  # JSON


@dataclass(frozen=True, slots=True)
class Source:
    """Files of one kind: where they lie in the lab home, how DuckDB reads them and which columns they have."""

    name: str
    pattern: str  # relative to the lab home
    columns: dict[str, str]  # column -> SQL type
    run_at: int | None  # where in the path, counted from its end, the run's id is

    @property
    def is_parquet(self) -> bool:
        return self.pattern.endswith(".parquet")


def sources(store: Store) -> list[Source]:
    """Every kind of file the public tables read."""
    tables = [
        Source(name, f"runs/*/{name}/*/part-*.parquet", sql_columns(kind), -4) for name, kind in store.tables.items()
    ]
    return [
        *tables,
        Source("events", "runs/*/events.jsonl", _EVENT, -2),
        Source("notes", "notes/*.jsonl", NOTE_COLUMNS, None),
        Source("votes", "playground/*.jsonl", VOTE_COLUMNS, None),
    ]


def statements(store: Store, *, relative: bool, without: Iterable[Path] = ()) -> list[str]:
    """The statements that make every view, public ones last; again and again, over those of before.

    `relative`: paths are written relative to the lab home, for a process that has it as its working folder.
    `without`: damaged parts that cannot be renamed and are to be passed over.
    """
    known = {source.name for source in sources(store)} | {"runs"}
    public = [view.sql for view in public_views().values() if view.name in known]
    return [
        "CREATE SCHEMA IF NOT EXISTS parts",
        f"CREATE TABLE IF NOT EXISTS parts.runs ({declared(sql_columns(RunRow))})",
        *(_parts_view(store, source, relative, set(without)) for source in sources(store)),
        *(sql.replace("CREATE VIEW", "CREATE OR REPLACE VIEW", 1) for sql in public),
    ]


def rows_at(store: Store, name: str, places: Mapping[str, Sequence[int]]) -> str:
    """SQL for the rows of a table that lie at these places of these parts, with the columns of its `parts` view."""
    (source,) = (source for source in sources(store) if source.name == name)
    reads = (
        f"SELECT {_chosen(source)} FROM {_reader(source, [part])} WHERE file_row_number IN ({', '.join(map(str, at))})"
        for part, at in places.items()
    )
    return " UNION ALL BY NAME ".join([_no_rows(source), *reads])


def damaged_parts(store: Store) -> list[Path]:
    """Every torn part, set aside where it can be renamed (in a lab home open read-only it cannot)."""
    runs = [store.run(run_id) for run_id in store.runs()]
    torn = [path for run in runs for path in run.set_torn_aside()]
    return torn or [path for run in runs for path in run.set_torn_aside(thorough=True)]


def sql_columns(kind: type) -> dict[str, str]:
    """A record type's columns and their SQL types."""
    return {column.name: _SQL_TYPES[column.type] for column in schema.arrow_schema(kind)}


def _parts_view(store: Store, source: Source, relative: bool, without: set[Path]) -> str:
    sql = f"CREATE OR REPLACE VIEW parts.{source.name} AS {_no_rows(source)}"
    files = _files(store, source, relative, without)
    return f"{sql} UNION ALL BY NAME SELECT {_chosen(source)} FROM {_reader(source, files)}" if files else sql


def _no_rows(source: Source) -> str:
    columns = source.columns | ({} if source.run_at is None else {"run_id": "VARCHAR"})
    columns |= {"part": "VARCHAR", "place": "BIGINT"} if source.is_parquet else {}
    empty = ", ".join(f'CAST(NULL AS {kind}) AS "{name}"' for name, kind in columns.items())
    return f"SELECT {empty} WHERE false"


def _files(store: Store, source: Source, relative: bool, without: set[Path]) -> list[str]:
    found = store.home.glob(source.pattern)
    good = (path for path in found if path not in without)
    if without:
        return [str(path.relative_to(store.home) if relative else path) for path in sorted(good)]
    if next(good, None) is None:
        return []
    return [source.pattern if relative else f"{glob.escape(str(store.home))}/{source.pattern}"]


def _chosen(source: Source) -> str:
    if source.run_at is None:
        return "*"
    run_id = f"split_part(filename, '/', {source.run_at}) AS run_id"
    if source.is_parquet:
        return f"* EXCLUDE (filename, file_row_number), filename AS part, file_row_number AS place, {run_id}"
    return f"* EXCLUDE (filename), {run_id}"


def _reader(source: Source, files: list[str]) -> str:
    listed = f"[{', '.join(map(quoted, files))}]"
    if source.is_parquet:
        options = "union_by_name = true, hive_partitioning = false, filename = true, file_row_number = true"
        return f"read_parquet({listed}, {options})"
    columns = ", ".join(f'"{name}": {quoted(kind)}' for name, kind in source.columns.items())
    options = "format = 'newline_delimited', ignore_errors = true, maximum_object_size = 67108864"
    filename = "" if source.run_at is None else ", filename = true"
    return f"read_json({listed}, columns = {{{columns}}}, {options}{filename})"


def declared(columns: dict[str, str]) -> str:
    """Columns as CREATE TABLE wants them."""
    return ", ".join(_declarations(columns))


def _declarations(columns: dict[str, str]) -> Iterator[str]:
    return (f'"{name}" {kind}' for name, kind in columns.items())
