import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.metrics import bradley_terry, length_controlled_win_rate, repetition, similarity, win_rate, word_variety

ALPACA_EVAL = Path(__file__).parents[2] / "shared" / "data" / "alpaca_eval"
preferences = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3000), st.integers(0, 3000)), min_size=5, max_size=60)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("", 0.0),
        ("one two", 0.0),
        ("one two three four five", 0.0),
        ("a b c a b c", 0.25),  # abc bca cab abc: one of four stood before
        ("no no no no no no", 0.75),  # one distinct of four
        ("Sure! Plum, plum, plum and plum.", 0.0),  # an honest answer to "say plum four times"
    ],
)
def test_repetition_worked_by_hand(text: str, share: float) -> None:
    assert repetition(text) == pytest.approx(share)


def test_a_looping_answer_is_mostly_repetition() -> None:
    assert repetition("I think " + "that it is so and " * 20) > 0.9


@given(st.text())
def test_repetition_is_a_share_of_any_text(text: str) -> None:
    assert 0 <= repetition(text) < 1


@given(st.text(min_size=1))
def test_saying_it_twice_never_repeats_less(text: str) -> None:
    assert repetition(f"{text} {text}") >= repetition(text)


def test_win_rate_worked_by_hand() -> None:
    estimate, error = win_rate([1, 1, 0.5, 0])
    assert estimate == 0.625
    assert error == pytest.approx(math.sqrt(((0.375**2) * 2 + 0.125**2 + 0.625**2) / 3 / 4))


def test_win_rate_of_nothing_is_not_a_number() -> None:
    assert all(math.isnan(value) for value in win_rate([]))
    assert math.isnan(win_rate([1.0])[1])


def annotations(model: str) -> tuple[list[float], list[int], list[int]]:
    file = ALPACA_EVAL / "annotations" / f"{model}.json"
    if not file.is_file():
        pytest.skip("the AlpacaEval annotations are not on this machine")
    rows = [row for row in json.loads(file.read_text(encoding="utf-8")) if row["preference"] is not None]
    return (
        [row["preference"] - 1 for row in rows],
        [len(r["output_2"]) for r in rows],
        [len(r["output_1"]) for r in rows],
    )


def test_the_published_win_rate_of_openhermes_comes_out_and_length_control_lifts_it() -> None:
    """Published: 10.3404 raw; 16.2486 controlled, with prompt difficulty and gamed baselines that we have not."""
    p, ours, theirs = annotations("OpenHermes-2.5-Mistral-7B")
    assert 100 * win_rate(p)[0] == pytest.approx(10.3404, abs=1e-4)
    estimate, error = length_controlled_win_rate(p, ours, theirs)
    assert np.mean(ours) < np.mean(theirs)
    assert 100 * estimate == pytest.approx(20.656, abs=1e-3)
    assert abs(estimate - 0.162486) < 2 * error < 0.06


def test_length_control_is_the_unpenalised_regression_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    p, ours, theirs = annotations("text_davinci_003")
    difference = np.subtract(ours, theirs)
    length = np.tanh(difference / difference.std(ddof=1)).reshape(-1, 1)
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    fit.fit(np.concatenate([length, length]), [1] * len(p) + [0] * len(p), sample_weight=[*p, *(1 - x for x in p)])
    expected = 1 / (1 + math.exp(-fit.intercept_[0]))
    assert length_controlled_win_rate(p, ours, theirs)[0] == pytest.approx(expected, abs=1e-4)


def test_length_control_undoes_a_win_rate_that_is_only_length() -> None:
    """The longer side wins with probability sigmoid(2 tanh(difference / std)), and the model mostly writes more."""
    rng = np.random.default_rng(0)
    difference = rng.normal(300, 600, 20_000)
    p = 1 / (1 + np.exp(-2 * np.tanh(difference / difference.std(ddof=1))))
    wins = (rng.random(20_000) < p).astype(float)
    estimate, error = length_controlled_win_rate(wins, difference.astype(int), [0] * 20_000)
    assert win_rate(wins)[0] > 0.6
    assert abs(estimate - 0.5) < 3 * error < 0.03


