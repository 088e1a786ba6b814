"""Topics at the end of a run, and in a process of their own."""

import json
from pathlib import Path
from typing import Any

import pytest

from storage import RunStore
from storage.locks import hold_lock
from synpo_lab.config import RunConfig
from synpo_lab.errors import DataError, RunError
from synpo_lab.jobs import mapping
from synpo_lab.jobs.mapping import find_at_the_end, find_topics, topic_state
from synpo_lab.records import Prompt, Topic
from synpo_lab.run import Run, StopRequested
from tests.plausible_run import write_run


@pytest.fixture
def run(home: Path) -> RunStore:
    return write_run(home, "run", iterations=1, prompts=20)


def at_work(run: RunStore, stop: bool = False) -> Run:
    return Run(run, RunConfig(), lambda: stop)


def events(run: RunStore) -> list[dict[str, Any]]:
    return [event for event in run.events()[0] if event["stage"] == mapping.STAGE]


def test_a_run_ends_with_its_topics(home: Path, run: RunStore) -> None:
    find_at_the_end(at_work(run), run)
    assert list(run.read(Topic))
    assert events(run)[-1]["message"].startswith("finished")
    state = topic_state(home, "run")
    assert not state.working
    assert state.made is not None


def test_a_run_without_prompts_ends_without_a_word(tiny_store: Any) -> None:
    empty = tiny_store().run("run")
    find_at_the_end(at_work(empty), empty)
    assert events(empty) == []


def test_a_run_of_very_many_prompts_gets_topics_on_demand(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapping, "AT_MOST", 10)
    find_at_the_end(at_work(run), run)
    assert "synpo-lab topics run" in events(run)[-1]["message"]
    assert list(run.read(Topic)) == []


@pytest.mark.parametrize("error", [DataError("no words"), ZeroDivisionError("division by zero")])
def test_topics_that_fail_fail_no_run(run: RunStore, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(mapping, "write_topics", fail)
    find_at_the_end(at_work(run), run)
    last = events(run)[-1]
    assert last["level"] == "warning"
    assert str(error) in last["message"]


def test_a_stop_stops_topics_too(run: RunStore) -> None:
    with pytest.raises(StopRequested):
        find_at_the_end(at_work(run, stop=True), run)


@pytest.mark.slow
def test_topics_are_found_in_a_process_of_their_own(home: Path, run: RunStore) -> None:
    process = find_topics(home, "run", 4)
    assert process.wait(120) == 0, (run.folder / "topics.log").read_text()
    state = topic_state(home, "run")
    assert state.made is not None
    assert state.made["topics"] == 4
    assert len(list(run.read(Topic))) == state.made["prompts"]


@pytest.mark.slow
def test_a_process_that_fails_says_why_in_its_log(home: Path, run: RunStore) -> None:
    process = find_topics(home, "run", embeddings="nowhere")
    assert process.wait(120) == 2
    assert "no model folder" in (run.folder / "topics.log").read_text()


def test_a_second_process_is_refused(home: Path, run: RunStore) -> None:
    with hold_lock(run.folder / "topics.lock", busy="busy"):
        assert topic_state(home, "run").working
        with pytest.raises(RunError, match="already"):
            find_topics(home, "run")


def test_prompts_written_later_are_in_the_next_topics(run: RunStore) -> None:
    find_at_the_end(at_work(run), run)
    before = len(list(run.read(Topic)))
    run.append([Prompt(2, "new", "name a new fruit", [], None, "generator", "kept", None)])
    find_at_the_end(at_work(run), run)
    assert len(list(run.read(Topic))) == before + 1
    assert json.dumps(run.marker("topics"))
