import random

import numpy as np

from synpo_lab.health.labels import outlier_gaps, scores_disagree, surface_disagrees, ties
from tests.health.conftest import FactsOf, a_pair, ids


def test_ties_and_disagreements_are_told_from_clear_gaps(facts_of: FactsOf) -> None:
    tie, wrong, clear = (
        a_pair(f"p{i}", scores=scores) for i, scores in enumerate([(0.5, 0.5), (0.2, 0.7), (0.9, 0.1)])
    )
    facts = facts_of([tie, wrong, clear])
    tied, disagreeing = ties(facts), scores_disagree(facts)
    assert ids(facts, tied[1]) == {tie.pair_id}
    assert ids(facts, disagreeing[1]) == {wrong.pair_id}
    assert tied[0].plot is not None
    assert sum(tied[0].plot.heights) == 3
    (place,) = tied[0].plot.marked
    assert float(tied[0].plot.labels[place]) == 0
    assert disagreeing[0].plot is not None
    assert all(float(disagreeing[0].plot.labels[place]) < 0 for place in disagreeing[0].plot.marked)


def test_unscored_pairs_cannot_be_told_and_some_unscored_are_counted_out(facts_of: FactsOf) -> None:
    facts = facts_of([a_pair("one"), a_pair("two")])
    for check in (ties, scores_disagree, outlier_gaps):
        result, rows = check(facts)
        assert (result.number, result.judgement, rows, result.looked_at) == (None, "unknown", {}, 0)
        assert "no scores" in result.note


def test_a_pair_without_scores_is_no_tie_among_scored_ones(facts_of: FactsOf) -> None:
    result, rows = ties(facts_of([a_pair("one", scores=(1.0, 1.0)), a_pair("two")]))
    assert (len(rows), result.share, result.looked_at) == (1, 1.0, 1)
    assert result.note == "1 pairs have no gap"


def test_a_gap_far_from_all_others_is_an_outlier(facts_of: FactsOf) -> None:
    rng = random.Random(3)
    usual = [a_pair(f"p{i}", scores=(1 + rng.gauss(0, 0.1), 0.0)) for i in range(80)]
    far = a_pair("far", scores=(9.0, 0.0))
    facts = facts_of([*usual, far])
    assert ids(facts, outlier_gaps(facts)[1]) == {far.pair_id}


def test_gaps_that_are_mostly_equal_have_no_outliers_and_say_why(facts_of: FactsOf) -> None:
    result, rows = outlier_gaps(facts_of([a_pair(f"p{i}", scores=(1.0, 0.0)) for i in range(9)]))
    assert rows == {}
    assert "half of all gaps are equal" in result.note


def test_the_surface_points_at_pairs_that_go_against_what_the_others_teach(facts_of: FactsOf) -> None:
    rng = random.Random(5)
    usual = [a_pair(f"p{i}", "a" * rng.randrange(150, 260), "b" * rng.randrange(20, 60)) for i in range(200)]
    against = a_pair("against", "a" * 20, "b" * 300)
    facts = facts_of([*usual, against])
    result, rows = surface_disagrees(facts, np.zeros(len(facts)))
    assert ids(facts, rows) == {against.pair_id}
    assert "agrees with 99" in result.note


def test_the_surface_says_nothing_of_a_few_pairs(facts_of: FactsOf) -> None:
    facts = facts_of([a_pair(f"p{i}") for i in range(5)])
    result, rows = surface_disagrees(facts, np.zeros(5))
    assert (rows, result.judgement) == ({}, "unknown")
