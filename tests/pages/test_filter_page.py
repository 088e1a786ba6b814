"""The filter page: what the widgets say, what is drawn of it, and that all of it is one filter."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from pages import filter_rules, filter_told, filter_use, thresholds
from pages.filter_rules import (
    CUTS,
    GROUPS,
    CutSlider,
    asked_rules,
    pair_rules,
    rules_of,
    span,
    told,
    updates,
    written_rules,
)
from pages.rule_histogram import rule_histogram
from pages.run_words import IMPORTED
from pages.shell import Lab, Selection
from storage.pair_filter import NO_RULES, PairFilter, drop_reasons
from storage.queries import Histogram, changed_counts, histograms, pairs_page
from storage.state import set_state
from synpo_lab import filters
from synpo_lab.config import FilterConfig
from synpo_lab.errors import ConfigError
from synpo_lab.home import open_store
from synpo_lab.records import Pair
from tests.pages.conftest import RUN
from tests.plausible_run import write_run
from tests.storage.test_pair_filter import RULES


def pairs_of(lab: Lab) -> list[Pair]:
    return list(lab.store.run(RUN).read(Pair))


def asked(
    lab: Lab, rules: FilterConfig, iteration: int | None = None, other: FilterConfig | None = None
) -> thresholds.Asked:
    stored = lab.config(RUN).filter
    name = filter_use.OWN if other is None else "the other"
    return thresholds.Asked(RUN, iteration, rules, stored, name, other or stored)


def numbers(lab: Lab, rules: FilterConfig, iteration: int | None = None) -> dict[str, Any]:
    names = ["summary", "wrong", "state", *GROUPS, "counts", "sql", "yaml", "links", "falls", "like", "bars"]
    wanted = asked(lab, rules, iteration)
    shown = [*thresholds._numbers(lab, wanted), *thresholds._consequences(lab, wanted)]
    return dict(zip(names, shown, strict=True))


@pytest.mark.parametrize("gap", [-1.0, 0.0, 0.1, 0.35])
def test_moving_the_cut_tells_what_a_direct_count_tells(lab: Lab, gap: float) -> None:
    made, rules = pairs_of(lab), FilterConfig(min_gap=gap)
    kept = sum(one.gap > gap and one.repetition <= 0.5 for one in made)  # type: ignore[operator]
    shown = numbers(lab, rules)
    assert f"<b>{kept}</b> of {len(made)} pairs are kept" in shown["summary"]
    assert sum(next(bar for bar in shown["bars"].data if bar.name == "kept").y) == kept
    assert shown["counts"].count("<tr>") == 1 + 2
    moved = sum((one.gap > gap) != (one.gap > 0.1) for one in made)  # type: ignore[operator]
    rows = thresholds._rows(lab, asked(lab, rules), "changed", 0)[1]
    assert (f"{moved} in all" in rows) if moved else ("keep exactly the same pairs" in rows)


@pytest.mark.parametrize(("typed", "meant"), [(5, 1.0), (-7.5, -1.0), (0.3, 0.3)])
def test_a_number_typed_beyond_the_end_of_a_slider_is_that_end(typed: float, meant: float) -> None:
    slider = CutSlider(minimum=-1, maximum=1, step=0.005)
    assert slider.preprocess(typed) == meant
    assert slider.get_block_name() == "slider"
    assert not Path(filter_rules.__file__).with_suffix(".pyi").exists()


def test_a_cut_that_keeps_nothing_says_so(lab: Lab) -> None:
    told = numbers(lab, FilterConfig(min_gap=5.0))["summary"]
    assert "This keeps nothing" in told
    assert "Loosen a rule." in told


def test_of_pairs_nobody_scored_no_cut_is_told_to_help(home: Path) -> None:
    run = open_store(home).create_run(RUN, "recipe: import\n", {"recipe": "import", "created_at": 1.0})
    run.append([Pair(1, "q" * 16, "p", "?", "c", "r", "yes", "no", None, None, None, 3, 2, 0.0, True, None, 0.0)])
    set_state(run.folder, "imported")
    unscored = Lab(home)
    told = numbers(unscored, FilterConfig(min_gap=0.02))["summary"]
    assert "None of them has a score" in told
    assert "Loosen a rule" not in told
    assert "<b>1</b> of 1 pairs are kept" in numbers(unscored, FilterConfig(min_gap=None))["summary"]
    assert "Loosen a rule." in numbers(unscored, FilterConfig(min_gap=None, max_length_ratio=1.0))["summary"]
    unscored.close()


@pytest.mark.parametrize(
    "rules",
    [
        FilterConfig(),
        FilterConfig(min_gap=None, max_repetition=None),
        FilterConfig(max_similarity=0.6, where="prompt LIKE '%a%'", max_length_ratio=1.5),
    ],
)
def test_the_sql_the_yaml_the_rows_and_the_recipe_keep_the_same_pairs(lab: Lab, rules: FilterConfig) -> None:
    shown = numbers(lab, rules)
    by_sql = {row["pair_id"] for row in lab.database.rows(shown["sql"])}
    again = pair_rules(filters.from_yaml(shown["yaml"]))
    made = pairs_of(lab)
    by_yaml = {pair.pair_id for pair, reason in zip(made, drop_reasons(made, again), strict=True) if reason is None}
    run_id, query = thresholds._shown_pairs(RUN, "all", *widget_values(rules))
    by_page = {row["pair_id"] for row in pairs_page(lab.database, str(run_id), query, limit=500).rows}
    assert by_sql == by_yaml == by_page


def widget_values(rules: FilterConfig) -> list[Any]:
    """What the browser sends for a filter: a slider whose rule is off has a value all the same."""
    filled = updates(rules)
    sliders = [0.5 if isinstance(value, dict) else value for value in filled[len(CUTS) : 2 * len(CUTS)]]
    return [*filled[: len(CUTS)], *sliders, *filled[2 * len(CUTS) :]]


@given(rules=RULES, stored=RULES)
def test_a_filter_comes_back_from_its_widgets_and_from_its_address(rules: FilterConfig, stored: FilterConfig) -> None:
    assert rules_of(widget_values(rules)) == rules
    told = {name: value for name, value in written_rules(rules, stored).items() if value is not None}
    assert asked_rules(told, stored) == (rules, "")


@pytest.mark.parametrize(
    "query",
    [
        {"min_gap": "many"},
        {"min_gap": "inf"},
        {"max_repetition": "7"},
        {"where": "(SELECT 1)"},
        {"verdicts": "good,bad"},
    ],
)
def test_what_an_address_cannot_mean_is_told_and_passed_over(lab: Lab, query: dict[str, str]) -> None:
    rules, faults = asked_rules(query | {"max_gap": "3"}, FilterConfig())
    assert rules == FilterConfig(max_gap=3.0)
    assert faults
    page = thresholds._filled(lab, RUN, Selection(RUN, query))
    assert any("The address asks for what cannot be" in str(part) for part in page)


def test_a_condition_that_is_none_is_told_beside_the_widgets() -> None:
    with pytest.raises(ConfigError, match="a subquery"):
        rules_of([*widget_values(FilterConfig())[:-1], "(SELECT 1)"])


def test_the_histograms_show_every_pair_and_where_the_rules_cut(lab: Lab) -> None:
    rules = FilterConfig(min_gap=0.35, max_gap=0.9, min_chosen_score=0.2, max_length_ratio=2, max_similarity=0.9)
    shown = numbers(lab, rules)
    found = histograms(lab.database, RUN, pair_rules(rules))
    for number, histogram in found.items():
        drawn = shown[number]
        assert f"{sum(histogram.counts):,} pairs, {sum(histogram.kept):,} kept" in drawn
        assert drawn.count('class="cut" x1=') == sum(
            getattr(rules, cut.rule) is not None for cut in GROUPS[number].cuts
        )
        assert GROUPS[number].title in drawn
        assert "pairs</text>" in drawn


def test_a_number_no_pair_has_and_one_that_is_always_the_same_are_drawn_too() -> None:
    assert "No pair has this number" in rule_histogram("gap", Histogram([], [], [], 5), FilterConfig())
    flat = Histogram([1.0 + i / 40 for i in range(41)], [3, *[0] * 39], [2, *[0] * 39], 1)
    assert "1 pairs have none" in rule_histogram("gap", flat, FilterConfig(min_gap=-7.0))
    assert span("gap", flat) == (1.0, 2.0)
    assert span("gap", Histogram([], [], [], 5), 4.0)[1] >= 4.0


def test_the_sliders_span_all_there_is(lab: Lab) -> None:
    gaps = [one.gap for one in pairs_of(lab)]
    low, high = span("gap", histograms(lab.database, RUN, NO_RULES)["gap"])
    assert low <= min(gaps)  # type: ignore[type-var]
    assert high >= max(gaps)  # type: ignore[type-var]


def test_the_bars_of_the_waterfall_open_the_rows_they_lost(lab: Lab) -> None:
    stored = lab.config(RUN).filter
    own = numbers(lab, stored)["falls"]
    assert f"./pairs?run={RUN}&amp;reason=gap" in own
    assert f"./prompts?run={RUN}&amp;status=dropped%3A+invalid" in own
    assert f"./pairs?run={RUN}&amp;kept=kept" in own
    moved = numbers(lab, stored.model_copy(update={"max_similarity": 0.5}))["falls"]
    assert f"./thresholds?run={RUN}&amp;max_similarity=0.5&amp;rows=similarity#cut-changed" in moved
    query = {"max_similarity": "0.5", "rows": "similarity"}
    page = thresholds._filled(lab, RUN, Selection(RUN, query))
    assert any("<h3>Dropped: similarity</h3>" in str(part) for part in page)


def filled(lab: Lab, **query: str) -> tuple[list[Any], dict[str, Any]]:
    """The page as an address opens it, and what it says for the address."""
    page = thresholds._filled(lab, RUN, Selection(RUN, query))
    return page, next(json.loads(part) for part in page if str(part).startswith('{"run"'))


def test_what_is_compared_with_stays_in_the_address_and_in_the_links_of_the_bars(lab: Lab) -> None:
    page, state = filled(lab, max_similarity="0.5", **{"with": "no rules"})
    assert page[4].value == state["with"] == "no rules"
    assert any("Against no rules: <b>+0" in str(part) for part in page)
    assert any("with=no+rules&amp;max_similarity=0.5&amp;rows=" in str(part) for part in page)
    assert filled(lab)[1]["with"] is None


def test_a_filter_to_compare_with_that_is_not_there_is_told_and_the_runs_own_stands_in(lab: Lab) -> None:
    page, state = filled(lab, **{"with": "<b>gone</b>"})
    assert (page[4].value, state["with"]) == (filter_use.OWN, None)
    assert any("there is no filter &#39;&lt;b&gt;gone" in str(part) for part in page)


def test_that_a_training_draws_from_the_kept_pairs_is_said_where_they_are_more_than_it_reads(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rows, the SQL and the YAML keep them all; `pool.pairs_per_iteration` of each round are trained on."""
    everything = FilterConfig(min_gap=None, max_repetition=None)
    untold = numbers(lab, everything)
    for part in ("links", "summary", "counts"):
        assert not re.search("drawn at random|a training reads", untold[part])
    config = lab.config(RUN)
    fewer = config.model_copy(update={"pool": config.pool.model_copy(update={"pairs_per_iteration": 30})})
    monkeypatch.setattr(lab, "config", lambda run_id: fewer)
    kept = {t: sum(one.iteration == t for one in pairs_of(lab)) for t in (1, 2)}
    assert min(kept.values()) > 30
    said = numbers(lab, everything)["links"]
    assert "trains on 30 of them an iteration at most, drawn at random" in said
    assert f"{kept[1]} of iteration 1, {kept[2]} of iteration 2" in said
    told = numbers(lab, everything)
    assert "A training reads <b>60</b> of these, drawn at random: at most 30 an iteration" in told["summary"]
    assert re.findall(r'data-label="a training reads">(\d+)<', told["counts"]) == ["30", "30"]
    assert "to train on: 60" in told["falls"]
    assert "drawn at random" not in numbers(lab, FilterConfig(min_gap=5.0))["links"]


