"""Named filters: files in the lab home that hold the config section they stand for."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab import filters
from synpo_lab.config import FilterConfig, RunConfig, load
from synpo_lab.errors import ConfigError, DataError

SHARE = st.none() | st.floats(0, 1)
NUMBER = st.none() | st.floats(-1e9, 1e9)
TEXTS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0'"), max_size=20)
RULES = st.builds(
    FilterConfig, min_gap=NUMBER, max_gap=NUMBER, min_chosen_score=NUMBER, max_repetition=SHARE, max_similarity=SHARE,
    drop_duplicates=st.booleans(), verdicts=st.lists(st.sampled_from(["bad", "rejected", "tie"]), max_size=2),
    where=st.none() | TEXTS.map(lambda text: f"prompt <> '{text}'"),
)  # fmt: skip


@given(rules=RULES)
def test_a_filter_comes_back_from_its_yaml_and_from_its_changes(
    rules: FilterConfig, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert filters.from_yaml(filters.as_yaml(rules)) == rules
    path = tmp_path_factory.mktemp("run") / "run.yaml"
    path.write_text(RunConfig().to_yaml(), encoding="utf-8")
    assert load(path, filters.changes(rules)).filter == rules


def test_a_filter_is_saved_read_listed_and_replaced(home: Path) -> None:
    rules = FilterConfig(min_gap=0.3, verdicts=["bad"])
    assert filters.saved(home) == []
    filters.save(home, " strict, v2 ".replace(",", ""), rules)
    filters.save(home, "ünïcode", FilterConfig())
    assert filters.saved(home) == ["strict v2", "ünïcode"]
    assert filters.read(home, "strict v2") == rules
    assert (home / "filters" / "strict v2.yaml").read_text() == (
        "filter:\n  min_gap: 0.3\n  max_repetition: 0.5\n  verdicts:\n  - bad\n"
    )
    filters.save(home, "strict v2", FilterConfig(min_gap=0.4))
    assert filters.read(home, "strict v2").min_gap == 0.4
    assert filters.read(home, "the paper, PairRM").min_gap == 0.2


@pytest.mark.parametrize("name", ["", " ", "../up", "a/b", ".hidden", "-x", "x" * 61, "a\nb", "a\0b", "no rules"])
def test_a_name_that_could_be_a_path_is_refused(home: Path, name: str) -> None:
    with pytest.raises(DataError) as caught:
        filters.save(home, name, FilterConfig())
    assert caught.value.hint
    assert not (home / "filters").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("min_gap: [", "is not YAML"),
        ("- 1", "no mapping"),
        ("", "no mapping"),
        ("filter: 7", "filter"),
        ("min_gab: 0.3", "did you mean 'min_gap'"),
        ("{filter: {}, simpo: {}}", "unknown key"),
        ("where: (SELECT 1)", "a subquery cannot be part of a condition"),
        ("verdicts: [good]", "verdicts"),
    ],
)
def test_what_is_no_filter_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        filters.from_yaml(text)


def test_a_file_that_is_missing_binary_or_huge_is_refused(tmp_path: Path) -> None:
    for content in (None, b"\xff\xfe", b"#" * 30_000):
        path = tmp_path / "f.yaml"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(DataError) as caught:
            filters.read_file(path)
        assert caught.value.hint
    with pytest.raises(DataError, match="there is no filter"):
        filters.read(tmp_path, "../f")
