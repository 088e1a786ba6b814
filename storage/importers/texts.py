"""JSONL, JSON arrays and CSV, plain or gzipped, read in bounded memory."""

import codecs
import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, cast

from storage.errors import StorageFault, explained
from storage.importers.blocks import (
    BLOCK_BYTES,
    BLOCK_ROWS,
    LONGEST_ROW,
    NOT_JSON,
    TOO_LONG,
    Block,
    Found,
    Lines,
    Rows,
    as_found,
)

GZIP = b"\x1f\x8b"
CHUNK = 1 << 20
BEHIND_THE_ARRAY = "there is more behind the end of the array"
DELIMITERS = (",", "\t", ";", "|")


def jsonl_blocks(path: Path, name: str) -> Iterator[Block]:
    """Blocks of lines, not parsed."""
    with opened(path) as file:
        lines: list[bytes | None] = []
        first, size = 1, 0
        for number, line in enumerate(_lines(file), start=1):
            lines.append(line)
            size += len(line or b"")
            if len(lines) >= BLOCK_ROWS or size >= BLOCK_BYTES:
                yield Lines(name, first, lines)
                lines, first, size = [], number + 1, 0
        if lines:
            yield Lines(name, first, lines)


def json_blocks(path: Path, name: str) -> Iterator[Block]:
    """Blocks of the items of one JSON array."""
    with opened(path) as file:
        yield from _blocks(name, "item", _items(file))


def csv_blocks(path: Path, name: str) -> Iterator[Block]:
    """Blocks of the rows of a CSV file with a header; numbers are those of the lines they end at."""
    with opened(path) as file:
        yield from _blocks(name, "line", _records(file))


def opened(path: Path) -> IO[bytes]:
    """The file's bytes, unzipped where it is gzipped and without a byte order mark. StorageFault when it is not UTF-8."""
    with explained("read", path):
        file: IO[bytes] = path.open("rb")
        if file.read(2) == GZIP:
            file.close()
            file = cast(IO[bytes], gzip.open(path, "rb"))  # noqa: SIM115  (whoever asked for it closes it)
        file.seek(0)
    with reading(path):
        start = file.read(4)
    if encoding := _wide(start):
        file.close()
        raise StorageFault(
            f"{path} is {encoding} text", hint=f"save it as UTF-8: iconv -f {encoding} -t UTF-8 FILE > NEW"
        )
    file.seek(len(codecs.BOM_UTF8) if start.startswith(codecs.BOM_UTF8) else 0)
    return file


def _wide(start: bytes) -> str:
    """The encoding of a text that begins with a byte order mark of 2 or 4 bytes or, without one, with ASCII so written."""
    if start in {codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE}:
        return "UTF-32"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    zeros = [place for place, byte in enumerate(start) if byte == 0]
    return "UTF-16LE" if zeros == [1, 3] else "UTF-16BE" if zeros == [0, 2] else ""


class reading:
    """Turn what a torn gzip file or a failing disk raises into a StorageFault."""

    def __init__(self, path: object) -> None:
        self._path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
            raise StorageFault(
                f"{self._path} is a damaged gzip file: {error}", hint="copy it again, or unzip what is left of it"
            ) from None
        if isinstance(error, OSError):
            raise StorageFault(
                f"cannot read {self._path}: {error.strerror or error}", hint="look at the disk"
            ) from None


def _lines(file: IO[bytes]) -> Iterator[bytes | None]:
    with reading(getattr(file, "name", "the file")):
        while line := file.readline(LONGEST_ROW + 1):
            if len(line) > LONGEST_ROW:
                while line and not line.endswith(b"\n"):
                    line = file.readline(CHUNK)
                yield None
            else:
                yield line


def _blocks(name: str, unit: str, found: Iterable[Found]) -> Iterator[Block]:
    rows: list[Found] = []
    size = 0
    for one in found:
        rows.append(one)
        size += sum(len(value) for value in (one.row or {}).values() if isinstance(value, str))
        if len(rows) >= BLOCK_ROWS or size >= BLOCK_BYTES:
            yield Rows(name, unit, rows)
            rows, size = [], 0
    if rows:
        yield Rows(name, unit, rows)


