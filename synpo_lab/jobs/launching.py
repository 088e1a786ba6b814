"""Start a run, or start it again, in a process of its own that outlives whoever asked for it."""

import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from storage import RunStore
from storage.state import NEEDS_WORKER, read_state
from synpo_lab.config import RunConfig
from synpo_lab.errors import RunError
from synpo_lab.home import open_home, open_store, storage_errors
from synpo_lab.jobs.changing import change
from synpo_lab.jobs.paths import with_absolute_paths
from synpo_lab.jobs.provenance import provenance, stored_config
from synpo_lab.jobs.watching import log_tail

WORKER = (sys.executable, "-P", "-m", "synpo_lab.jobs.worker")  # -P: nothing in the current folder shadows a module
START_SECONDS = 30.0
REPORTED = {0, 2}  # a worker's exit codes: it said how the run ended, or another worker had the run
ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"


def launch(home: Path, config: RunConfig, run_id: str | None = None, *, name: str | None = None) -> str:
    """Make the run's folder and start its worker; return the run's id once the worker has it.

    Without `run_id`, one is made of `name` (else the recipe's) and the time. Raises StorageError when there is a run of
    that id or the home cannot be written, RunError when the worker does not start.
    """
    open_home(home)
    run_id = run_id or new_run_id(name or config.recipe)
    pinned = with_absolute_paths(config)
    with storage_errors():
        run = open_store(home).create_run(run_id, pinned.to_yaml(), provenance(pinned))
        start_worker(run, pinned)
    return run_id


def resume(home: Path, run_id: str, changes: Sequence[str] = ()) -> None:
    """Start a stopped, interrupted or failed run's worker again, with `changes` ("engine.batch_size=8") to its config.

    RunError when it is alive or finished, or when what a change would touch is made already (see jobs.changing).
    """
    open_home(home)
    with storage_errors():
        run = open_store(home).run(run_id)
        state = read_state(run.folder).state
        if state in NEEDS_WORKER:
            raise RunError(
                f"run {run_id} is {state} already", hint=f"watch it with `synpo-lab status {run_id} --follow`"
            )
        if state in {"finished", "imported"}:
            raise RunError(
                f"run {run_id} is {state}: there is nothing to resume", hint="start another with `synpo-lab run`"
            )
        start_worker(run, change(run, changes) if changes else stored_config(run))


def new_run_id(name: str) -> str:
    """For example "pocket-20260102-1530-k3f9"."""
    word = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in name.lower()).strip("-")
    suffix = "".join(secrets.choice(ALPHABET) for _ in range(4))
    return f"{word[:40] or 'run'}-{time.strftime('%Y%m%d-%H%M')}-{suffix}"


def start_worker(run: RunStore, config: RunConfig) -> None:
    """Start the process that works on a run, and wait until it has it. RunError when it dies at once."""
    with (run.folder / "worker.log").open("ab") as log:
        worker = subprocess.Popen(
            [*WORKER, str(run.folder.parent.parent.absolute()), run.run_id],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=worker_environment(config),
            cwd=run.folder,
            start_new_session=True,
        )
    threading.Thread(target=worker.wait, daemon=True).start()  # so that a long-lived server keeps no zombies
    _await_start(run, worker)


def _await_start(run: RunStore, worker: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_SECONDS
    while read_state(run.folder).pid is None and worker.returncode is None and time.monotonic() < deadline:
        time.sleep(0.02)
    if worker.returncode not in {None, *REPORTED}:
        raise RunError(
            f"the worker of {run.run_id} died at once (code {worker.returncode})\n{log_tail(run.folder, 5)}",
            hint=f"the whole log is {run.folder / 'worker.log'}",
        )


def worker_environment(config: RunConfig) -> dict[str, str]:
    """Ours, with a checkout that was never installed on the path, and threads that wait asleep."""
    root = Path(__file__).parents[2]
    installed = root.name in {"site-packages", "dist-packages"}
    path = os.pathsep.join(filter(None, ["" if installed else str(root), os.environ.get("PYTHONPATH")]))
    # Where nobody says how many, the worker chooses by the size of its model.
    threads = {} if config.engine.threads is None else {"OMP_NUM_THREADS": str(config.engine.threads)}
    openmp = {
        # Threads that wait must sleep: spinning, they starve one another as soon as anything else runs here.
        "OMP_WAIT_POLICY": "PASSIVE",
        "GOMP_SPINCOUNT": "0",
    }
    return os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"} | openmp | threads