def test_length_control_of_equal_lengths_is_the_win_rate() -> None:
    estimate, error = length_controlled_win_rate([1, 1, 0.5, 0], [10] * 4, [10] * 4)
    assert estimate == pytest.approx(0.625, abs=1e-6)
    assert error == pytest.approx(win_rate([1, 1, 0.5, 0])[1] * math.sqrt(3 / 4), rel=1e-4)


@given(preferences)
def test_swapping_the_sides_swaps_the_length_controlled_win_rate(rows: list[tuple[float, int, int]]) -> None:
    p, ours, theirs = (list(column) for column in zip(*rows, strict=True))
    forth, _ = length_controlled_win_rate(p, ours, theirs)
    back, _ = length_controlled_win_rate([1 - x for x in p], theirs, ours)
    assert forth + back == pytest.approx(1, abs=1e-6)


def test_a_model_against_itself_wins_half_whatever_the_control() -> None:
    lengths = [10, 400, 35, 80]
    assert length_controlled_win_rate([0.5] * 4, lengths, lengths)[0] == pytest.approx(0.5)


def test_length_control_of_nothing_is_not_a_number() -> None:
    assert all(math.isnan(value) for value in length_controlled_win_rate([], [], []))


def test_ratings_worked_by_hand() -> None:
    """a wins 3 of 4 against b: odds 3, 400 log10(3) = 190.85 points apart."""
    ratings = bradley_terry([("a", "b", 1, 3), ("a", "b", 0, 1)], anchor="b")
    assert ratings == pytest.approx({"a": 1190.85, "b": 1000}, abs=0.01)
    assert list(ratings) == ["a", "b"]


@given(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=30), st.floats(0.5, 3))
def test_against_a_single_baseline_the_expected_score_is_the_mean_score(outcomes: list[float], weight: float) -> None:
    ratings = bradley_terry([("m", "base", 0.25, 1), *(("m", "base", outcome, weight) for outcome in outcomes)])
    expected = (0.25 + weight * sum(outcomes)) / (1 + weight * len(outcomes))
    assert 1 / (1 + 10 ** ((ratings["base"] - ratings["m"]) / 400)) == pytest.approx(expected, abs=1e-4)


def test_ratings_recover_the_strengths_that_made_the_battles() -> None:
    rng = np.random.default_rng(0)
    strengths = {"w": 1200.0, "x": 1050.0, "y": 950.0, "z": 800.0}
    battles = []
    for _ in range(20_000):
        a, b = rng.choice(list(strengths), 2, replace=False)
        wins = rng.random() < 1 / (1 + 10 ** ((strengths[b] - strengths[a]) / 400))
        battles.append((str(a), str(b), float(wins), 1.0))
    ratings = bradley_terry(battles)
    assert list(ratings) == ["w", "x", "y", "z"]
    assert all(abs(ratings[name] - strengths[name]) < 15 for name in strengths)


def test_one_who_never_lost_is_far_ahead_and_finite() -> None:
    ratings = bradley_terry([("a", "b", 1, 1), ("b", "c", 1, 1), ("c", "b", 1, 1)], anchor="b")
    assert 2000 < ratings["a"] < 10_000
    assert ratings["c"] == pytest.approx(1000, abs=1)


def test_no_battles_no_ratings() -> None:
    assert bradley_terry([]) == {}


@pytest.mark.parametrize(
    ("one", "other", "share"),
    [("a b c", "A b d", 2 / 3), ("a a b", "a", 0.5), ("", "  ", 1.0), ("a", "", 0.0), ("x y", "y x", 1.0)],
)
def test_similarity_counts_the_words_two_texts_share(one: str, other: str, share: float) -> None:
    assert similarity(one, other) == similarity(other, one) == pytest.approx(share)


def test_variety_is_the_mean_number_of_different_words_in_a_segment() -> None:
    assert word_variety(["a b a", "B c d"], segment=3) == pytest.approx((2 + 3) / 2)  # {a, b}, {b, c, d}
    assert word_variety(["one two"], segment=3) is None
    assert word_variety([], segment=3) is None
    many = ["the same words again and again"] * 200
    assert word_variety(many) == word_variety(many[:100])
