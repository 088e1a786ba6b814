"""What a resume may change, what it refuses, and what it forgets."""

from pathlib import Path
from typing import Any

import pytest

from storage import RunStore
from storage.state import set_state
from synpo_lab import jobs
from synpo_lab.config import RunConfig
from synpo_lab.errors import ConfigError, RunError
from synpo_lab.home import open_home, open_store
from synpo_lab.jobs import launching
from synpo_lab.jobs.changing import change
from synpo_lab.jobs.provenance import provenance, stored_config, stored_info
from synpo_lab.records import EvalResult, Prompt, Trainee, TrainStep


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    """A run of which nothing is made yet."""
    home, config = open_home(tmp_path / "home"), RunConfig()
    return open_store(home).create_run("one", config.to_yaml(), provenance(config))


def step(trainee: Trainee, number: int) -> TrainStep:
    return TrainStep(1, trainee, "", number, 2.5, 1e-3, None, None, None, None, None, None)


def test_how_things_are_computed_may_change_at_any_time(run: RunStore) -> None:
    for name in ("iteration=0/G", "iteration=1/R_1", "iteration=1/pairs", "iteration=1/M_1-beta=2"):
        run.mark(name)
    changed = change(
        run, ["engine.batch_size=3", "simpo.micro_batch_size=1", "scorer.batch_size=2", "training.processes=2"]
    )
    assert (changed.engine.batch_size, changed.simpo.micro_batch_size, changed.training.processes) == (3, 1, 2)
    assert stored_config(run) == changed


def test_what_changed_is_noted_and_told(run: RunStore) -> None:
    change(run, ["engine.batch_size=3"])
    change(run, ["engine.batch_size=2", "title=smaller"])
    first, second = stored_info(run)["changes"]
    assert first["set"] == {"engine.batch_size": [None, 3]}
    assert second["set"] == {"title": ["", "smaller"], "engine.batch_size": [3, 2]}
    assert stored_info(run)["recipe"] == "synpo"
    assert "engine.batch_size: 2 instead of 3" in run.events()[0][-1]["message"]


def test_a_change_to_the_same_value_is_none(run: RunStore) -> None:
    change(run, ["iterations=4"])
    assert "changes" not in stored_info(run)


@pytest.mark.parametrize(
    ("setting", "marker"),
    [
        ("prompts.train.learning_rate=1e-4", "iteration=0/G"),
        ("improver.train.epochs=1", "iteration=1/R_1"),
        ("simpo.learning_rate=1e-7", "iteration=1/M_1-beta=2"),
        ("validation.samples=2", "iteration=2/M_2-beta=2"),
        ("filter.min_gap=0.3", "iteration=1/pairs"),
        ("pool.mode=replace", "iteration=1/pairs"),
    ],
)
def test_a_section_may_change_until_something_is_made_with_it(run: RunStore, setting: str, marker: str) -> None:
    change(run, [setting])
    run.mark(marker)
    before = stored_config(run)
    key, _, _ = setting.partition("=")
    with pytest.raises(RunError, match=rf"{key}: {marker} was made with it") as refused:
        change(run, [f"{key}={'append' if key == 'pool.mode' else 3}"])
    assert "fork" in refused.value.hint
    assert stored_config(run) == before


@pytest.mark.parametrize(
    ("setting", "record"),
    [
        ("prompts.per_iteration=7", Prompt(1, "p", "name three fruits", [], None, "generator", "kept", None)),
        ("evaluation.limit=7", EvalResult(0, "pocket", "p", "M_0", "M_0", "a", "b", 0.5, 0.5, "tie", 3, 3)),
    ],
)
def test_a_stage_half_done_keeps_its_section(run: RunStore, setting: str, record: Any) -> None:
    run.append([record])
    with pytest.raises(RunError, match="was made with it"):
        change(run, [setting])


@pytest.mark.parametrize(
    "setting", ["seed=1", "seeds=other.jsonl", "policy=elsewhere", "draft.temperature=0.2", "scorer.name=length"]
)
def test_what_the_whole_run_follows_from_stays(run: RunStore, setting: str) -> None:
    with pytest.raises(RunError, match="the whole run follows from it"):
        change(run, [setting])


def test_a_run_may_be_made_longer_and_not_shorter_than_it_is(run: RunStore) -> None:
    run.mark("iteration=2/pairs")
    assert change(run, ["iterations=9"]).iterations == 9
    assert change(run, ["iterations=2"]).iterations == 2
    with pytest.raises(RunError, match="iteration 2 is begun"):
        change(run, ["iterations=1"])


def test_a_change_that_cannot_be_changes_nothing(run: RunStore) -> None:
    with pytest.raises(ConfigError, match="did you mean"):
        change(run, ["engine.batch_size=3", "engine.bach_size=3"])
    with pytest.raises(RunError, match="seed"):
        change(run, ["engine.batch_size=3", "seed=3"])
    assert stored_config(run) == RunConfig()


def test_a_training_under_way_begins_anew_when_what_it_computes_changes(run: RunStore) -> None:
    run.append([step("improver", 1), step("policy", 1), step("policy", 2)])
    kept, gone = run.models / ".R_2.checkpoints", run.models / ".M_1-beta=2.checkpoints"
    for folder in (kept, gone):
        (folder / "checkpoint-1").mkdir(parents=True)
    change(run, ["simpo.micro_batch_size=1"])
    assert gone.is_dir()
    change(run, ["simpo.learning_rate=1e-7"])
    assert (kept.is_dir(), gone.is_dir()) == (True, False)
    assert [known.trainee for known in run.read(TrainStep)] == ["improver"]


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        (["processes=2"], ["accelerate=fsdp"], False),
        (["processes=2", "accelerate=fsdp"], ["accelerate=''"], False),
        (["processes=2", "accelerate=zero2"], ["processes=4"], False),
        (["processes=2", "accelerate=fsdp"], ["processes=1"], False),
        (["processes=2"], ["processes=4"], True),
        ([], ["accelerate=fsdp"], True),  # one process shards nothing
        (["processes=2", "accelerate=fsdp"], ["checkpoint_minutes=1"], True),
    ],
)
def test_a_checkpoint_that_others_could_not_read_is_dropped_and_that_is_told(
    run: RunStore, before: list[str], after: list[str], kept: bool
) -> None:
    change(run, [f"training.{setting}" for setting in before])
    folder = run.models / ".M_1-beta=2.checkpoints"
    (folder / "checkpoint-7").mkdir(parents=True)
    run.append([step("policy", 7)])
    change(run, [f"training.{setting}" for setting in after])
    assert folder.exists() == kept
    told = [event["message"] for event in run.events()[0]]
    assert any("M_1-beta=2 is trained anew" in message for message in told) != kept


def test_a_resume_starts_the_worker_with_the_changed_config(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[RunConfig] = []
    monkeypatch.setattr(launching, "start_worker", lambda _, config: started.append(config))
    set_state(run.folder, "failed", "out of memory")
    jobs.resume(run.folder.parents[1], run.run_id, ["engine.threads=1"])
    assert [config.engine.threads for config in started] == [1]
    assert stored_config(run).engine.threads == 1
