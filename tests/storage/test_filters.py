"""What the filter page asks, against a plain recomputation over the same records."""

import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest

from storage import Store, queries
from storage.database import Database
from storage.pair_filter import NO_RULES, PairFilter
from synpo_lab.config import FilterConfig
from synpo_lab.records import Pair, Topic
from tests.reference_filter import drop_reason

TinyStore = Callable[..., Store]


@pytest.fixture
def database(tiny_store: TinyStore, small_run: list[Any]) -> Iterable[Database]:
    opened = Database(tiny_store(small_run))
    yield opened
    opened.close()


@pytest.fixture
def pairs(small_run: list[Any]) -> list[Pair]:
    return [record for record in small_run if isinstance(record, Pair)]


RULES = [FilterConfig(), FilterConfig(min_gap=0.3), FilterConfig(min_chosen_score=0.6, max_length_ratio=1.2)]


def as_filter(rules: FilterConfig) -> PairFilter:
    return PairFilter(**rules.model_dump())


@pytest.mark.parametrize("rules", [*RULES, FilterConfig(min_gap=-2, max_repetition=0.2), FilterConfig(min_gap=5)])
def test_thresholds_count_what_the_trainers_filter_would_keep(
    database: Database, pairs: list[Pair], rules: FilterConfig
) -> None:
    for count in queries.threshold_counts(database, "run", as_filter(rules)):
        mine = [pair for pair in pairs if pair.iteration == count.iteration]
        reasons = Counter(drop_reason(pair, rules) for pair in mine)
        assert (count.pairs, count.kept) == (len(mine), reasons.pop(None, 0))
        assert count.dropped == reasons
        assert count.kept_by_run == sum(pair.kept or pair.drop_reason == "not sampled" for pair in mine)


@pytest.mark.parametrize("before", RULES)
@pytest.mark.parametrize("after", RULES)
def test_changed_rows_are_those_whose_fate_differs(
    database: Database, pairs: list[Pair], before: FilterConfig, after: FilterConfig
) -> None:
    changed = [p for p in pairs if (drop_reason(p, before) is None) != (drop_reason(p, after) is None)]
    changed.sort(key=lambda p: (-p.gap, p.pair_id))
    page = queries.changed_rows(database, "run", as_filter(before), as_filter(after), limit=4, offset=1)
    assert page.total == len(changed)
    assert [row["pair_id"] for row in page.rows] == [p.pair_id for p in changed[1:5]]
    assert [row["dropped_after"] for row in page.rows] == [drop_reason(p, after) for p in changed[1:5]]
    assert [row["kept_after"] for row in page.rows] == [drop_reason(p, after) is None for p in changed[1:5]]
    beyond = queries.changed_rows(database, "run", as_filter(before), as_filter(after), offset=10_000)
    assert (beyond.rows, beyond.total) == ([], len(changed))
    counts = queries.changed_counts(database, "run", as_filter(before), as_filter(after))
    assert counts.added == sum(drop_reason(p, after) is None for p in changed)
    assert counts.removed == len(changed) - counts.added


NUMBERS: dict[str, Callable[[Pair], float | None]] = {
    "gap": lambda p: p.gap,
    "chosen_score": lambda p: p.chosen_score,
    "length_ratio": lambda p: math.log2(p.len_chosen / p.len_rejected) if p.len_chosen and p.len_rejected else None,
    "repetition": lambda p: p.repetition,
    "similarity": lambda p: p.similarity,
}


@pytest.mark.parametrize("iteration", [None, 1])
@pytest.mark.parametrize("rules", RULES)
def test_the_histograms_put_every_number_in_its_bin(
    database: Database, pairs: list[Pair], iteration: int | None, rules: FilterConfig
) -> None:
    mine = [pair for pair in pairs if iteration in (None, pair.iteration)]
    found = queries.histograms(database, "run", as_filter(rules), iteration)
    assert set(found) == set(NUMBERS)
    for name, number in NUMBERS.items():
        histogram = found[name]
        every = [number(pair) for pair in pairs]
        assert len(histogram.counts) == len(histogram.edges) - 1
        assert (histogram.edges[0], histogram.edges[-1]) == (pytest.approx(min(every)), pytest.approx(max(every)))

        def binned(kept: list[Pair], edges: list[float] = histogram.edges, number: Any = number) -> list[int]:
            places = Counter(min(len(edges) - 2, bisect_right(edges, number(pair)) - 1) for pair in kept)
            return [places[i] for i in range(len(edges) - 1)]

        assert (histogram.counts, histogram.not_numbers) == (binned(mine), 0)
        assert histogram.kept == binned([pair for pair in mine if drop_reason(pair, rules) is None])


