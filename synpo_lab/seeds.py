"""Reads what the user brings: seed rows and evaluation prompts, from JSONL, JSON or the pocket world."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from synpo_lab.errors import DataError

_PROMPT_FIELDS = ("prompt", "instruction", "question")
_GOLD_FIELDS = ("gold", "output", "response", "answer", "completion")


def load_seeds(source: str) -> list[tuple[str, str]]:
    """(prompt, gold answer) rows, first occurrence of each prompt. Raises DataError naming the line that is wrong."""
    if source == "pocket":
        from synpo_lab.pocket import data

        return list(data.seeds())
    path = Path(source)
    seeds: dict[str, str] = {}
    for place, row in _rows(path):
        prompt, gold = _text(row, _PROMPT_FIELDS, place), _text(row, _GOLD_FIELDS, place)
        seeds.setdefault(prompt, gold)
    if not seeds:
        raise DataError(f"{path} holds no seeds", hint='one JSON object per line: {"prompt": "...", "gold": "..."}')
    return list(seeds.items())


def load_prompts(source: str) -> list[str]:
    """Distinct evaluation prompts of a suite: "pocket", "none", or a file. Raises DataError like `load_seeds`."""
    if source == "none":
        return []
    if source == "pocket":
        from synpo_lab.pocket import data

        return list(data.evaluation_prompts())
    path = Path(source)
    prompts = dict.fromkeys(_text(row, _PROMPT_FIELDS, place) for place, row in _rows(path))
    if not prompts:
        raise DataError(f"{path} holds no prompts", hint='one JSON object per line: {"prompt": "..."}')
    return list(prompts)


def load_paragraphs(source: str, seeds: Sequence[tuple[str, str]]) -> list[str]:
    """Texts to take keywords from: the seed prompts, the pocket world's paragraphs, or the lines of a file."""
    if source == "seeds":
        return [prompt for prompt, _ in seeds]
    if source == "pocket":
        from synpo_lab.pocket import data

        return list(data.paragraphs())
    return [line for line in _read(Path(source)).splitlines() if line.strip()]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
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
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
    wrong = [name for name in names if name in row]
    said = f"has an empty or non-text {wrong[0]!r}" if wrong else f"has no {names[0]!r}; it has {sorted(row)}"
    raise DataError(f"{place} {said}", hint=f"every row needs one of {', '.join(names)} as text")
