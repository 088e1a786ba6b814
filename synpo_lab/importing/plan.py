"""How a file will be read: which format it is, and what is taken from which of its columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from storage.importers import Block, Found, Source, open_source
from synpo_lab.errors import DataError
from synpo_lab.home import storage_errors
from synpo_lab.importing import choices
from synpo_lab.importing.columns import NAMES, Row, found_columns, listed
from synpo_lab.importing.formats import FORMATS, Example, Format
from synpo_lab.importing.joining import joined_blocks

SAMPLE = 200  # rows that tell the format
LONGEST_FAULT = 200  # characters
AUTO = "auto"
JOINED_COLUMNS = {
    name: name
    for name in ("prompt", "chosen", "rejected", "chosen_model", "rejected_model", "source", "input", "system")
}


@dataclass(frozen=True, slots=True)
class Reading:
    """How a row becomes an example. Small: it goes to other processes."""

    format: str
    columns: dict[str, str]  # what is taken -> column
    counts_from: int = 0  # what a choice column calls the first of two answers: 0 or 1

    def example(self, values: Mapping[str, Any]) -> tuple[Example, bool]:
        """The example, and whether wrong characters were mended. RowRefused says what is wrong with the row."""
        row = Row(values, self.columns, self.counts_from)
        return FORMATS[self.format].read(row), row.mended


TWO_FILES = "two files of answers"


@dataclass(frozen=True, slots=True)
class Plan:
    """What an import will read, and how."""

    sources: tuple[Source, ...]
    reading: Reading
    taken: dict[str, str]  # what is taken -> column, as people are told
    unused: tuple[str, ...]  # columns nothing is taken from
    choice: str = ""  # what the numbers of a choice column were taken to mean
    sides: tuple[dict[str, str], ...] = ()  # of two joined files: what is taken -> column, each its own

    @property
    def format(self) -> Format:
        return FORMATS[self.reading.format]

    @property
    def format_told(self) -> str:
        """The format as people know it: two joined files are read like pairs, and are files of answers."""
        return TWO_FILES if self.sides else self.reading.format

    @property
    def notes(self) -> list[str]:
        """What people should know of how it is read."""
        return [note for note in (*(source.note for source in self.sources), self.choice) if note]

    def blocks(self) -> Iterator[Block]:
        """Every row there is, in order."""
        with storage_errors():
            if len(self.sources) == 2:
                yield from joined_blocks(self.sources, self.sides)
            else:
                yield from self.sources[0].blocks()


def make_plan(paths: Sequence[str], format: str = AUTO, given: Mapping[str, str] | None = None) -> Plan:
    """Open the files and tell their format. DataError when there are too many or none fits, StorageError when one is gone."""
    if not 1 <= len(paths) <= 2:
        raise DataError(f"{len(paths)} files", hint="give one file or folder, or the two output files of two models")
    if format not in {AUTO, *FORMATS}:
        raise DataError(f"no import format {format!r}", hint=f"use {AUTO} or one of: {', '.join(FORMATS)}")
    with storage_errors():
        sources = tuple(open_source(path) for path in paths)
        samples = [_sample(source) for source in sources]
    _check_given(given or {}, [row for rows in samples for row in rows])
    if len(sources) == 2:
        return _joined(sources, samples, given or {})
    return _alone(sources, samples[0], format, given or {})


def _alone(sources: tuple[Source, ...], rows: list[Mapping[str, Any]], format: str, given: Mapping[str, str]) -> Plan:
    names = _names(rows)
    columns = found_columns(names, given)
    chosen = _fitting(columns, rows, names) if format == AUTO else _named(format, columns, names)
    wanted = {*chosen.needs, *chosen.uses}
    taken = {target: columns[target] for target in NAMES if target in wanted and target in columns}
    if taken.get("input") == taken.get("prompt"):
        taken.pop("input", None)
    unused = tuple(name for name in names if name not in taken.values())
    if "first" not in chosen.needs:
        return Plan(sources, Reading(chosen.name, taken), taken, unused)
    first = choices.counts_from(taken, rows)
    return Plan(sources, Reading(chosen.name, taken, first), taken, unused, choices.told(taken, first, rows))


def _joined(sources: tuple[Source, ...], samples: list[list[Mapping[str, Any]]], given: Mapping[str, str]) -> Plan:
    columns = [_columns_of(rows, given) for rows in samples]
    for source, found, rows in zip(sources, columns, samples, strict=True):
        if not {"prompt", "output"} <= found.keys():
            raise DataError(
                f"{source.name} holds no answers: its columns are {_listed(_names(rows))}",
                hint="two files make pairs when both have a prompt and an output: the first is rejected, the second chosen",
            )
    needed = FORMATS["alpaca-eval"]
    wanted = (*needed.needs, *needed.uses)
    sides = tuple({target: found[target] for target in wanted if target in found} for found in columns)
    named = {target: dict.fromkeys(side[target] for side in sides if target in side) for target in wanted}
    taken = {target: ", ".join(names) for target, names in named.items() if names}
    names = _names([row for rows in samples for row in rows])
    unused = tuple(name for name in names if not any(name in side.values() for side in sides))
    return Plan(sources, Reading("trl", JOINED_COLUMNS), taken, unused, sides=sides)


def _columns_of(rows: Sequence[Mapping[str, Any]], given: Mapping[str, str]) -> dict[str, str]:
    """The columns of one of two files; what is named by hand may be the other's."""
    names = _names(rows)
    there = {target: name for target, name in given.items() if name in names or name.partition(".")[0] in names}
    return found_columns(names, there)


