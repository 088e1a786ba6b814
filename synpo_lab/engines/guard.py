"""Ends what a process started once that process is gone.

vLLM's core is a process of its own. When the lab is killed (kill -9, the OOM killer) it would live on, and hold most of a
GPU's memory against the run that resumes.
"""

import os
import subprocess
import sys
import time

import psutil

POLL_SECONDS = 1.0


class Guard:
    """While it stands, all that this process starts dies with it."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", __name__, str(os.getpid())]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def stand(starter: psutil.Process) -> None:
    """Returns when `starter` is gone and everything it started after this process has been killed."""
    mine, started = psutil.Process(), set[psutil.Process]()
    while _lives(starter):
        started |= {one for one in _below(starter) if one != mine and _begun(one) >= mine.create_time()}
        time.sleep(POLL_SECONDS)
    for one in started | {child for found in started for child in _below(found)}:
        try:
            one.kill()
        except psutil.Error:
            continue  # it ended by itself


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _below(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.Error:
        return []


def _begun(process: psutil.Process) -> float:
    try:
        return process.create_time()
    except psutil.Error:
        return 0.0


if __name__ == "__main__":
    stand(psutil.Process(int(sys.argv[1])))
