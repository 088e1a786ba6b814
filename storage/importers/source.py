"""What the user named: a file, a folder of files, or a data set of the Hub; told by its content, not by its name."""

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage.errors import StorageFault, explained
from storage.importers import tables, texts
from storage.importers.blocks import Block
from storage.importers.hub import hub_blocks

HUB = "hub:"
CONTAINERS: dict[str, Callable[[Path, str], Iterator[Block]]] = {
    "JSONL": texts.jsonl_blocks,
    "JSON": texts.json_blocks,
    "CSV": texts.csv_blocks,
    "Parquet": tables.parquet_blocks,
    "Arrow": tables.arrow_blocks,
}
# Of a folder, the first kind that it holds is read.
PATTERNS = (
    "*.parquet",
    "*.arrow",
    "*.jsonl",
    "*.jsonl.gz",
    "*.ndjson",
    "*.json",
    "*.json.gz",
    "*.csv",
    "*.csv.gz",
    "*.tsv",
)
TABLE_ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
JSON_ENDINGS = (".jsonl", ".ndjson", ".json", ".jsonl.gz", ".ndjson.gz", ".json.gz")
ARCHIVES = {  # by their first bytes
    b"PK\x03\x04": "a zip archive, or a workbook of Excel",
    b"BZh91A": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"\x28\xb5\x2f\xfd": "compressed by zstd",
}
NOT_DATA = {"dataset_info.json", "dataset_dict.json", "state.json", "dataset_infos.json"}
TRAIN = "train"


@dataclass(frozen=True, slots=True)
class Source:
    """One or several files of one kind, read one after the other."""

    name: str
    container: str  # a key of CONTAINERS, or "Hub"
    files: tuple[Path, ...] = ()
    note: str = ""  # what was chosen among what there is

    @property
    def size(self) -> int:
        """Bytes on disk; 0 for a data set of the Hub."""
        with explained("look at", Path(self.name)):
            return sum(path.stat().st_size for path in self.files)

    def blocks(self) -> Iterator[Block]:
        """All rows, in order. StorageFault when a file is torn or gone."""
        if self.container == "Hub":
            yield from hub_blocks(self.name)
            return
        read = CONTAINERS[self.container]
        for path in self.files:
            yield from read(path, path.name)

    def stamps(self) -> list[tuple[int, int]]:
        """Size and time of each file, which tell that one was changed meanwhile."""
        with explained("look at", Path(self.name)):
            found = [path.stat() for path in self.files]
        return [(one.st_size, one.st_mtime_ns) for one in found]

    def fingerprint(self) -> str:
        """16 hex digits that change with any byte of the files; of a data set of the Hub, with its name alone."""
        digest = hashlib.sha256(f"{self.container} {self.name if not self.files else ''}".encode())
        for path in self.files:
            with explained("read", path), path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

    def count(self) -> int | None:
        """How many rows there are, refused ones included, where a quick look tells; else None."""
        if self.container == "Parquet":
            return sum(map(tables.parquet_rows, self.files))
        if self.container == "JSONL":
            return sum(map(_line_count, self.files))
        return None


def open_source(name: str) -> Source:
    """The source of that name. StorageFault when there is none, or it is nothing that can be imported."""
    if name.startswith(HUB):
        return Source(name, "Hub")
    path = Path(name).expanduser()
    with explained("look at", path):
        is_folder, exists, is_file = path.is_dir(), path.exists(), path.is_file()
    if is_folder:
        return _folder(path)
    if not exists:
        raise StorageFault(f"there is no file {name}", hint="check the path; a data set of the Hub is hub:OWNER/NAME")
    if not is_file:  # a pipe or a device: it can be read once, or never ends
        raise StorageFault(f"{name} is neither a file nor a folder", hint="write what it gives into a file first")
    return Source(str(path), _container(path), (path,))


def _container(path: Path) -> str:
    """What kind of file it is, by its first bytes; CSV looks like any text and is known by its name."""
    with explained("read", path), path.open("rb") as file:
        start = file.read(6)
    if not start:
        raise StorageFault(f"{path} is empty", hint="one JSON object per line, for example")
    if start.startswith(b"PAR1"):
        return "Parquet"
    if archive := next((what for magic, what in ARCHIVES.items() if start.startswith(magic)), ""):
        raise StorageFault(f"{path} is {archive}", hint=f"unpack it first: {_KINDS}")
    if start == b"ARROW1" or start.startswith(b"\xff\xff\xff\xff"):
        return "Arrow"
    return _text_container(path)