def _sample(source: Source) -> list[Mapping[str, Any]]:
    found = ((block, one) for block in source.blocks() for one in block.rows())
    first = list(islice(found, SAMPLE))
    rows: list[Mapping[str, Any]] = [one.row for _, one in first if one.row is not None]
    if not rows:
        raise DataError(
            f"{source.name} holds no row that can be read as {source.container}{_first_fault(first)}",
            hint="one JSON object per line, a JSON array of objects, CSV with a header, or Parquet",
        )
    return rows


def _first_fault(first: Sequence[tuple[Block, Found]]) -> str:
    """What is wrong with the first row, and where; that there is none, for a file of a header alone."""
    if not first:
        return ": it has none"
    block, one = first[0]
    why = f"{one.fault}: {one.detail[:LONGEST_FAULT]}" if one.detail else one.fault
    among = f" (nor can any of the first {SAMPLE})" if len(first) == SAMPLE else ""
    return f"; {block.file} {block.unit} {one.number:,}: {why}{among}"


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for name in row))


def _check_given(given: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    for target, column in given.items():
        if target not in NAMES:
            raise DataError(f"nothing is called {target!r} here", hint=f"map one of: {', '.join(NAMES)}")
        if column.partition(".")[0] not in _names(rows) and column not in _names(rows):
            raise DataError(f"there is no column {column!r}", hint=f"the columns are {_listed(_names(rows))}")


def _named(format: str, columns: Mapping[str, str], names: list[str]) -> Format:
    chosen = FORMATS[format]
    if missing := [target for target in chosen.needs if target not in columns]:
        raise DataError(
            f"the format {format} needs {_listed(missing)}; the columns are {_listed(names)}",
            hint=f"say where it is: {missing[0]}={names[0] if names else 'COLUMN'} (--map; on the page Data: Columns)",
        )
    return chosen


def _fitting(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], names: list[str]) -> Format:
    _refuse_unpaired(columns, rows)
    for one in FORMATS.values():
        if one.fits(columns, rows):
            return one
    if (inside := _rows_inside(rows)) is not None:
        raise DataError(
            f"the whole file is one object, whose {inside!r} is a list of objects",
            hint=f"give that list alone, as a JSON array, or one of its objects per line (jq -c '.{inside}[]')",
        )
    raise DataError(
        f"no known format has these columns: {_listed(names)}",
        hint="say what they are, for example --map prompt=COLUMN --map chosen=COLUMN --map rejected=COLUMN",
    )


def _rows_inside(rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The name under which a file of a single object holds its rows."""
    if len(rows) != 1:
        return None
    lists = (
        name for name, value in rows[0].items() if isinstance(value, list) and value and isinstance(value[0], dict)
    )
    return next(lists, None)


def _refuse_unpaired(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> None:
    """KTO's rows: one answer with a thumb up or down. They make no pairs."""
    if "label" not in columns or not {"prompt", "output"} <= columns.keys() or "chosen" in columns:
        return
    labels = {str(row.get(columns["label"])).lower() for row in rows}
    if labels <= {"true", "false", "0", "1", "none"} and labels & {"true", "false", "0", "1"}:
        raise DataError(
            f"these rows are unpaired: one answer and a label ({columns['label']!r}) each, as KTO trains on",
            hint="pairs need a chosen and a rejected answer to the same prompt; to read the answers alone: --format alpaca-eval",
        )


def _listed(names: Sequence[str]) -> str:
    return listed([repr(name) for name in names])
