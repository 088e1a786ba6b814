"""Ask a run's policies about its pairs after the fact: `python -m synpo_lab.jobs.looking HOME RUN_ID ORDERS`.

The process holds the run's lock and the home's slot as a worker does, but says nothing of the run's state: a finished
run stays finished. Progress is in the run's log.
"""

import json
import subprocess
import sys
import threading
import traceback
from pathlib import Path

from storage import RunStore, StorageFault, Store
from storage.state import NEEDS_WORKER, hold_worker_lock, read_state, worker_alive
from synpo_lab.config import EyeConfig, RunConfig
from synpo_lab.errors import LabError, RunError
from synpo_lab.home import open_home, open_store, storage_errors
from synpo_lab.jobs.launching import worker_environment
from synpo_lab.jobs.provenance import stored_config
from synpo_lab.jobs.queue import hold_slot
from synpo_lab.jobs.timeline import RUN_STAGE
from synpo_lab.jobs.worker import StopSignal
from synpo_lab.run import STARTED, Run, StopRequested

LOOKER = (sys.executable, "-P", "-m", "synpo_lab.jobs.looking")


def policies(home: Path, run_id: str) -> list[int]:
    """The rounds whose policy was chosen and whose weights are still there."""
    with storage_errors():
        return _policies(open_store(home, read_only=True).run(run_id))


def is_looking(home: Path, run_id: str) -> bool:
    """Whether a process is asking the policies of a run that no worker is at."""
    folder = open_store(home, read_only=True).run(run_id).folder
    return read_state(folder).state not in NEEDS_WORKER and worker_alive(folder)


def look(home: Path, run_id: str, iteration: int | None = None, *, pairs: int | None = None) -> subprocess.Popen[bytes]:
    """Start a process that asks M_0 and M_t about the pairs, of one round or of all; `pairs`: of the pool, at most.

    It outlives whoever started it. RunError when the run is at work, is looked at already, or has no such policy.
    """
    open_home(home)
    with storage_errors():
        run = open_store(home).run(run_id)
        rounds = _rounds(run, iteration)
        config = stored_config(run)
    orders = json.dumps({"rounds": rounds, "pairs": pairs})
    with (run.folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [*LOOKER, str(run.folder.parent.parent.absolute()), run_id, orders],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=worker_environment(config),
            cwd=run.folder,
            start_new_session=True,
        )
    threading.Thread(target=process.wait, daemon=True).start()  # so that a long-lived server keeps no zombies
    return process


def main(home: Path, run_id: str, orders: str) -> int:
    """Look, and say in the log how it ended. Returns the exit code: 0 when all was looked at."""
    stop, store = StopSignal(), open_store(home)
    run = store.run(run_id)
    try:
        with hold_worker_lock(run.folder):
            return _work(store, run, stop, **json.loads(orders))
    except StorageFault as fault:
        print(fault, file=sys.stderr, flush=True)  # noqa: T201  (worker.log is where it goes)
        return 2


def _work(store: Store, run: RunStore, stop: StopSignal, rounds: list[int], pairs: int | None) -> int:
    try:
        with hold_slot(store, run.run_id, stop.check):
            run.event(RUN_STAGE, f"{STARTED} to ask the policies about the pairs")
            _ask(run, stop, rounds, pairs)
            run.event(RUN_STAGE, "the policies have been asked about the pairs")
            return 0
    except StopRequested:
        run.event(RUN_STAGE, "stopped asking the policies: what was computed is kept")
    except (LabError, StorageFault) as error:
        run.event(RUN_STAGE, f"the policies could not be asked: {error}", level="error")
    except Exception as error:
        print(traceback.format_exc(), file=sys.stderr, flush=True)  # noqa: T201
        run.event(RUN_STAGE, f"the policies could not be asked: {type(error).__name__}: {error}", level="error")
    return 1


def _ask(run: RunStore, stop: StopSignal, rounds: list[int], pairs: int | None) -> None:
    from synpo_lab.recipes.workshop import Workshop

    config = _with_pairs(stored_config(run), pairs)
    lab = Workshop(config, Run(run, config, lambda: stop.came))
    for t in rounds:
        lab.look(t)


def _with_pairs(config: RunConfig, pairs: int | None) -> RunConfig:
    """As many pairs as asked for; else as the run's config says, or the default where that says none."""
    chosen = pairs or config.eye.pairs or EyeConfig().pairs
    return config.model_copy(update={"eye": config.eye.model_copy(update={"pairs": chosen})})


def _rounds(run: RunStore, iteration: int | None) -> list[int]:
    state, known = read_state(run.folder), _policies(run)
    if state.state in NEEDS_WORKER:
        raise RunError(f"run {run.run_id} is {state.state}", hint="it asks its policies itself, after each training")
    if worker_alive(run.folder):
        raise RunError(f"the policies of run {run.run_id} are being asked already", hint="wait for it to end")
    if not known:
        raise RunError(
            f"run {run.run_id} holds no policy trained on pairs", hint="only SimPO recipes make one, at each iteration"
        )
    if iteration is not None and iteration not in known:
        raise RunError(f"run {run.run_id} holds no policy M_{iteration}", hint=f"it holds {_named(known)}")
    return known if iteration is None else [iteration]


def _policies(run: RunStore) -> list[int]:
    chosen = (run.folder / "markers").glob("iteration=*/policy.done")
    rounds = sorted(int(path.parent.name.partition("=")[2]) for path in chosen)
    return [t for t in rounds if (run.models / f"M_{t}").is_dir()]


def _named(rounds: list[int]) -> str:
    return ", ".join(f"M_{t}" for t in rounds)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
