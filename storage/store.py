"""The store: a run is a folder, a table is a folder of Parquet parts, and nothing written is ever changed.

    <home>/runs/<run_id>/run.yaml                             the config, as it was given
                         run.json                             what else is known at the start (versions, code, time)
                         <table>/iteration=<t>/part-*.parquet  records
                         markers/<name>.done                  "this step is complete", written last
                         events.jsonl                         the log
                         models/<name>/                       weights
    <home>/notes/*.jsonl                                      readers' verdicts

A part appears whole or not at all. One process at a time writes to a run (see `storage.state`); any number read.
"""

import dataclasses
import errno
import json
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from storage import parts, schema
from storage.atomic import link_or_copy, sweep, write_text
from storage.errors import StorageFault, explained
from storage.log import append_line, read_lines

R = TypeVar("R")

RUN_ID = re.compile(r"(?!\.)[A-Za-z0-9._-]{1,80}")
MARKER = re.compile(r"(?!\.)[A-Za-z0-9._=-]{1,80}(/(?!\.)[A-Za-z0-9._=-]{1,80}){0,3}")


class Store:
    """A lab home. `tables` maps a table's name to its record type."""

    def __init__(self, home: Path, tables: dict[str, type], *, read_only: bool = False) -> None:
        self.home = Path(home)
        self.tables = dict(tables)
        self.read_only = read_only

    @property
    def runs_folder(self) -> Path:
        return self.home / "runs"

    @property
    def notes_folder(self) -> Path:
        return self.home / "notes"

    def runs(self) -> list[str]:
        """The ids of the runs there are, in alphabetical order."""
        with explained("list", self.runs_folder):
            folders = list(self.runs_folder.iterdir()) if self.runs_folder.is_dir() else []
        return sorted(folder.name for folder in folders if _is_run(folder))

    def run(self, run_id: str) -> "RunStore":
        """The run of that id. StorageFault when there is none."""
        folder = self.runs_folder / _checked(run_id)
        if not _is_run(folder):
            raise StorageFault(f"there is no run {run_id!r}", hint="`synpo-lab status` lists the runs of this lab home")
        return RunStore(folder, self.tables, read_only=self.read_only)

    def create_run(
        self, run_id: str, config_yaml: str, info: dict[str, Any], fill: "Callable[[RunStore], object] | None" = None
    ) -> "RunStore":
        """Make a run's folder, whole or not at all. StorageFault when there is one of that id already.

        `fill` writes what it begins with, before anybody can see it.
        """
        folder = self.runs_folder / _checked(run_id)
        self.check_writable()
        # One level deeper than a run's: no pattern of the views finds what is half made, nor what a crash leaves of it.
        scaffold = self.runs_folder / f".new-{run_id}-{secrets.token_hex(4)}"
        temporary = scaffold / run_id
        with explained("make the run folder", folder):
            sweep(self.runs_folder, ".new-*")
            try:
                (temporary / "models").mkdir(parents=True)
                write_text(temporary / "run.yaml", schema.whole_text(config_yaml))
                write_text(temporary / "run.json", json.dumps({"created_at": time.time(), **info}, default=str))
                if fill is not None:
                    fill(RunStore(temporary, self.tables))
                _claim(temporary, folder)
            finally:
                shutil.rmtree(scaffold, ignore_errors=True)
        return self.run(run_id)

    def append_note(self, note: Any) -> None:
        """Add a reader's verdict. The latest of a pair and an author counts."""
        self.check_writable()
        append_line(self.notes_folder / "notes.jsonl", dataclasses.asdict(note))

    def notes(self, kind: type[R]) -> list[R]:
        """Every note ever written, oldest first."""
        return _notes(self.notes_folder, kind)

    def check_writable(self) -> None:
        if self.read_only:
            raise StorageFault("this lab home is open read-only", hint="start the lab without --read-only to change it")


