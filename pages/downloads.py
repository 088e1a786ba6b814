"""Files made for visitors to fetch. None stays long, and together they cannot fill the disk."""

import os
import secrets
import shutil
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from gradio.utils import get_upload_folder

from synpo_lab.errors import StorageError

KEPT_SECONDS = 600.0
MOST_BYTES = 4 * 2**30


class Downloads:
    """A folder of files to fetch, each in a folder of its own with a name nobody guesses; gone when this is.

    It lies where gradio serves files from: elsewhere gradio would copy each file there, and keep the copy.
    """

    def __init__(
        self, *, seconds: float = KEPT_SECONDS, most: int = MOST_BYTES, clock: Callable[[], float] = time.time
    ) -> None:
        served = Path(get_upload_folder())
        served.mkdir(parents=True, exist_ok=True)
        self.folder = Path(tempfile.mkdtemp(prefix="synpo-lab-", dir=served))
        self._seconds, self._most, self._clock = seconds, most, clock
        weakref.finalize(self, shutil.rmtree, self.folder, True)

    def path(self, name: str) -> Path:
        """Where to write a file of that name. StorageError while too much is still to be fetched."""
        self._remove_old()
        size = sum(one.st_size for one in _stats(self.folder))
        if size > self._most:
            raise StorageError(
                f"{size / 2**30:.1f} GiB of downloads wait to be fetched", hint="ask again in some minutes"
            )
        made = self.folder / secrets.token_hex(8) / name
        made.parent.mkdir()
        return made

    def _remove_old(self) -> None:
        """What nothing was written to for a while was fetched or forgotten."""
        for one in list(self.folder.iterdir()):
            latest = max((stat.st_mtime for stat in _stats(one)), default=0.0)
            if self._clock() - latest > self._seconds:
                shutil.rmtree(one, ignore_errors=True)


def _stats(folder: Path) -> Iterator[os.stat_result]:
    """Of a folder and what is in it now; others write and remove there meanwhile."""
    for path in [folder, *folder.rglob("*")]:
        with suppress(FileNotFoundError):
            yield path.stat()