def _text_container(path: Path) -> str:
    with texts.opened(path) as file, texts.reading(path):
        head = file.read(65_536)
    letters = head.lstrip()
    if not letters:
        raise StorageFault(f"{path} is empty", hint="one JSON object per line, for example")
    if head.startswith((texts.GZIP, b"PAR1")):
        raise StorageFault(
            f"{path} is gzipped over a file that is compressed already", hint="unzip it once: gunzip FILE"
        )
    if head.startswith(b"version https://git-lfs"):
        raise StorageFault(f"{path} is a Git LFS pointer, not the file itself", hint="fetch it with `git lfs pull`")
    if letters[:15].lower().startswith((b"<!doctype", b"<html")):
        raise StorageFault(f"{path} is a web page", hint="download the file itself, not the page that shows it")
    if path.name.lower().endswith(TABLE_ENDINGS):
        return "CSV"
    if b"\0" in head[:512] and not letters.startswith((b"{", b"[")):
        raise StorageFault(f"{path} is a binary file of no known kind", hint=_KINDS)
    if letters.startswith(b"["):
        return "JSON"
    if letters.startswith(b"{") and letters.partition(b"\n")[0].strip() in {b"{", b"{}"}:
        raise StorageFault(
            f"{path} is one JSON object written over several lines",
            hint="give an array of objects, or one object per line",
        )
    return "JSONL" if letters.startswith(b"{") or path.name.lower().endswith(JSON_ENDINGS) else "CSV"


_KINDS = "JSONL, JSON, CSV, Parquet or Arrow, gzipped or not, can be imported"


def _folder(folder: Path) -> Source:
    with explained("list", folder):
        if (folder / "dataset_dict.json").is_file():
            return _split(folder)
        if (folder / "state.json").is_file():
            return Source(str(folder), "Arrow", tuple(_saved_files(folder)))
        return _loose_files(folder)


def _split(folder: Path) -> Source:
    """One split of a saved `DatasetDict`."""
    splits = _json(folder / "dataset_dict.json").get("splits") or []
    if not splits:
        raise StorageFault(f"{folder} is a data set without splits", hint="save it again with `save_to_disk`")
    chosen = TRAIN if TRAIN in splits else splits[0]
    note = f"split {chosen!r} of {', '.join(splits)}; for another give {folder}/NAME" if len(splits) > 1 else ""
    return Source(str(folder), "Arrow", tuple(_saved_files(folder / str(chosen))), note)


def _saved_files(folder: Path) -> Iterator[Path]:
    for entry in _json(folder / "state.json").get("_data_files") or []:
        name = Path(str(entry.get("filename", ""))).name  # never outside the folder
        yield folder / name


def _loose_files(folder: Path) -> Source:
    """The files of the first kind there is, anywhere below; those of the split train where names tell splits."""
    for pattern in PATTERNS:
        found = sorted(path for path in folder.rglob(pattern) if _is_data(path, folder))
        if found:
            chosen = [path for path in found if path.name.startswith(TRAIN) or path.parent.name == TRAIN] or found
            note = "; ".join(filter(None, [_of_the_split(chosen, found), _passed_over(folder, found)]))
            return Source(str(folder), _container(chosen[0]), tuple(chosen), note)
    raise StorageFault(f"{folder} holds no data files", hint=_KINDS)


def _is_data(path: Path, folder: Path) -> bool:
    """Whether it is a file that somebody put there: no cache of a download, no shadow that macOS leaves (`._a.jsonl`)."""
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return not hidden and path.name not in NOT_DATA and path.is_file()


def _of_the_split(chosen: Sequence[Path], found: Sequence[Path]) -> str:
    return f"{len(chosen)} of {len(found)} files: those of {TRAIN!r}" if len(chosen) < len(found) else ""


def _passed_over(folder: Path, found: Sequence[Path]) -> str:
    """The data files of other kinds, which are not read."""
    every = {path for pattern in PATTERNS for path in folder.rglob(pattern) if _is_data(path, folder)}
    others = sorted(every - {*found})
    if not others:
        return ""
    named = ", ".join(str(path.relative_to(folder)) for path in others[:3])
    more = f" and {len(others) - 3:,} more" if len(others) > 3 else ""
    return f"passed over, of another kind than {found[0].name}: {named}{more}; give them as a file each"


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise StorageFault(f"{path} is not JSON: {error}", hint="copy the data set again") from None
    return value if isinstance(value, dict) else {}


def _line_count(path: Path) -> int:
    """Lines of the file, gzipped or not."""
    count, last = 0, b"\n"
    with texts.opened(path) as file, texts.reading(path):
        while data := file.read(texts.CHUNK):
            count, last = count + data.count(b"\n"), data[-1:]
    return count + (last != b"\n")


def fingerprint_of(sources: Sequence[Source]) -> str:
    """One fingerprint of several sources, in their order."""
    return hashlib.sha256(" ".join(source.fingerprint() for source in sources).encode()).hexdigest()[:16]
