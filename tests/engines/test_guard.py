"""Processes that outlive the one that started them, and those that do not."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

# A starter: one sleeper before its guard, one after it, in a session of its own and with a child of its own, as vLLM's core.
STARTER = """
import json, subprocess, sys, time
from synpo_lab.engines.guard import Guard

SLEEPER = "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); time.sleep(600)"
def sleeper():
    return subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True).pid

before = sleeper()
time.sleep(0.1)
guard = Guard()
time.sleep(0.1)
after = sleeper()
print(json.dumps([before, after, guard._process.pid]), flush=True)
sys.stdin.readline()
guard.close()
print("closed", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def starter() -> Iterator[Any]:
    process = subprocess.Popen(
        [sys.executable, "-c", STARTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert process.stdout
    pids = json.loads(process.stdout.readline())
    family = [one for pid in pids for one in (psutil.Process(pid), *_children(pid))]
    yield process, pids
    for one in family:
        if one.is_running():
            one.kill()
    process.kill()
    process.communicate()


def _children(pid: int) -> list[psutil.Process]:
    found: list[psutil.Process] = []
    for _ in range(100):
        if found := psutil.Process(pid).children():
            break
        time.sleep(0.02)
    return found


def gone(pid: int, seconds: float = 15) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.1)
    return False


def test_what_a_killed_process_had_started_since_the_guard_dies_with_it_and_nothing_else(starter: Any) -> None:
    process, (before, after, guard) = starter
    [grandchild] = psutil.Process(after).children()
    time.sleep(2.5)  # the guard has looked
    os.kill(process.pid, signal.SIGKILL)
    assert gone(after)
    assert gone(grandchild.pid)
    assert gone(guard)
    assert psutil.pid_exists(before)


def test_a_guard_that_was_closed_leaves_everything_alone(starter: Any) -> None:
    process, (_, after, guard) = starter
    process.stdin.write("close\n")
    process.stdin.flush()
    assert process.stdout.readline() == "closed\n"
    assert gone(guard)
    os.kill(process.pid, signal.SIGKILL)
    assert not gone(after, seconds=3)
