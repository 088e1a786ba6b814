"""Folders that are either wholly there or not there at all."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import StorageFault, explained

FILE = Path("data") / "train-00000.parquet"
_OURS = {"data", "README.md"}


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, with its data folder made; it becomes `path` when the block ends well.

    A folder there before must be a dataset written by us: StorageFault when there is anything else in it.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with explained("write", path):
        _check_ours(path)
        try:
            (temporary / FILE).parent.mkdir(parents=True)
            yield temporary
            if path.exists():
                shutil.rmtree(path)
            temporary.rename(path)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _check_ours(path: Path) -> None:
    others = {entry.name for entry in path.iterdir()} - _OURS if path.is_dir() else set()
    if others or path.is_file():
        raise StorageFault(f"{path} is no dataset written by the lab, and is left as it is", hint="choose another path")
