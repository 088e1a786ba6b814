"""`synpo-lab init` and `synpo-lab plan`."""

import json
import sys
from pathlib import Path

import pytest

from synpo_lab.config import load
from synpo_lab.starts import starts
from tests.cli.conftest import Cli


def test_init_writes_a_config_that_plan_reads(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    assert cli("init", "qwen-0.5b-lora", "--to", file).code == 0
    answer = cli("plan", file, "--gpu", "rtx-4060ti-16gb")
    assert answer.code == 0
    for told in (
        "494,032,768 parameters",
        "fits",
        "train the improver R_1",
        "the whole run:",
        "GiB of disk",
        "assumed",
    ):
        assert told in answer.out


def test_init_without_a_name_lists_what_there_is(cli: Cli) -> None:
    assert all(name in cli("init").out for name in starts())
    assert {row["name"] for row in json.loads(cli("init", "--json").out)} == set(starts())


def test_init_overwrites_nothing(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "there.yaml").write_text("mine")
    answer = cli("init", "qwen-0.5b-lora", "--to", tmp_path / "there.yaml")
    assert answer.code == 2
    assert "exists already" in answer.err
    assert (tmp_path / "there.yaml").read_text() == "mine"


def test_init_of_an_unknown_start_tells_the_names(cli: Cli) -> None:
    answer = cli("init", "gpt-7")
    assert answer.code == 2
    assert "llama-3-8b-synpo" in answer.err


def test_a_plan_that_does_not_fit_ends_with_code_1_and_advice(cli: Cli, tmp_path: Path) -> None:
    cli("init", "llama-3-8b-synpo", "--to", tmp_path / "paper.yaml")
    answer = cli("plan", tmp_path / "paper.yaml", "--gpu", "t4")
    assert answer.code == 1
    assert "does NOT fit" in answer.out
    assert "hint:" in answer.out


def test_a_plan_as_json_holds_every_number(cli: Cli, tmp_path: Path) -> None:
    cli("init", "mistral-7b-pairrm", "--to", tmp_path / "m.yaml")
    made = json.loads(cli("plan", tmp_path / "m.yaml", "--gpu", "a100-80gb", "--set", "iterations=2", "--json").out)
    assert made["fits"] is True
    assert made["policy"]["parameters"] == 7_241_732_096
    assert {"score", "train", "generate"} == {stage["what"] for stage in made["first"]}
    assert made["hours"] > sum(stage["hours"] for stage in made["first"]) > 0
    assert "GiB" in made["line"]


def test_an_unknown_gpu_and_a_wrong_config_are_mistakes_with_a_hint(cli: Cli, tmp_path: Path) -> None:
    assert "--gpu is one of" in cli("plan", "pocket", "--gpu", "abacus").err
    assert cli("plan", "nothing-here").code == 2
    assert "a100-80gb" in cli("plan", "pocket", "--gpu", "list").out


@pytest.mark.parametrize("name", starts())
def test_every_key_of_a_start_is_read(name: str, tmp_path: Path, cli: Cli) -> None:
    """The schema refuses unknown keys; and what a start says differs from the default or is the paper's number."""
    file = tmp_path / "start.yaml"
    cli("init", name, "--to", file)
    config = load(file)
    assert config.recipe == "synpo"
    assert config.scorer.model is not None
    assert not config.scorer.trust_remote_code  # no start runs code of a repository
    assert config.filter.min_gap == {"llama-3-8b-synpo": 0.02, "mistral-7b-pairrm": 0.2}.get(name, 0.5)


def test_a_plan_for_a_named_gpu_loads_no_torch() -> None:
    import subprocess

    code = (
        "import sys; from synpo_lab.config import load; from synpo_lab.planning import plan; "
        "from synpo_lab.planning.gpus import GPUS; plan(load('pocket'), GPUS['t4']); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
