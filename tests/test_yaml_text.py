"""What the lab writes as YAML is what it reads."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.yaml_text import BREAKS, one_line, to_yaml

TEXTS = st.text(st.characters(blacklist_categories=["Cs"]) | st.sampled_from(BREAKS + "'\"\n\\#:[]{},"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@given(value=VALUES)
def test_a_value_is_read_as_it_was_written(value: object) -> None:
    assert yaml.safe_load(to_yaml(value)) == value
    assert yaml.safe_load(one_line(value)) == value


@pytest.mark.parametrize("text", [f"a{mark}b" for mark in BREAKS])
def test_line_breaks_only_yaml_knows_are_kept(text: str) -> None:
    assert yaml.safe_load(to_yaml({"where": text})) == {"where": text}


def test_letters_of_every_script_are_written_as_they_are() -> None:
    assert to_yaml({"b": "żółw 龟 🐢", "a": 1}) == "b: żółw 龟 🐢\na: 1\n"
    assert "\n" not in one_line("two\nlines, " * 1_000)
