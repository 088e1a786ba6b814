"""A training shared by several processes: started with `accelerate launch`, watched, stopped, its steps passed on.

The processes form a group of their own. They write the steps they log, what they note and, where they fail, why, into
files in a scratch folder; a file named `stop` there asks them to stop. When whoever started them is gone, they stop by
themselves.
"""

import fcntl
import importlib.resources
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from synpo_lab.config import TrainerConfig
from synpo_lab.errors import LabError, MissingExtra, TrainingError
from synpo_lab.training.trainer import Execution, How, TrainingStopped
from synpo_lab.training.weights import Base

POLL_SECONDS = 0.2
PATIENCE_SECONDS = 60.0  # of a group that is told to end
ORPHAN_SECONDS = 600.0  # in which a group without its starter has taken its last step and saved it
LOCK = "in-use.lock"
SHIPPED = ("fsdp", "zero2")
_PASSED_ON = ("seed", "checkpoint_minutes", "pause_at", "device", "threads", "trust_remote_code", "report_to")


def alone(how: How) -> bool:
    """Whether this process trains by itself: it was asked to, or it is one of those that were started here."""
    return how.get("processes", 1) == 1 or "SYNPO_LAB_PROCESS" in os.environ


def in_processes(
    kind: str, base: Base, rows: Sequence[Any], config: TrainerConfig, out: Path, how: How, **more: Any
) -> Path:
    """train_sft or train_preference in `how["processes"]` processes; the same losses as in one, up to rounding.

    Raises what they raise. TrainingError when they die without a word.
    """
    if isinstance(base, tuple):
        raise TrainingError("several processes cannot share a loaded model", hint="give the folder of the model")
    execution = Execution(**how)
    with tempfile.TemporaryDirectory(prefix="synpo-lab-") as folder:
        scratch = Path(folder)
        task = {
            "kind": kind,
            "base": str(base),
            "rows": list(rows),
            "config": config.model_dump(mode="json"),
            "out": str(out),
            "checkpoints": None if execution.checkpoints is None else str(execution.checkpoints),
            "how": {name: getattr(execution, name) for name in _PASSED_ON},
            "more": {name: str(value) if isinstance(value, Path) else value for name, value in more.items()},
            "starter": os.getpid(),
            "processes": execution.processes,
        }
        with _explained(scratch):
            (scratch / "task.json").write_text(json.dumps(task), encoding="utf-8")
        _work(scratch, execution)
    return out


@contextmanager
def _explained(scratch: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"the rows cannot be handed to the processes in {scratch.parent}: {error.strerror}",
            hint="free some space there, or set TMPDIR to another disk",
        ) from error


def _work(scratch: Path, how: Execution) -> None:
    with _sole(how) as lock, _started(_command(scratch, how), scratch, lock) as group:
        if lock is not None:
            os.ftruncate(lock, 0)
            os.pwrite(lock, str(group.pid).encode(), 0)
        steps = _steps(scratch / "steps.jsonl")
        while group.poll() is None:
            _pass_on(steps, scratch, how)
            time.sleep(POLL_SECONDS)
        _pass_on(steps, scratch, how)
        if group.returncode:
            raise _failure(scratch, group.returncode)
    if (scratch / "stopped").exists():
        raise TrainingStopped((scratch / "stopped").read_text(encoding="utf-8"))


def _pass_on(steps: Iterator[dict[str, Any] | None], scratch: Path, how: Execution) -> None:
    while (step := next(steps)) is not None:
        if "note" in step:
            how.note(step["note"])
        else:
            how.log(step)
    if how.should_stop():
        (scratch / "stop").touch()


def _steps(file: Path) -> Iterator[dict[str, Any] | None]:
    """Steps as they are written; None when there is no further one yet."""
    while not file.exists():
        yield None
    with file.open(encoding="utf-8") as lines:
        begun = ""
        while True:
            begun += lines.readline()
            if begun.endswith("\n"):
                yield json.loads(begun)
                begun = ""
            else:
                yield None


