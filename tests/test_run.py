from collections.abc import Iterator
from pathlib import Path

import pytest

from storage import RunStore
from synpo_lab import run as run_module
from synpo_lab.config import RunConfig
from synpo_lab.errors import StorageError
from synpo_lab.home import open_store
from synpo_lab.records import Prompt
from synpo_lab.run import Run, StopRequested, tracked


@pytest.fixture
def store(home: Path) -> RunStore:
    return open_store(home).create_run("a", RunConfig().to_yaml(), {})


def prompts(n: int) -> Iterator[Prompt]:
    for number in range(n):
        yield Prompt(1, f"p{number}", f"prompt {number}", [], None, "generator", "kept", None)


def messages(store: RunStore) -> list[tuple[str, int | None, str]]:
    return [(event["stage"], event["done"], event["message"].split(" ")[0]) for event in store.events()[0]]


def test_a_stage_says_when_it_starts_and_how_long_it_took(store: RunStore) -> None:
    with Run(store, RunConfig()).stage("draft", 1, total=3) as progress:
        progress.advance(3)
    first, *_, last = store.events()[0]
    assert (first["message"], first["done"], first["total"], first["iteration"]) == ("started", 0, 3, 1)
    assert last["message"].startswith("finished in 0.")
    assert last["done"] == 3


def test_progress_is_written_at_most_once_a_second(store: RunStore) -> None:
    with Run(store, RunConfig()).stage("draft", 1, total=10_000) as progress:
        for _ in range(10_000):
            progress.advance()
    assert len(store.events()[0]) <= 4


def test_progress_is_written_when_it_is_due(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "EVENT_SECONDS", 0.0)
    with Run(store, RunConfig()).stage("draft", 1, total=2) as progress:
        list(tracked(range(2), progress))
    assert messages(store) == [("draft", 0, "started"), ("draft", 1, ""), ("draft", 2, ""), ("draft", 2, "finished")]


def test_a_stage_that_fails_says_so_and_lets_the_error_through(store: RunStore) -> None:
    with pytest.raises(ZeroDivisionError), Run(store, RunConfig()).stage("draft"):
        raise ZeroDivisionError
    assert messages(store)[-1] == ("draft", 0, "failed")


def test_a_stop_keeps_what_was_saved_so_far(store: RunStore) -> None:
    stop = False
    run = Run(store, RunConfig(), lambda: stop)

    def until_five() -> Iterator[Prompt]:
        nonlocal stop
        for number, prompt in enumerate(prompts(100)):
            stop = number == 5
            yield prompt

    with pytest.raises(StopRequested), run.stage("draft", 1, total=100) as progress:
        run.save(tracked(until_five(), progress))
    assert run.ids(Prompt, 1) == {f"p{n}" for n in range(6)}
    assert messages(store)[-1] == ("draft", 6, "stopped")


def test_chunks_are_counted_by_their_length(store: RunStore) -> None:
    with Run(store, RunConfig()).stage("score", 1, total=5) as progress:
        assert list(tracked([[1, 2], [3, 4, 5]], progress, count=len)) == [[1, 2], [3, 4, 5]]
    assert progress.done == 5


def test_progress_alone_stops_nothing_so_that_a_trainer_can_save_its_checkpoint(store: RunStore) -> None:
    stop = False
    with Run(store, RunConfig(), lambda: stop).stage("train policy", 1, total=2) as progress:
        stop = True
        progress.advance(2)
    assert progress.done == 2


def test_whatever_error_ends_a_stage_after_a_stop_was_asked_for_counts_as_that_stop(store: RunStore) -> None:
    stop = False

    def train() -> None:
        nonlocal stop
        stop = True
        raise RuntimeError("stopped after step 3 of 9")

    with pytest.raises(StopRequested), Run(store, RunConfig(), lambda: stop).stage("train policy", 1):
        train()
    assert messages(store)[-1] == ("train policy", 0, "stopped")


def test_a_stop_is_not_caught_by_except_exception() -> None:
    assert not issubclass(StopRequested, Exception)


def test_a_stopped_run_enters_no_stage(store: RunStore) -> None:
    with pytest.raises(StopRequested), Run(store, RunConfig(), lambda: True).stage("draft"):
        pytest.fail("entered")
    assert messages(store) == []


def test_a_marked_step_is_done_also_for_the_next_attempt(store: RunStore) -> None:
    Run(store, RunConfig()).mark("iteration=1/improver", {"rows": 3})
    again = Run(store, RunConfig())
    assert again.done("iteration=1/improver")
    assert again.marker("iteration=1/improver") == {"rows": 3}
    assert not again.done("iteration=2/improver")


def test_a_seed_depends_on_the_runs_seed_and_the_parts_alone(store: RunStore) -> None:
    here, same, other = Run(store, RunConfig()), Run(store, RunConfig()), Run(store, RunConfig(seed=1))
    assert here.seed_for("R", 1) == same.seed_for("R", 1)
    assert len({here.seed_for("R", 1), here.seed_for("R", 2), here.seed_for("R1"), other.seed_for("R", 1)}) == 4
    assert 0 <= here.seed_for("R", 1) < 2**31


def test_a_storage_problem_comes_out_as_a_lab_error(store: RunStore) -> None:
    with pytest.raises(StorageError, match="cannot name a marker"):
        Run(store, RunConfig()).mark("../escape")