def test_of_a_data_set_no_training_and_no_generator_is_told(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its config says of a pool: nobody sampled an import."""
    config = lab.config(RUN)
    tiny = config.model_copy(
        update={"recipe": "import", "pool": config.pool.model_copy(update={"pairs_per_iteration": 3})}
    )
    monkeypatch.setattr(lab, "config", lambda run_id: tiny)
    monkeypatch.setattr(thresholds, "words_of_run", lambda lab, run_id: IMPORTED)
    told = " ".join(map(str, numbers(lab, FilterConfig(min_gap=None, max_repetition=None)).values()))
    assert not re.search("drawn at random|a training reads|not sampled|to train on|generated", told, re.IGNORECASE)


def test_a_filter_is_compared_with_itself_as_it_was_before_a_move(lab: Lab) -> None:
    before = FilterConfig(min_gap=0.1, max_repetition=None, where="prompt <> '{'")
    name = filter_use.pinned(before)
    assert filter_use.by_name(lab, RUN, name) == before
    assert (filter_use.words_of(name), name) in filter_use.compared(lab, name)
    page, state = filled(lab, min_gap="0.3", **{"with": name})
    now = lab.config(RUN).filter.model_copy(update={"min_gap": 0.3})
    change = changed_counts(lab.database, RUN, pair_rules(before), pair_rules(now))
    assert state["with"] == page[4].value == name
    assert change.removed > 0 == change.added
    assert any("Against the filter pinned: min gap 0.1" in str(part) for part in page)
    assert any(f"−{change.removed} pairs" in str(part) for part in page)


@pytest.mark.parametrize("name", ["{", '{"min_gap": "x"}', '{"nobody": 1}', "{" * 5000, '{"where": "(SELECT 1)"}'])
def test_a_filter_to_compare_with_that_makes_no_sense_is_told(lab: Lab, name: str) -> None:
    page, state = filled(lab, **{"with": name})
    assert (page[4].value, state["with"]) == (filter_use.OWN, None)
    assert any("The address asks for what cannot be" in str(part) for part in page)


def test_iteration_0_is_shown_as_itself(tmp_path: Path) -> None:
    write_run(tmp_path, RUN, iterations=1, prompts=20)
    lab = Lab(tmp_path)
    seed_pair = next(iter(lab.store.run(RUN).read(Pair)))
    lab.store.run(RUN).append([replace(seed_pair, iteration=0, pair_id="of-the-seeds")])
    page, state = filled(lab, iteration="0")
    lab.close()
    assert page[3].value == state["iteration"] == 0


def test_keeping_more_is_said_to_raise_or_lower_the_length_bias(lab: Lab) -> None:
    told = numbers(lab, FilterConfig(min_gap=-2.0))["like"]
    assert "Keeping more <b>" in told
    assert "the length bias" in told
    assert "Keeping" not in numbers(lab, lab.config(RUN).filter)["like"]


def test_a_large_length_ratio_is_told_as_a_number_and_can_be_cut() -> None:
    assert [told("length_ratio", at) for at in (math.log2(190), 14.0, 1.0, -3.0)] == ["190×", "16,384×", "2×", "0.12×"]
    found = Histogram([-1.0, math.log2(190)], [1], [1], 0)
    assert span("length_ratio", found) == (0.5, 190.0)


def test_a_rule_that_makes_no_sense_points_at_its_field_and_at_no_command() -> None:
    with pytest.raises(ConfigError) as caught:
        rules_of([*widget_values(FilterConfig())[:-1], "(SELECT 1)"])
    assert caught.value.hint == "mend the rule that is named, or empty its field"


def test_a_filter_is_kept_under_a_name_offered_and_refused_a_bad_name(lab: Lab, full_home: Path) -> None:
    said, *choices = filter_use._saved(lab, "kept for the test", FilterConfig(min_gap=0.4), filter_use.OWN)
    assert "filters/kept for the test.yaml" in said
    assert all("kept for the test" in dict(box.choices).values() for box in choices)
    assert filter_use.by_name(lab, RUN, "kept for the test").min_gap == 0.4
    assert filter_use.by_name(lab, RUN, filter_use.OWN) == lab.config(RUN).filter
    said, *_ = filter_use._saved(lab, "../up", FilterConfig(), filter_use.OWN)
    assert "cannot name a filter" in said
    assert sorted(path.name for path in (full_home / "filters").iterdir()) == ["kept for the test.yaml"]


def test_a_fork_that_cannot_be_is_told(lab: Lab) -> None:
    told = filter_use._forked(lab, RUN, 7, FilterConfig())
    assert "no complete pairs in iteration 7" in told
    assert "hint" in told


def test_a_lab_open_read_only_saves_and_forks_nothing(full_home: Path) -> None:
    lab = Lab(full_home, read_only=True)
    before = lab.store.runs()
    assert "open read-only" in filter_use._forked(lab, RUN, 1, FilterConfig())
    assert "open read-only" in filter_use._saved(lab, "mine", FilterConfig(), 1)[0]
    assert "Design a run" not in filter_use.shown(lab, RUN, FilterConfig(), FilterConfig(), None)[-1]
    assert lab.store.runs() == before
    lab.close()


def test_the_state_for_the_address_names_every_rule_so_that_old_ones_go(lab: Lab) -> None:
    stored = lab.config(RUN).filter
    state = json.loads(numbers(lab, stored.model_copy(update={"min_gap": None}), 2)["state"])
    assert (state["run"], state["iteration"], state["min_gap"], state["max_gap"]) == (RUN, 2, "off", None)
    assert set(FilterConfig.model_fields) < set(state)


def test_hostile_names_and_texts_are_shown_as_text(lab: Lab) -> None:
    hostile = "<script>alert(1)</script>"
    rows = [{"topic": 1, "label": hostile, "pairs": 2, "kept": 1}]
    shown = filter_told.topics(RUN, rows, None) + filter_told.variety(1.0, 2.0, 3, hostile)
    assert "<script" not in shown
    assert PairFilter(where="x") != PairFilter()