@contextmanager
def _sole(how: Execution) -> Iterator[int | None]:
    """The right to write into the checkpoint folder, as a lock that the group inherits: it holds as long as one of them.

    Processes whose starter was killed take one step more, and save it, while a resume may be here already: it waits.
    """
    if how.checkpoints is None:
        yield None
        return
    lock = _opened(how.checkpoints)
    try:
        deadline = time.monotonic() + ORPHAN_SECONDS
        while not _taken(lock):
            if how.should_stop():
                raise TrainingStopped("stopped while processes of an earlier worker were still at it")
            if time.monotonic() > deadline:
                raise _still_at_it(how.checkpoints, lock)
            time.sleep(POLL_SECONDS)
            if not (how.checkpoints / LOCK).exists():  # they finished, and removed the folder
                os.close(lock)
                lock = _opened(how.checkpoints)
        yield lock
    finally:
        os.close(lock)


def _opened(checkpoints: Path) -> int:
    checkpoints.mkdir(parents=True, exist_ok=True)
    return os.open(checkpoints / LOCK, os.O_RDWR | os.O_CREAT, 0o644)


def _taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _still_at_it(checkpoints: Path, lock: int) -> TrainingError:
    leader = os.pread(lock, 20, 0).decode()
    return TrainingError(
        f"processes of an earlier worker still train into {checkpoints}",
        hint=f"end them (kill -9 -- -{leader}) and resume",
    )


@contextmanager
def _started(command: list[str], scratch: Path, lock: int | None = None) -> Iterator["subprocess.Popen[bytes]"]:
    """The processes, in a group that is gone at the end, whatever happens here."""
    environment = os.environ | {"SYNPO_LAB_PROCESS": "1", "ACCELERATE_DISABLE_RICH": "1"}
    with (scratch / "output.txt").open("ab") as output:
        group = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            start_new_session=True,
            pass_fds=() if lock is None else (lock,),
        )
    try:
        yield group
    finally:
        if group.poll() is None:
            _kill(group)


def _kill(group: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(group.pid, number)
            group.wait(PATIENCE_SECONDS / 4)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return


def _command(scratch: Path, how: Execution) -> list[str]:
    launch = [sys.executable, "-m", "accelerate.commands.launch", f"--num_processes={how.processes}"]
    launch += ["--num_machines=1", "--main_process_port=0", "--dynamo_backend=no"]
    if how.accelerate:
        launch.append(f"--config_file={_config_file(how.accelerate)}")
    else:
        launch.append("--multi_gpu")  # on CPUs too: with --cpu, accelerate starts one process and no more
    return [*launch, "-m", "synpo_lab.training.process", str(scratch)]


def _config_file(name: str) -> Path:
    if name == "zero2" and not importlib.util.find_spec("deepspeed"):
        raise MissingExtra(
            "training.accelerate = zero2 needs the package deepspeed, which is not installed",
            hint="pip install deepspeed, or set training.accelerate: fsdp, which needs none",
        )
    file = Path(str(importlib.resources.files("synpo_lab.training") / "accelerate" / f"{name}.yaml"))
    if name not in SHIPPED:
        file = Path(name)
    if not file.is_file():
        raise TrainingError(
            f"no accelerate config at {name!r}",
            hint=f"set training.accelerate to {' or '.join(SHIPPED)}, or to a file that `accelerate config` wrote",
        )
    return file


def _failure(scratch: Path, code: int) -> LabError:
    """What the first process that failed said, else the end of what was printed."""
    import synpo_lab.errors as family

    for file in sorted(scratch.glob("error-*.json"), key=lambda file: file.stat().st_mtime):
        said = json.loads(file.read_text(encoding="utf-8"))
        error: LabError = getattr(family, said["kind"], TrainingError)(said["message"], hint=said["hint"])
        return error
    printed = (scratch / "output.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    return TrainingError(
        f"the processes of the training died (code {code})\n" + "\n".join(printed[-15:]),
        hint="the lines above are the last they printed; lower micro_batch_size if memory ran out",
    )
