"""Reads what the user brings: seed rows, evaluation prompts and texts for keywords.

From JSONL, JSON, the pocket world, a folder that `datasets` can read, or `hub:OWNER/NAME` with `:SPLIT` behind it where
that is not "train". Folders and the Hub are streamed: no more is read than is asked for.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synpo_lab.errors import DataError

_PROMPT_FIELDS = ("prompt", "instruction", "question")
_GOLD_FIELDS = ("gold", "output", "response", "answer", "completion", "chosen", "messages")
_TEXT_FIELDS = ("text", "content", "paragraph")
HUB = "hub:"
FEWEST_WORDS = 8  # of a line of a document that counts as a paragraph


def load_seeds(source: str, limit: int | None = None) -> list[tuple[str, str]]:
    """(prompt, gold answer) rows, first occurrence of each prompt, at most `limit`.

    Raises DataError naming the line that is wrong, or why a data set cannot be read.
    """
    if source == "pocket":
        from synpo_lab.pocket import data

        return list(data.seeds())[:limit]
    seeds: dict[str, str] = {}
    for place, row in _rows_of(source):
        prompt, gold = _text(row, _PROMPT_FIELDS, place), _text(row, _GOLD_FIELDS, place)
        seeds.setdefault(prompt, gold)
        if len(seeds) == limit:
            break
    if not seeds:
        raise DataError(f"{source} holds no seeds", hint='one JSON object per line: {"prompt": "...", "gold": "..."}')
    return list(seeds.items())


def load_prompts(source: str) -> list[str]:
    """Distinct evaluation prompts of a suite: "pocket", "none", or a file. Raises DataError like `load_seeds`."""
    if source == "none":
        return []
    if source == "pocket":
        from synpo_lab.pocket import data

        return list(data.evaluation_prompts())
    prompts = dict.fromkeys(_text(row, _PROMPT_FIELDS, place) for place, row in _rows_of(source))
    if not prompts:
        raise DataError(f"{source} holds no prompts", hint='one JSON object per line: {"prompt": "..."}')
    return list(prompts)


def paragraphs(source: str, seeds: Sequence[tuple[str, str]], limit: int | None = None) -> Iterator[str]:
    """Texts to take keywords from, at most `limit`, read as they are asked for.

    The seed prompts, the pocket world's paragraphs, the lines of a text file, or the longer lines of a data set's documents.
    """
    return itertools.islice(_texts(source, seeds), limit)


def _texts(source: str, seeds: Sequence[tuple[str, str]]) -> Iterator[str]:
    if source == "seeds":
        yield from (prompt for prompt, _ in seeds)
    elif source == "pocket":
        from synpo_lab.pocket import data

        yield from data.paragraphs()
    elif _is_dataset(source):
        for place, row in _streamed(source):
            text = _text(row, _TEXT_FIELDS, place)
            yield from (line.strip() for line in text.splitlines() if len(line.split()) >= FEWEST_WORDS)
    else:
        yield from _lines(Path(source))


def _lines(path: Path) -> Iterator[str]:
    """The lines of a text file that are not blank, read as they are asked for."""
    with _explained(path), path.open(encoding="utf-8-sig") as file:
        for line in file:
            if line.strip():
                yield line.rstrip("\n")


def _is_dataset(source: str) -> bool:
    return source.startswith(HUB) or Path(source).is_dir()


def _rows_of(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    return _streamed(source) if _is_dataset(source) else _rows(Path(source))


def _streamed(source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, row) of a data set."""
    from datasets import load_dataset

    name, _, split = source.removeprefix(HUB).partition(":") if source.startswith(HUB) else (source, "", "")
    try:
        found = load_dataset(name, split=split or "train", streaming=True)
        for number, row in enumerate(found, start=1):
            yield f"{source} row {number}", row
    except DataError:
        raise
    except Exception as error:  # of many libraries: the network, the Hub's answers, file formats
        raise DataError(
            f"{source} cannot be read: {type(error).__name__}: {error}",
            hint="look at the name, the split and the network; a folder holds Parquet, JSONL or CSV files",
        ) from error


def _read(path: Path) -> str:
    with _explained(path):
        return path.read_text(encoding="utf-8-sig")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """What goes wrong with a file inside the block comes out as a DataError."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"no file {path}", hint="give the path of a JSONL file, or 'pocket'") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder", hint="give the JSONL file in it") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: byte {error.start} is wrong", hint="save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}", hint="check the path and its permissions") from None


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, row) of a JSONL file or a JSON array."""
    text = _read(path)
    if not text.strip():
        raise DataError(f"{path} is empty", hint="one JSON object per line")
    if text.lstrip().startswith("["):
        yield from _array_rows(path, text)
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield _row(line, f"{path} line {number}")


def _array_rows(path: Path, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        items = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(
            f"{path} is not JSON: {error}", hint="a JSON array of objects, or one object per line"
        ) from None
    for number, item in enumerate(items, start=1):
        yield _checked(item, f"{path} item {number}")


def _row(line: str, place: str) -> tuple[str, dict[str, Any]]:
    try:
        return _checked(json.loads(line), place)
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{place} is not JSON: {error}", hint="one JSON object per line") from None


def _checked(item: Any, place: str) -> tuple[str, dict[str, Any]]:
    if not isinstance(item, dict):
        raise DataError(f"{place} is a {type(item).__name__}, not an object", hint='{"prompt": "...", "gold": "..."}')
    return place, item


def _text(row: dict[str, Any], names: Sequence[str], place: str) -> str:
    for name in names:
        value = _last_said(row.get(name))
        if isinstance(value, str) and value.strip():
            return value.strip()
    wrong = [name for name in names if name in row]
    said = f"has an empty or non-text {wrong[0]!r}" if wrong else f"has no {names[0]!r}; it has {sorted(row)}"
    raise DataError(f"{place} {said}", hint=f"every row needs one of {', '.join(names)} as text")


def _last_said(value: Any) -> Any:
    """Of a list of messages the last one's text; anything else as it is."""
    if isinstance(value, list) and value and isinstance(value[-1], dict):
        return value[-1].get("content")
    return value
