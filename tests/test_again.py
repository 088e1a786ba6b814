"""The command line that the pages offer makes the same config."""

import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.again import Difference, command, differences
from synpo_lab.config import RunConfig, builtin_names, load, parse


def run_again(line: str) -> RunConfig:
    """What `synpo-lab run CONFIG --set ...` would run."""
    words = shlex.split(line)
    assert words[:2] == ["synpo-lab", "run"]
    assert words[3::2] == ["--set"] * len(words[4::2])
    return load(words[2], words[4::2])


ODD = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=20)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "title": ODD,
            "seed": st.integers(0, 10**9),
            "policy": ODD,
            "iterations": st.integers(1, 100),
            "simpo": st.fixed_dictionaries(
                {"betas": st.lists(st.integers(1, 50), min_size=1, max_size=4, unique=True)},
                optional={
                    "learning_rate": st.floats(1e-9, 1.0),
                    "micro_batch_size": st.none() | st.sampled_from([1, 2, 16, 64]),
                },
            ),
            "trust_remote_code": st.booleans(),
            "filter": st.fixed_dictionaries({"min_gap": st.floats(-5, 5)}),
        },
    )
)
def test_the_line_runs_exactly_the_same_config(values: dict[str, Any]) -> None:
    config = parse(values)
    assert run_again(command(config)) == config


@pytest.mark.parametrize("name", builtin_names())
def test_a_built_in_config_needs_nothing_set(name: str) -> None:
    assert command(load(name)) == f"synpo-lab run {name}"


def test_what_is_near_pocket_is_told_by_its_differences() -> None:
    config = load("pocket", ["simpo.betas=[4, 10]", "title=it's mine; rm -rf /", "filter.min_gap=0.3"])
    line = command(config, home="/a home")
    assert line.startswith("synpo-lab run pocket --set ")
    assert line.endswith("--home '/a home'")
    assert run_again(command(config)) == config


def test_the_yaml_beside_it_runs_the_same_config_too(tmp_path: Path) -> None:
    config = load("pocket", ["seed=3"])
    (tmp_path / "run.yaml").write_text(config.to_yaml(), encoding="utf-8")
    assert load(tmp_path / "run.yaml") == config


def test_an_import_is_imported_again() -> None:
    """Under the name it has, which the command accepts; its title would be refused as a name."""
    config = parse(
        {"recipe": "import", "title": "my data", "source": {"paths": ["/a b.jsonl"], "columns": {"prompt": "q"}}}
    )
    line = command(config, name="mine")
    assert line == "synpo-lab import '/a b.jsonl' --format auto --map prompt=q --name mine"


def test_differences_name_keys_and_both_values_in_the_order_of_the_schema() -> None:
    one, other = load("pocket"), load("pocket", ["filter.min_gap=0.3", "seed=1", "simpo.betas=[2]"])
    assert differences(one, other) == [
        Difference("seed", 0, 1),
        Difference("filter.min_gap", one.filter.min_gap, 0.3),
        Difference("simpo.betas", [2.0, 10.0], [2.0]),
    ]
    assert differences(one, one) == []
