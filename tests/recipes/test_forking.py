"""A fork goes on as the run itself would have, had its filter been that one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.state import set_state
from synpo_lab.errors import ConfigError, RunError
from synpo_lab.home import open_store
from synpo_lab.jobs.forking import iterations_to_fork, make_fork
from synpo_lab.jobs.provenance import stored_config, stored_info
from synpo_lab.records import EvalResult, Note, Pair, Prompt, Response, Score, TrainStep
from synpo_lab.run import Run, StopRequested
from tests.recipes.test_recipes import SMALL, hash_of

Start = Callable[..., Run]
STRICT = "filter.min_gap=0.01"
KINDS = (Prompt, Response, Score, Pair, EvalResult)


@pytest.fixture
def home(tmp_path: Path, quick: dict[str, str], start: Start) -> Path:
    """A lab home with a finished run "r" of two iterations."""
    start("r", **SMALL, **quick)
    set_state(tmp_path / "home" / "runs" / "r", "finished")
    return tmp_path / "home"


def records(home: Path, run_id: str, kind: type, *iterations: int) -> list[Any]:
    run = open_store(home).run(run_id)
    return sorted((made for t in iterations for made in run.read(kind, t)), key=repr)


def test_a_fork_at_the_first_iteration_ends_as_a_run_with_that_filter_would(
    home: Path, quick: dict[str, str], start: Start
) -> None:
    make_fork(home, "r", 1, [STRICT], "fork")
    forked = start("fork")
    other = start("other", **(SMALL | {"filter": {"min_gap": 0.01, "max_repetition": 1.0}}), **quick)
    for kind in KINDS:
        assert records(home, "fork", kind, 0, 1, 2) == records(home, "other", kind, 0, 1, 2)
    for model in ("G", "R_1", "M_1", "R_2", "M_2"):
        assert hash_of(forked.model_folder(model)) == hash_of(other.model_folder(model))
    assert 0 < sum(pair.kept for pair in forked.read(Pair)) < len(list(forked.read(Pair)))
    assert hash_of(forked.model_folder("M_1")) != hash_of(home / "runs" / "r" / "models" / "M_1")


def test_a_fork_at_a_later_iteration_keeps_what_was_trained_before_and_decides_its_whole_pool_again(
    home: Path, start: Start
) -> None:
    run = make_fork(home, "r", 2, [STRICT], "fork")
    assert stored_info(run)["parent"] == {
        "run_id": "r",
        "iteration": 2,
        "filter": stored_config(open_store(home).run("r")).filter.model_dump(mode="json"),
        "decided_again": [1, 2],
    }
    assert stored_config(run).title == "fork of r at iteration 2"
    forked = start("fork")
    models, theirs = forked.model_folder("x").parent, home / "runs" / "r" / "models"
    for model in ("G", "R_1", "M_1", "R_2"):
        assert (models / model / "model.safetensors").samefile(theirs / model / "model.safetensors")
    assert hash_of(models / "M_2") != hash_of(theirs / "M_2")
    for kind in (Prompt, Response, Score):
        assert records(home, "fork", kind, 0, 1) == records(home, "r", kind, 0, 1)
    pairs = records(home, "fork", Pair, 1, 2)
    assert [pair.pair_id for pair in pairs] == [pair.pair_id for pair in records(home, "r", Pair, 1, 2)]
    assert all(pair.kept == (pair.gap > 0.01) for pair in pairs)
    marker = forked.marker("iteration=2/policy")
    assert marker is not None
    assert marker["pairs"] == sum(pair.kept for pair in pairs)
    steps = [step for step in forked.read(TrainStep) if (step.iteration, step.trainee) == (1, "policy")]
    assert sorted(map(repr, steps)) == [
        repr(step) for step in records(home, "r", TrainStep, 1) if step.trainee == "policy"
    ]


def test_nothing_that_came_from_the_policy_that_is_trained_anew_is_taken_over(home: Path) -> None:
    run = make_fork(home, "r", 2, [STRICT], "fork")
    answers = {made.role for made in run.read(Response, 2)}
    assert answers == {"draft", "initial", "improved"}
    known = {made.response_id for made in run.read(Response)}
    assert {score.response_id for score in run.read(Score)} <= known
    assert not list(run.read(EvalResult, 2))
    assert list(run.read(EvalResult, 1))
    assert {step.trainee for step in run.read(TrainStep, 2)} == {"improver"}
    assert not [name for name in run.markers() if name.startswith("iteration=2/M_") or name == "iteration=2/policy"]


def test_with_a_pool_that_replaces_only_the_last_pairs_are_decided_again(home: Path) -> None:
    run = make_fork(home, "r", 2, [STRICT, "pool.mode=replace"], "fork")
    assert records(home, "fork", Pair, 1) == records(home, "r", Pair, 1)
    assert records(home, "fork", Pair, 2) != records(home, "r", Pair, 2)
    assert stored_info(run)["parent"]["decided_again"] == [2]


def test_verdicts_given_since_count_in_a_fork(home: Path) -> None:
    first = records(home, "r", Pair, 1)[0]
    open_store(home).append_note(Note(first.pair_id, "bad", "", "ana", 1.0))
    run = make_fork(home, "r", 1, ["filter.verdicts=[bad]"], "fork")
    assert [pair.drop_reason for pair in run.read(Pair, 1) if pair.pair_id == first.pair_id] == ["verdict"]


def test_a_fork_of_a_fork_and_a_fork_that_was_stopped_go_on(home: Path, start: Start) -> None:
    make_fork(home, "r", 1, [STRICT], "fork")
    begun = False

    def stop() -> bool:
        nonlocal begun
        begun, was = True, begun
        return was

    with pytest.raises(StopRequested):
        start("fork", stop)
    assert begun
    start("fork")
    set_state(home / "runs" / "fork", "finished")
    make_fork(home, "fork", 2, ["filter.min_gap=0.005", "iterations=3"], "again")
    again = start("again")
    assert again.done("iteration=3/policy")


def test_a_fork_made_of_the_same_filter_decides_the_same(home: Path) -> None:
    make_fork(home, "r", 2, [], "fork")
    assert records(home, "fork", Pair, 1, 2) == records(home, "r", Pair, 1, 2)


@pytest.mark.parametrize(
    ("state", "iteration", "changes", "told"),
    [
        ("finished", 3, [], "no complete pairs in iteration 3"),
        ("finished", 0, [], "no complete pairs in iteration 0"),
        ("queued", 1, [], "is queued"),
        ("imported", 1, [], "imported data set"),
        ("finished", 1, ["policy=other", "seed=4"], "cannot change seed, policy"),
        ("finished", 1, ["evaluation.limit=3"], "cannot change evaluation"),
        ("finished", 2, ["iterations=1"], "ends before iteration 2"),
        ("stopped", 1, ["filter.where=(SELECT 1)"], "a subquery"),
        ("failed", 1, ["filter.min_gab=1"], "did you mean"),
    ],
)
def test_what_cannot_be_forked_is_said_with_a_hint_and_makes_no_run(
    home: Path, state: Any, iteration: int, changes: list[str], told: str
) -> None:
    set_state(home / "runs" / "r", state)
    with pytest.raises((RunError, ConfigError), match=told) as caught:
        make_fork(home, "r", iteration, changes, "fork")
    assert caught.value.hint
    assert open_store(home).runs() == ["r"]


def test_lost_weights_are_said_before_anything_is_made(home: Path) -> None:
    (home / "runs" / "r" / "models" / "G").rename(home / "G")
    with pytest.raises(RunError, match="lost the weights of G"):
        make_fork(home, "r", 1, [], "fork")
    assert open_store(home).runs() == ["r"]
    assert iterations_to_fork(open_store(home).run("r")) == [1, 2]


def test_a_fork_that_fails_half_way_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("synpo_lab.jobs.forking.shutil.copytree", full)
    with pytest.raises(Exception, match="No space left"):
        make_fork(home, "r", 2, [STRICT], "fork")
    assert [path.name for path in (home / "runs").iterdir()] == ["r"]


@pytest.mark.slow
def test_a_fork_of_a_real_run_trains_a_real_policy(sums: dict[str, str], start: Start, tmp_path: Path) -> None:
    sft = {"learning_rate": 1e-2, "epochs": 6, "batch_size": 16, "max_length": 512}
    longer = {"max_new_tokens": 24}
    start(
        "real",
        **SMALL
        | {
            "prompts": {"per_iteration": 24, "target": "prompt", "sampling": longer, "train": sft | {"epochs": 20}},
            "improver": {"train": sft | {"epochs": 1}, "min_gap": -1.0, "sampling": longer},
            "simpo": {"learning_rate": 1e-3, "epochs": 1, "batch_size": 16, "betas": [2], "max_length": 512},
        },
        **sums,
    )
    home = tmp_path / "home"
    set_state(home / "runs" / "real", "stopped")
    middle = sorted(pair.gap for pair in records(home, "real", Pair, 1, 2))[len(records(home, "real", Pair, 1, 2)) // 2]
    make_fork(home, "real", 2, [f"filter.min_gap={middle}"], "fork")
    forked = start("fork")
    kept = [pair for pair in forked.read(Pair) if pair.kept]
    assert 0 < len(kept) < len(list(forked.read(Pair)))
    assert forked.marker("iteration=2/policy")["pairs"] == len(kept)  # type: ignore[index]
    assert hash_of(forked.model_folder("M_2")) != hash_of(home / "runs" / "real" / "models" / "M_2")
