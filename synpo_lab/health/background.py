"""A check as a process of its own: started from a page, and it goes on when the page is closed."""

import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from storage import RunStore
from storage.locks import is_held
from synpo_lab.errors import RunError
from synpo_lab.health.checkup import run_to_check
from synpo_lab.health.progress import LOCK, STARTING, forget, progress, say
from synpo_lab.home import storage_errors

COMMAND = (sys.executable, "-P", "-m", "synpo_lab.cli", "check")  # -P: nothing in the current folder shadows a module
LOG = "health.log"
LAST_WORDS = 2_000  # characters


def start(home: Path, run_id: str, files: Sequence[Path] = (), *, most_texts: int | None = None) -> None:
    """Start a check of a run, of the texts of at most `most_texts` pairs (None: of as many as the command line reads).

    RunError when there is no such run, or a check of it is going on.
    """
    with storage_errors():
        run = run_to_check(home, run_id)
        if progress(run) is not None:
            raise RunError(f"a check of {run_id} is going on", hint="wait for it")
        say(run, STARTING)
    asked = [part for path in files for part in ("--eval", str(path))]
    asked += [] if most_texts is None else ["--texts", str(most_texts)]
    with (run.folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, run_id, "--home", str(home), "--json", *asked],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    threading.Thread(target=_await, args=(process, run), daemon=True).start()


def failure(run: RunStore) -> str | None:
    """The last words of a check that `start` started and that failed; None when it did not."""
    with suppress(FileNotFoundError):
        said = (run.folder / LOG).read_text(encoding="utf-8", errors="replace").strip()
        return said[-LAST_WORDS:] or None
    return None


def _await(process: "subprocess.Popen[bytes]", run: RunStore) -> None:
    """Reap it, and take away what it did not live to take away."""
    code = process.wait()
    if is_held(run.folder / LOCK):
        return
    forget(run)
    if code and failure(run) is None:
        (run.folder / LOG).write_text(f"the check ended with code {code}\n", encoding="utf-8")
