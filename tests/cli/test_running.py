"""run, resume, stop and status, with real workers that only count (../jobs/counting_worker.py)."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from storage.state import read_state
from synpo_lab import jobs
from synpo_lab.home import open_store
from synpo_lab.jobs.provenance import stored_config

COUNTING_CLI = Path(__file__).parent / "counting_cli.py"


@pytest.fixture
def counting_config(tmp_path: Path) -> Path:
    return write_config(tmp_path / "count.yaml", iterations=2, counts=3)


def write_config(path: Path, iterations: int = 1, counts: int = 3, **orders: Any) -> Path:
    settings = {"iterations": iterations, "prompts": {"per_iteration": counts}, "title": json.dumps(orders)}
    path.write_text(yaml.safe_dump(settings))
    return path


def lines(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


def wait_for_end(home: Path, run_id: str) -> str:
    watch = jobs.Watch(home)
    while watch.run(run_id).state in {"queued", "running", "stopping"}:
        time.sleep(0.05)
    return watch.run(run_id).state


def test_run_follows_to_the_end_and_says_what_was_done(cli: Any, counting: Path, counting_config: Path) -> None:
    answer = cli("run", counting_config, "--home", counting, "--run-id", "mine")
    assert answer.code == 0, answer.err
    assert "iteration 2, count: finished in" in answer.out
    assert "counted everything" in answer.out
    assert "mine finished after" in answer.out


def test_a_run_is_named_after_its_config(cli: Any, counting: Path, counting_config: Path) -> None:
    cli("run", counting_config, "--home", counting)
    (status,) = jobs.status(counting)
    assert status.run_id.startswith("count-20")


def test_json_of_a_followed_run_is_one_document_a_line_and_nothing_else(
    cli: Any, counting: Path, counting_config: Path
) -> None:
    answer = cli("run", counting_config, "--home", counting, "--run-id", "mine", "--json")
    told = lines(answer.out)
    assert answer.code == 0
    assert answer.err == ""
    assert {"state", "event", "end"} == {line["kind"] for line in told}
    assert (told[-1]["kind"], told[-1]["state"], told[-1]["run_id"]) == ("end", "finished", "mine")


def test_a_failed_run_ends_with_code_1_the_message_and_no_traceback(cli: Any, counting: Path, tmp_path: Path) -> None:
    answer = cli("run", write_config(tmp_path / "c.yaml", fail="lab"), "--home", counting)
    assert answer.code == 1
    assert "the model folder 'nowhere' is empty" in answer.out
    assert "hint: name another" in answer.out
    assert "Traceback" not in answer.out + answer.err


def test_detach_returns_at_once_and_the_run_goes_on(cli: Any, counting: Path, counting_config: Path) -> None:
    answer = cli("run", counting_config, "--home", counting, "--run-id", "mine", "--detach", "--json")
    assert lines(answer.out) == [{"kind": "started", "run_id": "mine", "home": str(counting)}]
    assert wait_for_end(counting, "mine") == "finished"


def test_ctrl_c_leaves_the_run_going_and_says_how_to_find_it(counting: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", counts=2_000, pause=0.05)  # far longer than the test takes
    command = [sys.executable, str(COUNTING_CLI), "run", str(config), "--home", str(counting), "--run-id", "mine"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    follower = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, process_group=0)
    signal.signal(signal.SIGINT, before)
    made = counting / "runs" / "mine" / "made.txt"
    while not made.exists():
        time.sleep(0.05)
    os.killpg(follower.pid, signal.SIGINT)
    _, said = follower.communicate(timeout=20)
    assert follower.returncode == 130, said
    assert f"synpo-lab status mine --follow --home {counting}" in said
    size = made.stat().st_size
    while made.stat().st_size < size + 20:  # it goes on
        assert read_state(counting / "runs" / "mine").state == "running"
        time.sleep(0.05)
    jobs.stop(counting, "mine", wait=30, kill=True)


def test_a_terminal_sees_a_bar(counting: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", counts=30, pause=0.05)
    command = [sys.executable, str(COUNTING_CLI), "run", str(config), "--home", str(counting), "--run-id", "mine"]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=theirs, env=os.environ | {"TERM": "xterm", "COLUMNS": "120"}) as follower:
        os.close(theirs)
        shown = _read_all(ours)
        assert follower.wait(timeout=30) == 0
    assert "━" in shown
    assert "iteration 1/1, count" in shown
    assert "/30" in shown
    assert "mine finished after" in shown


def _read_all(descriptor: int) -> str:
    shown = b""
    with open(descriptor, "rb", buffering=0) as terminal:
        while True:
            try:
                shown += terminal.read(65536)
            except OSError:  # how Linux says that the other end has closed
                return shown.decode()


def test_stop_and_resume_from_the_command_line(cli: Any, counting: Path, tmp_path: Path) -> None:
    config = write_config(tmp_path / "c.yaml", counts=40, pause=0.05)
    cli("run", config, "--home", counting, "--run-id", "mine", "--detach")
    stopped = cli("stop", "mine", "--home", counting)
    assert (stopped.code, "resume mine --home" in stopped.out) == (0, True)
    refused = cli("resume", "mine", "--home", counting, "--set", "seed=3")
    assert (refused.code, "seed: the whole run follows from it" in refused.err) == (2, True)
    resumed = cli("resume", "mine", "--home", counting, "--set", "engine.batch_size=3", "--json")
    assert lines(resumed.out)[-1]["state"] == "finished"
    assert stored_config(open_store(counting).run("mine")).engine.batch_size == 3


def test_status_lists_runs_and_tells_of_one(cli: Any, counting: Path, counting_config: Path) -> None:
    assert "no runs yet" in cli("status", "--home", counting).out
    cli("run", counting_config, "--home", counting, "--run-id", "mine")
    assert "mine" in cli("status", "--home", counting).out
    (listed,) = json.loads(cli("status", "--home", counting, "--json").out)
    one = json.loads(cli("status", "mine", "--home", counting, "--json").out)
    assert listed == one
    assert one["state"] == "finished"
    assert (
        json.loads(cli("status", "mine", "--follow", "--home", counting, "--json").out.splitlines()[-1])["kind"]
        == "end"
    )


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (["run", "nowhere"], "no config 'nowhere'", "synpo-lab run pocket"),
        (["run", "CONFIG", "--set", "filter.mingap=1"], "did you mean 'min_gap'?", "--schema"),
        (["run", "CONFIG", "--set", "filter"], "not key=value", "--set filter.min_gap=0.3"),
        (["run", "CONFIG", "--set", "iterations=none"], "iterations", "--schema"),
        (["run", "CONFIG", "--run-id", "../up"], "cannot name a run", "letters"),
        (["run", "CONFIG", "--home", "/proc/lab"], "cannot be made", "--home DIR"),
        (["status", "nobody"], "no run 'nobody'", "synpo-lab status"),
        (["stop", "nobody"], "no run 'nobody'", "synpo-lab status"),
        (["resume", "nobody"], "no run 'nobody'", "synpo-lab status"),
    ],
)
def test_a_mistake_ends_with_code_2_one_message_and_a_hint(
    cli: Any, counting: Path, counting_config: Path, arguments: list[str], message: str, hint: str
) -> None:
    given = [str(counting_config) if argument == "CONFIG" else argument for argument in arguments]
    answer = cli(*given, *([] if "--home" in given else ["--home", counting]))
    assert answer.code == 2
    assert message in answer.err
    assert f"hint: {hint}" in answer.err or hint in answer.err.partition("hint: ")[2]
    assert "Traceback" not in answer.err
    assert answer.out == ""


def test_a_run_id_that_is_taken_is_a_mistake(cli: Any, counting: Path, counting_config: Path) -> None:
    cli("run", counting_config, "--home", counting, "--run-id", "mine")
    again = cli("run", counting_config, "--home", counting, "--run-id", "mine")
    assert (again.code, again.out) == (2, "")
    assert "already" in again.err
