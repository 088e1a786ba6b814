"""A real worker with a recipe that needs no model: it counts, slowly, and writes a prompt for each count.

Its orders come in the config's title, as JSON: {"pause": seconds per count, "fail": "lab" | "bug", "deaf": true}; a config
with another title is counted as it is.
Every count made is also a line of `made.txt` in the run's folder, so that work done twice is seen.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from synpo_lab.config import RunConfig
from synpo_lab.errors import ModelError
from synpo_lab.jobs import worker
from synpo_lab.records import Prompt
from synpo_lab.run import Run, tracked


def count(config: RunConfig, run: Run) -> None:
    orders = json.loads(config.title) if config.title.startswith("{") else {}
    for iteration in range(1, config.iterations + 1):
        if not run.done(f"iteration={iteration}"):
            _iteration(iteration, config.prompts.per_iteration, orders, run)
            run.mark(f"iteration={iteration}")
    run.log("counted everything")


def _iteration(iteration: int, total: int, orders: dict[str, object], run: Run) -> None:
    have = run.ids(Prompt, iteration)
    left = [n for n in range(total) if f"{iteration}-{n}" not in have]
    with run.stage("count", iteration, total, done=len(have)) as progress:
        run.save(tracked(_prompts(iteration, left, orders, run), progress))
        if orders.get("fail") == "lab":
            raise ModelError("the model folder 'nowhere' is empty", hint="name another with --set policy=FOLDER")
        if orders.get("fail") == "bug":
            raise ZeroDivisionError("division by zero")


def _prompts(iteration: int, numbers: list[int], orders: dict[str, object], run: Run) -> Iterator[Prompt]:
    made = run.model_folder("x").parents[1] / "made.txt"
    for n in numbers:
        time.sleep(float(str(orders.get("pause", 0.0))))
        with made.open("a") as file:
            file.write(f"{iteration}-{n}\n")
        yield Prompt(iteration, f"{iteration}-{n}", f"count {n}", ["count"], None, "generator", "kept", None)


def deaf(config: RunConfig, run: Run) -> None:
    """Never looks whether it should stop, and has a child in a session of its own, as a shared training is."""
    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    (run.model_folder("x").parents[1] / "child.txt").write_text(str(child.pid))
    with run.stage("sleep"):
        time.sleep(600)


def find(name: str) -> worker.recipes.Recipe:
    return deaf if name == "seed-sft" else count


if __name__ == "__main__":
    # Counts have no topics, and finding some would cost each test seconds.
    sys.exit(worker.main(Path(sys.argv[1]), sys.argv[2], find, lambda run, store: None))
