"""How soon the command line answers: the median of five starts, in a lab home of a hundred runs."""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from storage.state import set_state
from synpo_lab.config import RunConfig
from synpo_lab.home import open_store

RUNS = 100
COMMANDS = [["--help"], ["config", "pocket"], ["status"], ["query", "SELECT count(*) FROM runs"]]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder))
        for command in COMMANDS:
            seconds = statistics.median(_seconds(command, folder) for _ in range(5))
            sys.stdout.write(f"synpo-lab {' '.join(command):40} {seconds * 1000:6.0f} ms\n")


def _fill(home: Path) -> None:
    store = open_store(home)
    for number in range(RUNS):
        run = store.create_run(f"run-{number}", RunConfig().to_yaml(), {"recipe": "synpo"})
        for done in range(1000):
            run.event("draft", iteration=1, done=done, total=1000)
        set_state(run.folder, "finished")


def _seconds(command: list[str], home: str) -> float:
    began = time.perf_counter()
    home_option = [] if command[0] in {"--help", "config"} else ["--home", home]
    subprocess.run([sys.executable, "-m", "synpo_lab.cli", *command, *home_option], check=True, capture_output=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
