"""fork, with real workers that only count (../jobs/counting_worker.py)."""

import json
from pathlib import Path
from typing import Any

import pytest

from synpo_lab import filters
from synpo_lab.config import FilterConfig
from synpo_lab.home import open_store
from synpo_lab.jobs.provenance import stored_config
from tests.plausible_run import write_run

QUICK = "title='{\"pause\": 0}'"  # the counting worker's orders stand in the title


@pytest.fixture
def home(counting: Path) -> Path:
    run = write_run(counting, "parent", iterations=2, prompts=15, title="'{}'")
    for model in ("G", "R_1", "M_1", "R_2"):
        (run.models / model).mkdir()
    return counting


def test_fork_follows_the_fork_to_its_end(cli: Any, home: Path) -> None:
    given = (
        "--iteration",
        2,
        "--set",
        "filter.min_gap=0.3",
        "--set",
        "title='{\"pause\": 0}'",
        "--run-id",
        "mine",
        "--home",
        home,
    )
    answer = cli("fork", "parent", *given, "--json")
    assert answer.code == 0, answer.err
    last = json.loads(answer.out.splitlines()[-1])
    assert (last["kind"], last["run_id"], last["state"]) == ("end", "mine", "finished")
    assert stored_config(open_store(home).run("mine")).filter.min_gap == 0.3


@pytest.mark.parametrize("given", ["saved one", "FILE", "the paper, PairRM"])
def test_a_fork_takes_a_filter_by_name_or_file_and_set_comes_last(
    cli: Any, home: Path, tmp_path: Path, given: str
) -> None:
    rules = FilterConfig(min_gap=0.2, max_similarity=0.9, where="prompt <> 'ü🙂'")
    filters.save(home, "saved one", rules)
    (tmp_path / "f.yaml").write_text(filters.as_yaml(rules), encoding="utf-8")
    named = str(tmp_path / "f.yaml") if given == "FILE" else given
    options = (
        "--run-id",
        "mine",
        "--home",
        home,
        "--detach",
        "--set",
        "filter.max_gap=3",
        "--set",
        "title='{\"pause\": 0}'",
    )
    answer = cli("fork", "parent", "-t", 1, "--filter", named, *options)
    assert answer.code == 0, answer.err
    expected = filters.PRESETS.get(given, rules)
    assert stored_config(open_store(home).run("mine")).filter == expected.model_copy(update={"max_gap": 3.0})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["parent", "-t", "7"], "no complete pairs in iteration 7"),
        (["nobody", "-t", "1"], "no run 'nobody'"),
        (["parent", "-t", "1", "--set", "seed=4"], "cannot change seed"),
        (["parent", "-t", "1", "--filter", "nothing"], "there is no filter 'nothing'"),
        (["parent", "-t", "1", "--filter", "nowhere.yaml"], "cannot be read"),
        (["parent", "-t", "1", "--set", "filter.where=1; DROP TABLE x"], "where"),
    ],
)
def test_a_mistake_ends_with_code_2_and_a_hint(cli: Any, home: Path, arguments: list[str], message: str) -> None:
    answer = cli("fork", *arguments, "--home", home)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert "hint: " in answer.err
    assert "Traceback" not in answer.err
    assert open_store(home).runs() == ["parent"]
