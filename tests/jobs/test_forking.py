"""Forks with real detached workers that only count: the worker is at work on the fork, from its first iteration on."""

import json
import time
from pathlib import Path

import pytest

from storage.state import read_state
from synpo_lab import jobs
from synpo_lab.errors import RunError
from synpo_lab.home import open_store
from synpo_lab.jobs.provenance import stored_info
from synpo_lab.records import Pair
from tests.plausible_run import write_run

QUICK = "title='{\"pause\": 0}'"  # the counting worker's orders stand in the title


@pytest.fixture
def run_id(counting: Path) -> str:
    run = write_run(counting, "parent", iterations=2, prompts=20, title="'{}'")
    for model in ("G", "R_1", "M_1", "R_2", "M_2"):
        (run.models / model).mkdir()
        (run.models / model / "model.safetensors").write_text(model)
    return run.run_id


def wait_for_end(home: Path, run_id: str) -> str:
    deadline = time.monotonic() + 30
    while read_state(home / "runs" / run_id).state in {"queued", "running", "stopping"}:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return read_state(home / "runs" / run_id).state


def test_a_fork_starts_a_worker_of_its_own_and_leaves_its_parent_alone(counting: Path, run_id: str) -> None:
    before = sorted(str(path) for path in (counting / "runs" / run_id).rglob("*"))
    new_id = jobs.fork(counting, run_id, 1, ["filter.min_gap=0.4", "title='{\"pause\": 0}'"])
    assert wait_for_end(counting, new_id) == "finished"
    made = open_store(counting).run(new_id)
    assert stored_info(made)["parent"]["run_id"] == run_id
    pairs = list(made.read(Pair))
    assert {pair.iteration for pair in pairs} == {1}
    assert all(pair.kept == (pair.gap > 0.4 and pair.repetition <= 0.5) for pair in pairs)  # type: ignore[operator]
    assert sorted(path.name for path in made.models.iterdir()) == ["G", "R_1"]
    assert sorted(str(path) for path in (counting / "runs" / run_id).rglob("*")) == before


def test_a_fork_by_id_is_refused_when_that_run_is_there(counting: Path, run_id: str) -> None:
    with pytest.raises(Exception, match="there is a run 'parent' already"):
        jobs.fork(counting, run_id, 1, [], run_id)
    assert open_store(counting).runs() == [run_id]


def test_a_run_at_work_is_not_forked(counting: Path) -> None:
    from synpo_lab.config import RunConfig

    config = RunConfig.model_validate({"title": json.dumps({"pause": 0.2}), "prompts": {"per_iteration": 200}})
    running = jobs.launch(counting, config)
    with pytest.raises(RunError, match="once it has stopped") as caught:
        jobs.fork(counting, running, 1)
    assert f"synpo-lab stop {running}" in caught.value.hint
    jobs.stop(counting, running, wait=20)
    with pytest.raises(RunError, match="no complete pairs") as caught:
        jobs.fork(counting, running, 1)
    assert "let the run make some" in caught.value.hint
