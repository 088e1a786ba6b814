"""The launch form: fields from the schema, and a YAML text that keeps what was typed."""

import pytest
import yaml

from synpo_lab.config import RunConfig, builtin_names, load
from synpo_lab.errors import ConfigError
from synpo_lab.form import COMMON, Field, config_of, fields, values_of, with_value


def field(key: str) -> Field:
    return fields((key,))[0]


def test_every_common_key_is_a_field_with_its_meaning() -> None:
    made = fields()
    assert [one.key for one in made] == list(COMMON)
    assert all(one.meaning for one in made)


def test_a_field_has_the_kind_choices_and_bounds_of_the_schema() -> None:
    assert field("iterations").kind == "whole"
    assert (field("iterations").minimum, field("iterations").maximum) == (1, 100)
    assert field("simpo.learning_rate").kind == "number"
    assert field("simpo.betas").kind == "numbers"
    assert field("improver.enabled").kind == "switch"
    assert field("policy").kind == "text"
    assert field("filter.min_chosen_score").kind == "number"
    assert field("pool.mode").choices == ("append", "replace")


@pytest.mark.parametrize("name", builtin_names())
def test_the_fields_of_a_config_put_back_make_the_same_config(name: str) -> None:
    text = load(name).to_yaml()
    changed = text
    for key, value in values_of(text).items():
        changed = with_value(changed, key, value)
    assert config_of(changed) == load(name)


def test_a_changed_field_is_in_the_config_and_nothing_else_changes() -> None:
    before = RunConfig()
    after = config_of(with_value(before.to_yaml(), "simpo.betas", "4, 10.5"))
    assert after.simpo.betas == [4, 10.5]
    assert after.model_copy(update={"simpo": before.simpo}) == before


def test_a_wrong_value_is_kept_in_the_text_and_told_when_the_config_is_asked_for() -> None:
    text = with_value(RunConfig().to_yaml(), "iterations", 0)
    assert yaml.safe_load(text)["iterations"] == 0
    with pytest.raises(ConfigError, match=r"iterations: .*\(got 0\)") as caught:
        config_of(text)
    assert caught.value.hint


def test_a_section_that_is_missing_or_no_mapping_is_made_one() -> None:
    assert config_of(with_value("{}", "filter.min_gap", 0.3)).filter.min_gap == 0.3
    assert config_of(with_value("filter: 7", "filter.min_gap", 0.3)).filter.min_gap == 0.3


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2", "just words", ""])
def test_what_is_no_config_is_told_with_a_hint(text: str) -> None:
    for ask in (config_of, lambda given: with_value(given, "seed", 1)):
        with pytest.raises(ConfigError) as caught:
            ask(text)
        assert caught.value.hint
