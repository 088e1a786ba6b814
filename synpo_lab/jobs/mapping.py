"""Find the topics of a run's prompts: at the end of a run, in its worker; on demand, in a process of its own."""

import subprocess
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage import RunStore
from storage.locks import is_held
from synpo_lab.errors import LabError, RunError
from synpo_lab.home import open_home, open_store, storage_errors
from synpo_lab.jobs.launching import START_SECONDS, worker_environment
from synpo_lab.jobs.provenance import stored_config
from synpo_lab.records import Prompt
from synpo_lab.run import Run
from synpo_lab.topics import TFIDF, write_topics
from synpo_lab.topics.writing import LOCK, MARK

STAGE = "find topics"
LOG = "topics.log"
COMMAND = (sys.executable, "-P", "-m", "synpo_lab.cli", "topics")
AT_MOST = 100_000  # prompts; of more, nobody waits for topics that were not asked for


@dataclass(frozen=True, slots=True)
class TopicState:
    """How far the topics of a run are."""

    working: bool  # a process is at it
    made: dict[str, Any] | None  # TopicsMade as it was marked; None when there are none
    problem: str = ""  # why the last process that was asked for them found none


def topic_state(home: Path, run_id: str) -> TopicState:
    """Whether the topics of a run are being found, and what was found before."""
    with storage_errors():
        run = open_store(home, read_only=True).run(run_id)
        working = is_held(run.folder / LOCK)
        return TopicState(working, run.marker(MARK), "" if working else _problem(run))


def _problem(run: RunStore) -> str:
    log = run.folder / LOG
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    if "Traceback" in text:
        return text.strip().splitlines()[-1]
    return text.removeprefix("error: ").strip() if text.startswith("error: ") else ""


def find_topics(
    home: Path, run_id: str, number: int | None = None, embeddings: str = TFIDF
) -> "subprocess.Popen[bytes]":
    """Start `synpo-lab topics` in a process that outlives whoever started it; it is at work, or has ended, on return.

    RunError when one is at it already.
    """
    open_home(home)
    if topic_state(home, run_id).working:
        raise RunError(f"the topics of run {run_id} are being found already", hint="wait until it is done")
    with storage_errors():
        run = open_store(home).run(run_id)
        environment = worker_environment(stored_config(run))
    model = embeddings if embeddings == TFIDF else str(Path(embeddings).expanduser().absolute())
    asked = ["--embeddings", model, *(["--topics", str(number)] if number else [])]
    with (run.folder / LOG).open("wb") as log:
        process = subprocess.Popen(
            [*COMMAND, run_id, "--home", str(home.absolute()), *asked],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            cwd=run.folder,
            start_new_session=True,
        )
    threading.Thread(target=process.wait, daemon=True).start()  # so that a long-lived server keeps no zombies
    deadline = time.monotonic() + START_SECONDS
    while process.returncode is None and not is_held(run.folder / LOCK) and time.monotonic() < deadline:
        time.sleep(0.02)
    return process


def find_at_the_end(run: Run, store: RunStore) -> None:
    """The last stage of every run. It never fails a run: everything else is made by then."""
    prompts = len(store.ids(Prompt))
    if prompts > AT_MOST:
        run.log(f"its {prompts:,} prompts get topics on demand: `synpo-lab topics {run.run_id}`", stage=STAGE)
        return
    if not prompts:
        return
    try:
        with run.stage(STAGE) as progress:  # of how many is known once they were read

            def count(done: int) -> None:
                progress.advance(done)
                progress.check_stop()

            write_topics(store, count=count)
    except LabError as error:
        run.log(f"no topics: {error}", "warning", stage=STAGE)
    except Exception as error:
        traceback.print_exc()
        run.log(f"no topics: {type(error).__name__}: {error}", "warning", stage=STAGE)
