"""Some rows of a file at a time: small enough to hold, large enough to hand to another process."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

LONGEST_ROW = 4_000_000  # bytes of a line, characters of a JSON item or a cell
BLOCK_ROWS = 1_000
BLOCK_BYTES = 4_000_000

TOO_LONG = f"longer than {LONGEST_ROW:,} bytes"
NOT_JSON = "not JSON"
NOT_AN_OBJECT = "not an object"


class Found(NamedTuple):
    """One row of a file, or why there is none. Bytes that are not UTF-8 stand in texts as halves of surrogate pairs."""

    number: int  # of the line, item or row, from 1
    row: dict[str, Any] | None
    fault: str = ""  # in few words, the same for every row it happens to
    detail: str = ""  # what exactly


class Block(Protocol):
    """Rows that lie one after the other. It can be pickled."""

    @property
    def file(self) -> str: ...

    @property
    def unit(self) -> str:
        """What a number counts: line, item or row."""
        ...

    def __len__(self) -> int: ...

    def rows(self) -> Iterator[Found]: ...


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines of JSONL, not parsed yet. An empty line is no row; None is one that was too long to keep."""

    file: str
    first: int
    lines: list[bytes | None]
    unit: str = "line"

    def __len__(self) -> int:
        return len(self.lines)

    def rows(self) -> Iterator[Found]:
        for number, line in enumerate(self.lines, start=self.first):
            if line is None:
                yield Found(number, None, TOO_LONG)
            elif not line.isspace():
                yield _parsed(number, line)


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows that are parsed already."""

    file: str
    unit: str
    found: list[Found]

    def __len__(self) -> int:
        return len(self.found)

    def rows(self) -> Iterator[Found]:
        return iter(self.found)


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of a Parquet or Arrow file."""

    file: str
    first: int
    batch: pa.RecordBatch
    unit: str = "row"

    def __len__(self) -> int:
        return int(self.batch.num_rows)

    def rows(self) -> Iterator[Found]:
        try:
            rows = self.batch.to_pylist()
        except (pa.ArrowException, OverflowError, ValueError):  # a UnicodeDecodeError is a ValueError
            rows = [self._row(place) for place in range(len(self))]
        for number, row in enumerate(rows, start=self.first):
            yield Found(number, row) if isinstance(row, dict) else Found(number, None, *row)

    def _row(self, place: int) -> dict[str, Any] | tuple[str, str]:
        """The row, or its fault and detail."""
        try:
            (row,) = self.batch.slice(place, 1).to_pylist()
        except UnicodeDecodeError as error:
            return "not UTF-8 text", str(error)
        except (pa.ArrowException, OverflowError, ValueError) as error:
            return "a value that cannot be read", str(error)
        found: dict[str, Any] = row
        return found


def as_found(number: int, value: Any) -> Found:
    """A JSON value as a row."""
    if isinstance(value, dict):
        return Found(number, value)
    return Found(number, None, NOT_AN_OBJECT, f"it is a {_kind(value)}")


def _parsed(number: int, line: bytes) -> Found:
    text = line.decode(errors="surrogateescape").removeprefix("\ufeff")  # files that were put together keep their marks
    try:
        return as_found(number, json.loads(text))
    except (ValueError, RecursionError) as error:
        return Found(number, None, NOT_JSON, f"{error}: {text.strip()[:80]!r}")


def _kind(value: Any) -> str:
    names = {str: "text", list: "list", bool: "true or false", int: "number", float: "number", type(None): "null"}
    return names.get(type(value), type(value).__name__)
