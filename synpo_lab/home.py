"""Where things live."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage import SQLFault, StorageFault, Store
from synpo_lab.errors import QueryError, StorageError
from synpo_lab.records import TABLES


def default_home() -> Path:
    """$SYNPO_LAB_HOME, else the persistent disk of a Space, else a folder in the user's home."""
    if chosen := os.environ.get("SYNPO_LAB_HOME"):
        return Path(chosen)
    if on_a_space() and os.access("/data", os.W_OK):
        return Path("/data/synpo-lab")
    return Path.home() / ".synpo-lab"


def on_a_space() -> bool:
    """Whether this is a Hugging Face Space, where visitors are strangers."""
    return os.environ.get("SYSTEM") == "spaces" or bool(os.environ.get("SPACE_ID"))


def for_looking_only() -> bool:
    """Whether the pages are to change nothing whoever asks: on a Space, unless its owner has set $SYNPO_LAB_WRITABLE=1."""
    return on_a_space() and os.environ.get("SYNPO_LAB_WRITABLE") != "1"


def open_home(path: Path | None = None, *, writable: bool = True) -> Path:
    """The lab home, made if absent. Raises StorageError when it cannot be written and must be."""
    home = (path or default_home()).expanduser().absolute()
    try:
        (home / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if writable or not home.is_dir():
            raise StorageError(
                f"the lab home {home} cannot be made: {error.strerror}",
                hint="choose another folder with --home DIR or SYNPO_LAB_HOME",
            ) from None
    if writable and not os.access(home / "runs", os.W_OK):
        raise StorageError(
            f"the lab home {home} is read-only",
            hint="choose another folder with --home DIR, or look at it with `synpo-lab serve --read-only`",
        )
    return home


def open_store(home: Path, *, read_only: bool = False) -> Store:
    """The store of a lab home, knowing our record types."""
    return Store(home, TABLES, read_only=read_only)


@contextmanager
def storage_errors() -> Iterator[None]:
    """What the storage layer complains of inside the block comes out as a StorageError or QueryError."""
    try:
        yield
    except SQLFault as fault:
        raise QueryError(fault.message, hint=fault.hint) from fault
    except StorageFault as fault:
        raise StorageError(fault.message, hint=fault.hint) from fault
