"""The process a run lives in: `python -m synpo_lab.jobs.worker HOME RUN_ID`, started by `launching`.

It holds the run's lock for its whole life, waits for the home's slot, calls the recipe, and says how that ended.
SIGTERM asks it to stop at the next safe point. Its output is the run's worker.log.
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

from storage import RunStore, StorageFault, Store
from storage.state import State, hold_worker_lock, set_state
from synpo_lab import recipes
from synpo_lab.errors import LabError
from synpo_lab.home import open_store
from synpo_lab.jobs.mapping import find_at_the_end
from synpo_lab.jobs.provenance import stored_config
from synpo_lab.jobs.queue import POLL_SECONDS, hold_slot
from synpo_lab.jobs.timeline import RUN_STAGE
from synpo_lab.origins import note_origins
from synpo_lab.run import STARTED, Run, StopRequested

Finish = Callable[[Run, RunStore], None]


class StopSignal:
    """Remembers that SIGTERM (or SIGINT) came."""

    def __init__(self) -> None:
        self.came = False
        signal.signal(signal.SIGTERM, self._take)
        signal.signal(signal.SIGINT, self._take)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        # A forked helper (a data loader, a pool) must still end when it is told to.
        os.register_at_fork(after_in_child=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL))

    def check(self) -> None:
        if self.came:
            raise StopRequested

    def _take(self, number: int, frame: object) -> None:
        self.came = True


class Outcome:
    """The run's state as this process tells it. Once it has ended, nothing else can be said."""

    def __init__(self, run: RunStore) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._ended = False

    def say(self, state: State, message: str = "", *, last: bool = False) -> None:
        with self._lock:
            if not self._ended:
                self._ended = last
                set_state(self._run.folder, state, message)

    def end(self, state: State, message: str = "") -> None:
        try:
            level = "error" if state == "failed" else "info"
            self._run.event(RUN_STAGE, f"{state}: {message}" if message else state, level=level)
        finally:
            self.say(state, message, last=True)


def main(
    home: Path,
    run_id: str,
    find_recipe: Callable[[str], recipes.Recipe] = recipes.get,
    finish: Finish = find_at_the_end,
) -> int:
    """Work on one run until it ends. Returns the exit code: 0 once it said how, 2 when another worker has the run."""
    stop = StopSignal()
    store = open_store(home)
    run = store.run(run_id)
    try:
        with hold_worker_lock(run.folder):
            _work(store, run, stop, find_recipe, finish)
            return 0
    except StorageFault as fault:
        _print(str(fault))
        return 2


def _work(
    store: Store, run: RunStore, stop: StopSignal, find_recipe: Callable[[str], recipes.Recipe], finish: Finish
) -> None:
    outcome = Outcome(run)
    outcome.say("queued")
    _announce_stop(stop, outcome)
    try:
        config = stored_config(run)
        is_import = config.recipe == "import"
        with nullcontext() if is_import else hold_slot(store, run.run_id, stop.check):  # an import needs no model
            outcome.say("running")
            run.event(RUN_STAGE, STARTED)
            run.set_torn_aside()
            at_work = Run(run, config, lambda: stop.came)
            if not is_import:
                note_origins(at_work)
            find_recipe(config.recipe)(config, at_work)
            finish(at_work, run)
            outcome.end("imported" if is_import else "finished")
    except StopRequested:
        outcome.end("stopped", "everything made so far is kept")
    except (LabError, StorageFault) as error:
        _fail(outcome, error.message, error.hint)
    except Exception as error:
        _fail(outcome, f"{type(error).__name__}: {error}", f"the whole story is in {run.folder / 'worker.log'}")


def _announce_stop(stop: StopSignal, outcome: Outcome) -> None:
    """Say "stopping" as soon as the signal comes. A signal handler must not write files: it may interrupt a write."""

    def watch() -> None:
        while not stop.came:
            time.sleep(POLL_SECONDS)
        outcome.say("stopping", "at the next safe point")

    threading.Thread(target=watch, daemon=True).start()


def _fail(outcome: Outcome, message: str, hint: str) -> None:
    _print(traceback.format_exc())
    outcome.end("failed", f"{message}\nhint: {hint}" if hint else message)


def _print(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201  (worker.log is where it goes)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
