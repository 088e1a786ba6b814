"""JSON lines that several processes append to and read while they grow."""

import errno
import json
import os
from pathlib import Path
from typing import Any

from storage.errors import explained
from storage.schema import whole_text


def append_line(path: Path, value: dict[str, Any]) -> None:
    """Add one line with a single write, so that lines of different writers do not mix.

    When the last line was torn by a crash, the new one starts on a line of its own.
    """
    data = whole_text(json.dumps(value, ensure_ascii=False)).encode() + b"\n"
    with explained("append to", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            data = b"\n" + data if _is_torn(descriptor) else data
            if os.write(descriptor, data) < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)


def read_lines(path: Path, after: int) -> tuple[list[dict[str, Any]], int]:
    """The whole lines from byte `after` on, and the byte after the last of them. Damaged lines are left out."""
    with explained("read", path):
        try:
            with path.open("rb") as file:
                file.seek(after if after <= os.fstat(file.fileno()).st_size else 0)
                start = file.tell()
                data = file.read()
        except FileNotFoundError:
            return [], 0
    end = data.rfind(b"\n") + 1
    values = (_parsed(line) for line in data[:end].splitlines())
    return [value for value in values if value is not None], start + end


def _is_torn(descriptor: int) -> bool:
    size = os.fstat(descriptor).st_size
    return size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