def test_the_histogram_of_equal_and_of_unusual_numbers(tiny_store: TinyStore, pairs: list[Pair]) -> None:
    odd = [
        replace(pairs[i], gap=gap, len_rejected=0, similarity=None, iteration=1, pair_id=str(i))
        for i, gap in enumerate([0.5, 0.5, math.nan, math.inf, None])
    ]
    found = queries.histograms(Database(tiny_store(odd)), "run", NO_RULES)
    assert (sum(found["gap"].counts), found["gap"].counts[0], found["gap"].not_numbers) == (2, 2, 3)
    assert (found["length_ratio"].edges, found["similarity"].counts, found["similarity"].not_numbers) == ([], [], 5)
    huge = [replace(pairs[i], gap=gap, pair_id=f"huge {i}") for i, gap in enumerate([1e308, -1e308])]
    assert queries.histograms(Database(tiny_store(huge, run_id="huge")), "huge", NO_RULES)["gap"].counts == []


@pytest.mark.parametrize("rules", RULES)
def test_effects_are_means_over_what_is_kept(database: Database, pairs: list[Pair], rules: FilterConfig) -> None:
    kept = [pair for pair in pairs if drop_reason(pair, rules) is None]
    found = queries.effects(database, "run", as_filter(rules))
    assert found.kept == len(kept)
    assert found.longer == pytest.approx(fmean(p.len_chosen > p.len_rejected for p in kept))
    assert found.length_ratio == pytest.approx(math.exp(fmean(math.log(p.len_chosen / p.len_rejected) for p in kept)))
    assert found.similarity == pytest.approx(fmean(p.similarity for p in kept))
    assert queries.effects(database, "run", PairFilter(min_gap=99)) == queries.Effects(0, None, None, None, None)


def test_topics_say_how_much_of_each_is_kept(database: Database, small_run: list[Any], pairs: list[Pair]) -> None:
    topics = {record.prompt_id: record.topic for record in small_run if isinstance(record, Topic)}
    all_of = Counter(topics[pair.prompt_id] for pair in pairs)
    kept = Counter(topics[pair.prompt_id] for pair in pairs if drop_reason(pair, RULES[1]) is None)
    rows = queries.kept_by_topic(database, "run", as_filter(RULES[1]))
    assert {row["topic"]: (row["pairs"], row["kept"]) for row in rows} == {t: (all_of[t], kept[t]) for t in all_of}


def test_the_waterfall_ends_at_what_is_kept_and_sampled(database: Database, pairs: list[Pair]) -> None:
    counts = queries.threshold_counts(database, "run", as_filter(RULES[1]))
    steps = queries.waterfall(database, "run", counts, at_most=3)
    kept = Counter(pair.iteration for pair in pairs if drop_reason(pair, RULES[1]) is None)
    assert [step.reason for step in steps[:4]] == ["generated", "malformed", "duplicate", "paired"]
    assert (steps[3].left, steps[-1].reason) == (len(pairs), "not sampled")
    assert steps[-1].left == sum(min(3, count) for count in kept.values())
    reasons = Counter(drop_reason(pair, RULES[1]) for pair in pairs)
    assert {step.reason: step.dropped for step in steps[4:-1]} == {r: n for r, n in reasons.items() if r}
    assert queries.waterfall(database, "run", counts, at_most=3, iteration=9) == []


@pytest.mark.parametrize("fate", [None, "gap", "repetition", "similarity"])
def test_rows_of_a_fate_are_those_the_rule_drops(database: Database, pairs: list[Pair], fate: str | None) -> None:
    mine = sorted((p for p in pairs if drop_reason(p, RULES[1]) == fate), key=lambda p: (-p.gap, p.pair_id))
    page = queries.rows_of_fate(database, "run", as_filter(RULES[1]), fate, limit=3, offset=1)
    assert (page.total, [row["pair_id"] for row in page.rows]) == (len(mine), [p.pair_id for p in mine[1:4]])


def test_the_sample_of_kept_answers_is_always_the_same(database: Database, pairs: list[Pair]) -> None:
    kept = {p.chosen for p in pairs if drop_reason(p, RULES[1]) is None}
    sample = queries.sampled_answers(database, "run", as_filter(RULES[1]), limit=5)
    assert len(sample) == 5
    assert set(sample) <= kept
    assert sample == queries.sampled_answers(database, "run", as_filter(RULES[1]), limit=5)
