"""The state of a run is right whatever happened to its worker."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import StorageFault, Store
from storage.state import LAUNCH_GRACE_S, RunState, hold_worker_lock, read_state, set_state, worker_alive
from synpo_lab.records import TABLES

WORKER = """
import sys, time
from pathlib import Path
from storage.state import hold_worker_lock, set_state
folder = Path(sys.argv[1])
with hold_worker_lock(folder):
    set_state(folder, "running", "at work")
    print("ready", flush=True)
    sys.stdin.readline()
    set_state(folder, "finished")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Store(tmp_path, TABLES).create_run("run", "", {}).folder


@pytest.fixture
def worker(folder: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-c", WORKER, str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_a_run_with_a_worker_is_running_and_says_who(folder: Path, worker: "subprocess.Popen[str]") -> None:
    state = read_state(folder)
    assert (state.state, state.message, state.pid) == ("running", "at work", worker.pid)
    assert worker_alive(folder)
    assert abs(state.since - time.time()) < 60


def test_a_run_whose_worker_was_killed_is_interrupted_at_once(folder: Path, worker: "subprocess.Popen[str]") -> None:
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    state = read_state(folder)
    assert (state.state, state.pid) == ("interrupted", None)
    assert not worker_alive(folder)
    with hold_worker_lock(folder):
        set_state(folder, "running")
        assert read_state(folder).state == "running"


def test_a_run_whose_worker_came_to_its_end_is_finished(folder: Path, worker: "subprocess.Popen[str]") -> None:
    worker.communicate("go\n")
    assert read_state(folder).state == "finished"
    assert not worker_alive(folder)


def test_a_second_worker_is_refused(folder: Path, worker: "subprocess.Popen[str]") -> None:
    with pytest.raises(StorageFault, match="another process") as fault, hold_worker_lock(folder):
        pytest.fail("two workers hold the same run")
    assert "synpo-lab stop" in fault.value.hint
    assert worker_alive(folder)


def test_looking_at_the_lock_takes_it_from_nobody(folder: Path) -> None:
    with hold_worker_lock(folder):
        assert all(worker_alive(folder) for _ in range(50))
        with pytest.raises(StorageFault), hold_worker_lock(folder):
            pytest.fail("the lock was lost by looking at it")
    assert not worker_alive(folder)


def test_a_worker_gets_the_lock_while_others_look_at_it(folder: Path) -> None:
    code = "import sys\nfrom pathlib import Path\nfrom storage.state import worker_alive\n"
    code += "print('ready', flush=True)\nwhile True: worker_alive(Path(sys.argv[1]))"
    with subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True) as looker:
        assert looker.stdout is not None
        looker.stdout.readline()
        for _ in range(20):
            with hold_worker_lock(folder):
                pass
        looker.kill()


def test_a_just_launched_run_is_queued_until_its_worker_should_have_come(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_state(folder, "queued", "waiting for its worker")
    now = time.time()
    assert read_state(folder).state == "queued"
    monkeypatch.setattr("storage.state.time.time", lambda: now + LAUNCH_GRACE_S + 1)
    assert read_state(folder).state == "interrupted"
    with hold_worker_lock(folder):
        assert read_state(folder).state == "queued"
    monkeypatch.setattr("storage.state.time.time", lambda: now - 3_600)  # the clock was set back
    assert read_state(folder).state == "interrupted"


@pytest.mark.parametrize("state", ["running", "stopping"])
def test_a_run_that_needs_a_worker_and_has_none_is_interrupted(folder: Path, state: str) -> None:
    set_state(folder, state)  # type: ignore[arg-type]
    found = read_state(folder)
    assert found.state == "interrupted"
    assert state in found.message


@pytest.mark.parametrize("state", ["stopped", "failed", "finished", "imported", "interrupted"])
def test_a_run_at_rest_is_what_it_says(folder: Path, state: str) -> None:
    set_state(folder, state, "because")  # type: ignore[arg-type]
    found = read_state(folder)
    assert (found.state, found.message, found.pid) == (state, "because", None)


def test_a_new_folder_is_queued_and_an_old_one_without_a_state_interrupted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_state(folder).state == "queued"
    now = time.time()
    monkeypatch.setattr("storage.state.time.time", lambda: now + 100)
    assert read_state(folder) == RunState("interrupted", "the worker ended while queued", folder.stat().st_mtime, None)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"state": "dancing", "message": "", "since": 0}'])
def test_a_damaged_state_is_named_with_what_to_do(folder: Path, text: str) -> None:
    (folder / "state.json").write_text(text)
    with pytest.raises(StorageFault, match="is damaged") as fault:
        read_state(folder)
    assert "delete that file" in fault.value.hint


def test_the_state_is_never_half_written(folder: Path) -> None:
    code = "import sys\nfrom pathlib import Path\nfrom storage.state import set_state\n"
    code += "while True: set_state(Path(sys.argv[1]), 'stopped', 'x' * 5000)"
    set_state(folder, "stopped", "x" * 5000)
    with subprocess.Popen([sys.executable, "-c", code, str(folder)]) as writer:
        for _ in range(200):
            assert len(json.loads((folder / "state.json").read_text())["message"]) == 5000
        writer.kill()