class RunStore:
    """One run's folder: append and read its records, mark what is complete, log what happens."""

    def __init__(self, folder: Path, tables: dict[str, type], *, read_only: bool = False) -> None:
        self.folder = Path(folder)
        self.read_only = read_only
        self._tables = {kind: name for name, kind in tables.items()}
        self._written: dict[parts.Shelf, set[int]] = {}
        self._known_shelves: dict[tuple[type, int], parts.Shelf] = {}  # made once: paths cost more than rows

    @property
    def run_id(self) -> str:
        return self.folder.name

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def rewrite(self, config_yaml: str, info: dict[str, Any]) -> None:
        """Put another run.yaml and run.json in the place of the run's."""
        self._check_writable()
        write_text(self.folder / "run.json", json.dumps(info, default=str))
        write_text(self.folder / "run.yaml", schema.whole_text(config_yaml))

    def append(self, records: Iterable[Any]) -> int:
        """Write records of any of the tables' types as they come; return how many were new.

        A record whose identity is already in its table and iteration adds nothing. Rows reach the disk in whole parts,
        every few thousand rows or few seconds; when `records` itself fails, what came before is written first.
        """
        self._check_writable()
        writer = parts.Writer(self._shelf_of, self._known)
        return writer.write(records)

    def replace(self, kind: type, records: Iterable[Any]) -> int:
        """Make these the records of a derived type (topics, findings), in place of all there were; return how many.

        Written whole beside the old ones first: a crash leaves the old ones, or for a moment both.
        """
        self._check_writable()
        old = [path for shelf in self._shelves(kind, None) for path in shelf.parts()]
        fresh: dict[parts.Shelf, set[int]] = {}
        writer = parts.Writer(self._shelf_of, lambda shelf: fresh.setdefault(shelf, set()))
        count = writer.write(records)
        for path in old:
            with explained("replace", path):
                path.unlink(missing_ok=True)
        self._written = {shelf: known for shelf, known in self._written.items() if shelf.kind is not kind}
        return count

    def read(self, kind: type[R], iteration: int | None = None) -> Iterator[R]:
        """The records of a type, of one iteration or all, in the order written, each identity once (the first)."""
        for shelf in self._shelves(kind, iteration):
            seen: set[int] = set()
            for table in parts.rows(shelf, None, self._set_aside):
                for record in schema.from_batch(table, kind):
                    key = schema.fingerprint(record)
                    if key not in seen:
                        seen.add(key)
                        yield record

    def ids(self, kind: type, iteration: int | None = None) -> set[Any]:
        """The values of the type's key column; no other column is read."""
        column: str = kind.key  # type: ignore[attr-defined]
        tables = (table for shelf in self._shelves(kind, iteration) for table in self._columns(shelf, [column]))
        return {value for table in tables for value in schema.column_values(table, kind, column)}

    def notes(self, kind: type[R]) -> list[R]:
        """Every note of the lab home the run lies in, oldest first."""
        return _notes(self.folder.parent.parent / "notes", kind)

    def link(self, source: "RunStore", kind: type, iteration: int) -> None:
        """Take over another run's records of a type and iteration as they are, by hard links where the disk can."""
        self._check_writable()
        theirs, ours = source._shelf(kind, iteration), self._shelf(kind, iteration)
        with explained("copy to", ours.folder):
            ours.folder.mkdir(parents=True, exist_ok=True)
            for part in theirs.parts():
                link_or_copy(part, ours.folder / part.name)
        self._written.pop(ours, None)

    def markers(self) -> list[str]:
        """The names of everything that is marked complete."""
        folder = self.folder / "markers"
        return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.done"))

    def mark(self, name: str, payload: dict[str, Any] | None = None) -> None:
        """Say that `name` is complete, for example "iteration=1/improver". The payload is small JSON."""
        self._check_writable()
        write_text(self._marker(name), json.dumps(payload if payload is not None else {}))

    def marked(self, name: str) -> bool:
        return self._marker(name).exists()

    def marker(self, name: str) -> dict[str, Any] | None:
        """The payload `name` was marked with, or None when it is not marked."""
        path = self._marker(name)
        try:
            payload: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StorageFault(
                f"the marker {path} is damaged: {error}", hint="delete that file and resume the run"
            ) from None
        return payload

    def event(
        self,
        stage: str,
        message: str = "",
        *,
        iteration: int | None = None,
        done: int | None = None,
        total: int | None = None,
        level: str = "info",
        at: float | None = None,
    ) -> None:
        """Add one line to the run's log. Progress events carry done and total. `level`: info, warning or error."""
        self._check_writable()
        line = {"at": time.time() if at is None else at, "stage": stage, "iteration": iteration}
        append_line(
            self.folder / "events.jsonl", line | {"done": done, "total": total, "message": message, "level": level}
        )

    def events(self, after: int = 0) -> tuple[list[dict[str, Any]], int]:
        """The log's lines from byte `after` on, and the byte to ask from next time. A torn last line waits."""
        return read_lines(self.folder / "events.jsonl", after)

    def iterations(self, kind: type) -> list[int]:
        """The iterations that hold records of this type."""
        return sorted(shelf.iteration for shelf in self._shelves(kind, None))

    def set_torn_aside(self, *, thorough: bool = False) -> list[Path]:
        """Rename every unreadable part to *.torn, with a warning in the log; return those there were.

        Looks at footers; `thorough`: reads everything.
        """
        shelves = [shelf for kind in self._tables for shelf in self._shelves(kind, None)]
        torn = [path for shelf in shelves for path in shelf.parts() if not parts.is_whole(path, thorough=thorough)]
        for path in torn:
            self._set_aside(path, "it cannot be read")
        return torn

    def _shelf_of(self, record: Any) -> parts.Shelf:
        place = type(record), getattr(record, "iteration", 0)
        if (shelf := self._known_shelves.get(place)) is None:
            shelf = self._known_shelves[place] = self._shelf(*place)
        return shelf

    def _shelf(self, kind: type, iteration: int) -> parts.Shelf:
        return parts.Shelf(self._table_folder(kind) / f"iteration={iteration}", kind)

    def _shelves(self, kind: type, iteration: int | None) -> list[parts.Shelf]:
        if iteration is not None:
            return [self._shelf(kind, iteration)]
        return parts.shelves(self._table_folder(kind), kind)

    def _table_folder(self, kind: type) -> Path:
        if kind not in self._tables:
            known = ", ".join(sorted(known.__name__ for known in self._tables))
            raise StorageFault(f"{kind.__name__} is no record type of this store", hint=f"it stores {known}")
        return self.folder / self._tables[kind]

    def _known(self, shelf: parts.Shelf) -> set[int]:
        if shelf not in self._written:
            sweep(shelf.folder)
            columns = list(schema.identity(shelf.kind))
            tables = self._columns(shelf, columns)
            self._written[shelf] = {key for table in tables for key in schema.fingerprints(table, shelf.kind)}
        return self._written[shelf]

    def _columns(self, shelf: parts.Shelf, columns: list[str]) -> Iterator[pa.Table]:
        return parts.rows(shelf, columns, self._set_aside)

    def _set_aside(self, path: Path, why: str) -> None:
        if self.read_only:
            return
        with suppress(OSError):
            path.rename(path.with_name(path.name + ".torn"))
            where = path.relative_to(self.folder)
            self.event("storage", f"{where} is damaged and was set aside: {why}", level="warning")

    def _marker(self, name: str) -> Path:
        if not MARKER.fullmatch(name):
            raise StorageFault(
                f"{name!r} cannot name a marker", hint="use letters, digits and . _ - = in parts joined by /"
            )
        return self.folder / "markers" / f"{name}.done"

    def _check_writable(self) -> None:
        if self.read_only:
            raise StorageFault("this lab home is open read-only", hint="start the lab without --read-only to change it")


def _checked(run_id: str) -> str:
    if not RUN_ID.fullmatch(run_id):
        raise StorageFault(
            f"{run_id!r} cannot name a run",
            hint="use 1 to 80 of the letters A-Z and a-z, digits and . _ - and begin with no dot",
        )
    return run_id


def _notes(folder: Path, kind: type[R]) -> list[R]:
    names = {field.name for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    lines = (line for path in sorted(folder.glob("*.jsonl")) for line in read_lines(path, 0)[0])
    return [kind(**{name: line[name] for name in names}) for line in lines if names <= line.keys()]


def _is_run(folder: Path) -> bool:
    return not folder.name.startswith(".") and (folder / "run.yaml").is_file()


def _claim(temporary: Path, folder: Path) -> None:
    # Renaming a folder onto an empty one succeeds silently, so what is there already is looked at first; onto a folder
    # with files it fails, which settles a race between two processes.
    try:
        if not folder.exists():
            temporary.rename(folder)
            return
    except OSError as error:
        if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
            raise
    raise StorageFault(
        f"there is a run {folder.name!r} already",
        hint=f"choose another --run-id, or go on with `synpo-lab resume {folder.name}`",
    )
