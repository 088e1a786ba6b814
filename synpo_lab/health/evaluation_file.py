"""Evaluation prompts from a file: AlpacaEval's JSON, or JSONL of objects or texts."""

import json
from pathlib import Path
from typing import Any

from synpo_lab.errors import DataError

NAMES = ("instruction", "prompt", "question", "text", "input")
LARGEST = 500_000_000  # bytes


def read_evaluation_prompts(path: Path) -> list[str]:
    """The prompts of a file. DataError when it cannot be read, or a row has no prompt."""
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path} has more than {LARGEST:,} bytes", hint="give a file of evaluation prompts alone")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}", hint="check the name of the file") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start})", hint="save it as UTF-8") from None
    prompts = [_prompt(row, path, place) for place, row in _rows(text, path)]
    if not prompts:
        raise DataError(f"{path} has no rows", hint="give a JSON list, or one JSON object per line")
    return prompts


def _rows(text: str, path: Path) -> list[tuple[str, Any]]:
    if text.lstrip().startswith("["):
        whole = _parsed(text, path, "the file")
        return [(f"row {i}", row) for i, row in enumerate(whole, 1)]
    lines = ((f"line {i}", line) for i, line in enumerate(text.split("\n"), 1) if line.strip())
    return [(place, _parsed(line, path, place)) for place, line in lines]


def _parsed(text: str, path: Path, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}, {place}: no JSON ({error})", hint="give a JSON list, or one JSON object per line"
        ) from None


def _prompt(row: Any, path: Path, place: str) -> str:
    if isinstance(row, dict):
        row = next((row[name] for name in NAMES if isinstance(row.get(name), str)), None)
    if not isinstance(row, str):
        raise DataError(
            f"{path}, {place}: there is no prompt",
            hint=f"each row is a text, or an object with one of {', '.join(NAMES)}",
        )
    return row
