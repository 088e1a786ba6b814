"""StorageFault: everything of ours that can go wrong with files and SQL, each with what to do next."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HINTS = {
    errno.ENOSPC: "the disk is full: free some space, then resume; nothing that was complete is lost",
    errno.EDQUOT: "the disk quota is used up: free some space, then resume; nothing that was complete is lost",
    errno.EROFS: "the disk is read-only: choose another lab home, or open this one read-only",
    errno.EACCES: "give this user the right to read and write the lab home, or choose another one",
    errno.EPERM: "give this user the right to read and write the lab home, or choose another one",
    errno.EMFILE: "too many open files: raise the limit with `ulimit -n 4096`",
    errno.ENAMETOOLONG: "choose a shorter name",
}


class StorageFault(Exception):
    """Files could not be read or written as asked. `hint` says what to do."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nhint: {self.hint}" if self.hint else self.message


class SQLFault(StorageFault):
    """A statement given to the SQL console was refused, failed, or took too long."""


@contextmanager
def explained(doing: str, path: Path) -> Iterator[None]:
    """Turn an operating-system error inside the block into a StorageFault saying what was being done to what."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        hint = _HINTS.get(error.errno or 0, "look at the folder's rights and free space")
        raise StorageFault(f"cannot {doing} {path}: {reason}", hint=hint) from error
