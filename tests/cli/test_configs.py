import json
from pathlib import Path
from typing import Any

import yaml

from synpo_lab.cli.configs import schema_rows
from synpo_lab.config import RunConfig, builtin_names, parse


def test_every_key_of_the_schema_has_a_meaning() -> None:
    rows = list(schema_rows(RunConfig))
    assert [row["key"] for row in rows if not row["meaning"]] == []
    assert {"filter.min_gap", "simpo.betas", "prompts.train.learning_rate"} <= {row["key"] for row in rows}


def test_defaults_are_shown_as_yaml_would_read_them() -> None:
    defaults = {row["key"]: row["default"] for row in schema_rows(RunConfig)}
    assert (defaults["seed"], defaults["trust_remote_code"], defaults["filter.max_length_ratio"]) == (
        "0",
        "false",
        "none",
    )


def test_the_schema_is_printed_for_people_and_for_programs(cli: Any) -> None:
    assert "filter.min_gap" in cli("config", "--schema").out
    assert "FilterConfig" in json.loads(cli("config", "--schema", "--json").out)["$defs"]


def test_a_built_in_config_is_printed_whole_and_can_be_run_as_it_is(cli: Any) -> None:
    assert cli("config").out.split() == builtin_names()
    for name in builtin_names():
        assert parse(yaml.safe_load(cli("config", name).out)) == parse(json.loads(cli("config", name, "--json").out))


def test_a_config_that_is_not_there_is_a_mistake(cli: Any, tmp_path: Path) -> None:
    answer = cli("config", tmp_path / "none.yaml")
    assert (answer.code, answer.out) == (2, "")
