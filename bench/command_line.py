"""How soon the command line answers, and the lab its first page: the median of five starts, in a lab home of a hundred runs."""

import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import suppress
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
        served = statistics.median(_first_page(folder) for _ in range(5))
        sys.stdout.write(f"synpo-lab serve, until its first page is there {served * 1000:8.0f} ms (target 4,000)\n")


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


def _first_page(home: str) -> float:
    """Seconds from starting the lab to the last byte of its Overview."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "synpo_lab.cli", "serve", "--home", home, "--port", str(port), "--no-open"]
    began = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as lab:
        try:
            while lab.poll() is None:
                with suppress(urllib.error.URLError), urllib.request.urlopen(f"http://127.0.0.1:{port}/") as page:
                    page.read()
                    return time.perf_counter() - began
                time.sleep(0.02)
        finally:
            lab.terminate()
    raise RuntimeError("the lab ended before it served a page")


if __name__ == "__main__":
    main()
