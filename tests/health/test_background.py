import time
from collections.abc import Callable
from typing import Any

import pytest

from storage.store import RunStore
from synpo_lab.errors import RunError
from synpo_lab.health import background, stored_report
from synpo_lab.health.progress import progress, say
from tests.health.conftest import a_pair


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def run(tiny_store: Any) -> RunStore:
    made: RunStore = tiny_store([a_pair(f"p{i}") for i in range(4)]).run("run")
    return made


def test_a_check_runs_in_a_process_of_its_own_and_leaves_its_report(run: RunStore) -> None:
    home = run.folder.parents[1]
    background.start(home, "run")
    assert progress(run) is not None
    with pytest.raises(RunError, match="going on"):
        background.start(home, "run")
    wait_for(lambda: stored_report(run) is not None and progress(run) is None)
    assert background.failure(run) is None


def test_a_check_reads_as_many_texts_as_it_is_asked_to(run: RunStore) -> None:
    background.start(run.folder.parents[1], "run", most_texts=3)
    wait_for(lambda: stored_report(run) is not None and progress(run) is None)
    report = stored_report(run)
    assert report is not None
    assert (report.texts_read, report.pairs) == (3, 4)


def test_a_check_that_fails_says_why(run: RunStore, tmp_path: Any) -> None:
    background.start(run.folder.parents[1], "run", [tmp_path / "nothing.json"])
    wait_for(lambda: progress(run) is None)
    wait_for(lambda: background.failure(run))
    said = background.failure(run)
    assert said is not None
    assert "cannot read" in said
    assert "Traceback" not in said
    assert stored_report(run) is None


def test_a_check_that_is_killed_is_told_and_another_can_start(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(background, "COMMAND", (sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"))
    background.start(run.folder.parents[1], "run")
    wait_for(lambda: background.failure(run))
    assert "code -9" in str(background.failure(run))
    assert progress(run) is None


def test_a_start_that_came_to_nothing_is_forgotten_after_a_while(
    run: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    say(run, "starting")
    assert progress(run) is not None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 60)
    assert progress(run) is None


def test_there_is_no_check_of_a_run_that_is_not_there(run: RunStore) -> None:
    with pytest.raises(RunError):
        background.start(run.folder.parents[1], "nobody")
