"""Agreement, worked by hand and against scipy and scikit-learn."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import cohen_kappa_score

from synpo_lab.agreement import (
    Verdict,
    agreement,
    between_readers,
    by_reader,
    cohens_kappa,
    first_side,
    scorer_by_verdict,
    wilson,
)

CATEGORIES = st.sampled_from(["first", "second", "tie", "bad"])


def test_wilson_worked_by_hand() -> None:
    """8 of 10 at z = 2: centre (0.8 + 0.2) / 1.4, half 2 sqrt(0.016 + 0.01) / 1.4."""
    low, high = wilson(8, 10, z=2)
    assert low == pytest.approx((1.0 - 2 * math.sqrt(0.026)) / 1.4)
    assert high == pytest.approx((1.0 + 2 * math.sqrt(0.026)) / 1.4)
    assert all(math.isnan(bound) for bound in wilson(0, 0))


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_scipy_s(counts: tuple[int, int]) -> None:
    expected = binomtest(*counts).proportion_ci(method="wilson")
    assert wilson(*counts) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_kappa_worked_by_hand() -> None:
    """Cohen's case: 50 judgements, 35 alike, the raters say yes to 25 and 30: p_e = 0.5, kappa = 0.4."""
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    assert cohens_kappa(pairs) == pytest.approx(0.4)
    assert math.isnan(cohens_kappa([]))
    assert math.isnan(cohens_kappa([("yes", "yes")]))


@given(st.lists(st.tuples(CATEGORIES, CATEGORIES), min_size=2, max_size=60).filter(lambda p: len(set(sum(p, ()))) > 1))
def test_kappa_is_scikit_learn_s(pairs: list[tuple[str, str]]) -> None:
    expected = cohen_kappa_score([a for a, _ in pairs], [b for _, b in pairs])
    assert cohens_kappa(pairs) == pytest.approx(expected, nan_ok=True)


def test_a_reader_is_compared_over_what_both_decided() -> None:
    said = [
        Verdict("a", "ana", "chosen", 0.5),
        Verdict("b", "ana", "rejected", 0.2),
        Verdict("c", "ana", "rejected", -0.1),
        Verdict("d", "ana", "chosen", None),  # no scorer here
        Verdict("e", "ana", "chosen", 0.0),  # the scorer is undecided
        Verdict("f", "ana", "tie", 0.4),
        Verdict("g", "ana", "bad", 0.4),
        Verdict("a", "bo", "rejected", 0.5),
    ]
    ana, bo = by_reader(said)
    assert (ana.author, ana.scorer.n, ana.scorer.agreed, ana.label.n, ana.label.agreed) == ("ana", 3, 2, 5, 3)
    assert ana.scorer.share == pytest.approx(2 / 3)
    assert (ana.scorer.low, ana.scorer.high) == wilson(2, 3)
    assert scorer_by_verdict(row for row in said if row.author == "ana") == {
        "chosen": {"chosen": 1, "": 1, "tie": 1},
        "rejected": {"chosen": 1, "rejected": 1},
        "tie": {"chosen": 1},
        "bad": {"chosen": 1},
    }
    assert (bo.author, bo.scorer.n, bo.scorer.agreed) == ("bo", 1, 0)


def test_two_readers_are_compared_over_what_both_read() -> None:
    said = [
        Verdict(pair_id, author, verdict, None)
        for author, verdicts in {"ana": ["chosen", "tie", "bad"], "bo": ["chosen", "rejected", "bad", "tie"]}.items()
        for pair_id, verdict in zip("xyzw", verdicts, strict=False)
    ]
    (two,) = between_readers(said)
    assert (two.one, two.other, two.agreement.n, two.agreement.agreed) == ("ana", "bo", 3, 2)
    assert between_readers([Verdict("x", "ana", "tie", None), Verdict("y", "bo", "tie", None)]) == []


def test_kappa_against_the_label_sees_more_than_chance() -> None:
    """A reader who always agrees has kappa 1, though the label always says "chosen"."""
    said = [Verdict(f"pair {i}", "ana", "chosen", 1.0) for i in range(40)]
    (ana,) = by_reader(said)
    assert (ana.label.share, ana.label.kappa) == (1.0, 1.0)


def test_blind_reading_shows_either_side_first_about_as_often_and_always_the_same() -> None:
    sides = [first_side(f"pair {i}") for i in range(1000)]
    assert 430 < sides.count("chosen") < 570
    assert sides == [first_side(f"pair {i}") for i in range(1000)]


def test_no_verdicts_give_no_numbers() -> None:
    assert by_reader([]) == between_readers([]) == []
    nothing = agreement([])
    assert (nothing.n, nothing.agreed) == (0, 0)
    assert math.isnan(nothing.share)
