import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.agreement import wilson
from synpo_lab.health.length import (
    length_only_judge,
    longer_is_chosen,
    much_longer_chosen,
    rank_correlation,
    score_follows_length,
)
from tests.health.conftest import FactsOf, a_pair, ids
from tests.health.test_duplicates import facts_with_keys

LENGTHS = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=60)


def with_lengths(lengths: list[tuple[int, int]], gaps: list[float] | None = None) -> object:
    from dataclasses import replace

    facts = facts_with_keys([(0, 1)] * len(lengths))
    chosen, rejected = (np.array([one[i] for one in lengths], float) for i in (0, 1))
    return replace(facts, len_chosen=chosen, len_rejected=rejected, gap=np.array(gaps or [0.0] * len(lengths)))


@given(LENGTHS)
def test_the_length_only_judge_is_right_as_often_as_counting_by_hand_says(lengths: list[tuple[int, int]]) -> None:
    result, _ = length_only_judge(with_lengths(lengths))  # type: ignore[arg-type]
    right = sum(1.0 if a > b else 0.5 if a == b else 0.0 for a, b in lengths)
    assert result.number == pytest.approx(100 * right / len(lengths))
    assert result.low is not None
    assert result.high is not None
    assert result.low <= result.number <= result.high


@given(LENGTHS)
def test_how_often_the_longer_is_chosen_leaves_out_pairs_of_equal_length(lengths: list[tuple[int, int]]) -> None:
    result, _ = longer_is_chosen(with_lengths(lengths))  # type: ignore[arg-type]
    unequal = [(a, b) for a, b in lengths if a != b]
    if unequal:
        assert result.number == pytest.approx(100 * sum(a > b for a, b in unequal) / len(unequal))
    else:
        assert (result.number, result.judgement) == (None, "unknown")
    assert result.looked_at == len(unequal)


def test_a_strong_length_bias_is_trouble_and_none_is_fine(facts_of: FactsOf) -> None:
    rng = random.Random(1)
    biased = [a_pair(f"p{i}", "a" * rng.randrange(60, 90), "b" * 40) for i in range(60)]
    assert longer_is_chosen(facts_of(biased))[0].judgement == "trouble"
    fair = [(50 + (i % 2), 50 + ((i + 1) % 2)) for i in range(200)]
    assert longer_is_chosen(with_lengths(fair))[0].judgement == "fine"  # type: ignore[arg-type]


def test_a_share_of_few_pairs_is_not_judged_by_its_point_alone() -> None:
    result, _ = longer_is_chosen(with_lengths([(2, 1)] * 4))  # type: ignore[arg-type]
    assert (result.number, result.judgement) == (100.0, "fine")


def test_much_longer_is_more_than_twice(facts_of: FactsOf) -> None:
    long, twice = a_pair(chosen="a" * 21, rejected="b" * 10), a_pair(chosen="a" * 20, rejected="b" * 10)
    empty = a_pair(chosen="abc", rejected="")
    facts = facts_of([long, twice, empty])
    assert ids(facts, much_longer_chosen(facts)[1]) == {long.pair_id, empty.pair_id}


def test_a_score_for_length_alone_follows_it_wholly_and_no_scores_follow_nothing(facts_of: FactsOf) -> None:
    lengths = [(i, 10) for i in range(40)]
    result, _ = score_follows_length(with_lengths(lengths, [float(i) for i in range(40)]))  # type: ignore[arg-type]
    assert (result.number, result.judgement) == (pytest.approx(1.0), "trouble")
    unscored, _ = score_follows_length(facts_of([a_pair(f"p{i}") for i in range(9)]))
    assert (unscored.number, unscored.judgement, unscored.plot) == (None, "unknown", None)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=40))
def test_the_rank_correlation_is_scipys(values: list[tuple[int, int]]) -> None:
    from scipy.stats import rankdata

    one, other = (np.array([value[i] for value in values], float) for i in (0, 1))
    mine = rank_correlation(one, other)
    if one.std() == 0 or other.std() == 0:
        assert mine is None
    else:
        assert mine == pytest.approx(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


@given(st.integers(1, 400), st.data())
def test_wilsons_interval_ends_where_a_score_test_would_reject(n: int, data: st.DataObject) -> None:
    """Its ends are where (p - share)^2 = z^2 p (1 - p) / n."""
    hits = data.draw(st.integers(0, n))
    for end in wilson(hits, n):
        assert 0 <= end <= 1
        assert (end - hits / n) ** 2 == pytest.approx(1.959963984540054**2 * end * (1 - end) / n, abs=1e-9)