class _Text:
    """The text of a file in a window that moves on."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.text = ""
        self.at = 0
        self.ended = False

    def more(self) -> None:
        """Read on; what was passed is let go."""
        self.text = self.text[self.at :]
        self.at = 0
        size = max(CHUNK, len(self.text))  # doubling: an item of any length is parsed a few times at most
        with reading(getattr(self._file, "name", "the file")):
            data = self._file.read(size)
        self.ended = not data
        self.text += self._decoder.decode(data, final=self.ended)

    def skip(self, letters: str) -> str:
        """Pass these letters; the next one, or "" at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in letters:
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if self.ended:
                return ""
            self.more()


def _items(file: IO[bytes]) -> Iterator[Found]:
    """The items of an array. Behind an item that cannot be parsed there is no way to tell where the next begins."""
    text, decoder, number = _Text(file), json.JSONDecoder(), 0
    text.skip(" \t\r\n")
    text.at += 1  # the bracket
    while (letter := text.skip(" \t\r\n,")) != "]":
        number += 1
        value, fault = _item(text, decoder) if letter else (None, "the array is not closed: the file is torn")
        if fault:
            reason, _, detail = fault.partition(": ")
            yield Found(number, None, reason, f"{detail}{'; ' * bool(detail)}nothing behind this item can be read")
            return
        yield as_found(number, value)
    text.at += 1  # the closing bracket
    if text.skip(" \t\r\n\0\x1a"):
        behind = text.text[text.at : text.at + 60]
        yield Found(number + 1, None, BEHIND_THE_ARRAY, f"it begins with {behind!r}; nothing of it is read")


def _item(text: _Text, decoder: json.JSONDecoder) -> tuple[Any, str]:
    while True:
        try:
            value, end = decoder.raw_decode(text.text, text.at)
        except RecursionError:
            return None, f"{NOT_JSON}: nested too deeply"
        except ValueError as error:
            if text.ended or len(text.text) - text.at > LONGEST_ROW:
                fault = TOO_LONG if not text.ended else f"{NOT_JSON}: {error}"
                return None, fault
            text.more()
            continue
        if end < len(text.text) or text.ended or text.text[end - 1] in '}]"':
            text.at = end
            return value, ""
        text.more()  # a number may go on


def _records(file: IO[bytes]) -> Iterator[Found]:
    csv.field_size_limit(LONGEST_ROW)
    start = file.tell()
    head = file.read(CHUNK)
    file.seek(start)
    with io.TextIOWrapper(cast(Any, file), encoding="utf-8", errors="surrogateescape", newline="") as text:
        reader = csv.reader(text, delimiter=_delimiter(head), strict=True)
        header: list[str] | None = None
        while (cells := _cells(reader)) is not None:
            if isinstance(cells, Found):
                yield cells
            elif header is None:
                header = [cell.strip() for cell in cells]
                distinct(header, getattr(file, "name", "the file"))
            elif cells:
                yield _record(reader.line_num, header, cells)


def distinct(names: Iterable[str], path: object) -> None:
    """StorageFault when two columns have one name: only one of them would be read."""
    twice = [name for name, times in Counter(names).items() if times > 1 and name]
    if twice:
        raise StorageFault(f"{path} has two columns named {twice[0]!r}", hint="rename one of them, or take it out")


def _cells(reader: Any) -> list[str] | Found | None:
    """The next row's cells, what is wrong with them, or None at the end."""
    try:
        cells: list[str] | None = next(reader, None)
    except csv.Error as error:
        return Found(reader.line_num, None, "not CSV", str(error))
    return cells


def _record(number: int, header: list[str], cells: list[str]) -> Found:
    if len(cells) != len(header):
        said = f"{len(cells)} cells where the header has {len(header)}"
        return Found(number, None, "cells and header do not match", said)
    return Found(number, dict(zip(header, cells, strict=True)))


def _delimiter(head: bytes) -> str:
    first = head.partition(b"\n")[0].decode(errors="replace")
    return max(DELIMITERS, key=first.count)
