"""One of the processes that share a training: `accelerate launch -m synpo_lab.training.process FOLDER`, see launch.py."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import psutil

from synpo_lab.config import SFTConfig, SimPOConfig
from synpo_lab.errors import LabError, TrainingError
from synpo_lab.training.trainer import How, TrainingStopped


def main(scratch: Path) -> int:
    """Returns the exit code: 0 when the training finished or stopped as asked."""
    try:
        _train(json.loads((scratch / "task.json").read_text(encoding="utf-8")), scratch)
    except TrainingStopped as stopped:
        (scratch / "stopped").write_text(str(stopped), encoding="utf-8")
    except LabError as error:
        rank = os.environ.get("RANK", "0")
        said = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        draft = scratch / f".error-{rank}"
        draft.write_text(json.dumps(said), encoding="utf-8")
        os.replace(draft, scratch / f"error-{rank}.json")
        return 1
    return 0


def _train(task: dict[str, Any], scratch: Path) -> None:
    from synpo_lab.training.preference import train_preference
    from synpo_lab.training.sft import train_sft

    if int(os.environ.get("WORLD_SIZE", "1")) != task["processes"]:
        raise TrainingError(
            f"accelerate started {os.environ.get('WORLD_SIZE', '1')} processes, not training.processes = {task['processes']}",
            hint="num_processes in the accelerate config must be the same, or left out",
        )
    rows = [tuple(row) for row in task["rows"]]
    with (scratch / "steps.jsonl").open("a", encoding="utf-8", buffering=1) as steps:

        def log(step: dict[str, Any]) -> None:
            steps.write(json.dumps(step) + "\n")

        how = cast(How, task["how"])
        if os.environ.get("RANK", "0") == "0":
            how["note"] = lambda sentence: log({"note": sentence})
        how["log"], how["should_stop"] = log, _asked_to_stop(scratch, task["starter"])
        how["checkpoints"] = Path(task["checkpoints"]) if task["checkpoints"] else None
        out, base = Path(task["out"]), task["base"]
        if task["kind"] == "sft":
            train_sft(base, rows, SFTConfig.model_validate(task["config"]), out, **how)
        else:
            more = task["more"]
            reference = Path(more["reference"]) if more["reference"] else None
            config = SimPOConfig.model_validate(task["config"])
            train_preference(base, rows, config, out, beta=more["beta"], reference=reference, **how)


def _asked_to_stop(scratch: Path, starter: int) -> Callable[[], bool]:
    """By a file, or by the end of the process that started this one."""
    return lambda: (scratch / "stop").exists() or not psutil.pid_exists(starter)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
