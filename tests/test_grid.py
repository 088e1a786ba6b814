"""Which beta won, and by how much."""

from dataclasses import replace
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.queries import GridResult
from synpo_lab.grid import chosen_told, clearly_worse, leads


def result(iteration: int, beta: float, score: float, won: bool | None) -> GridResult:
    return GridResult(iteration, f"beta={beta:g}", beta, score, None, 10, 0.5, 20.0, won)


def test_the_winner_leads_by_its_distance_to_the_best_of_the_others() -> None:
    found = leads([result(1, 2, 0.5, False), result(1, 4, 0.75, True), result(1, 10, 0.625, False)])
    assert found == {1: 0.125}


def test_a_run_resumed_with_a_winner_that_is_not_best_is_told_so() -> None:
    assert leads([result(1, 2, 0.75, False), result(1, 4, 0.5, True)]) == {1: -0.25}


def test_an_open_grid_and_a_single_training_have_no_lead() -> None:
    assert leads([result(1, 2, 0.5, None), result(1, 4, 0.7, None), result(2, 4, 0.7, True)]) == {}


def test_the_winner_leads_those_that_were_trained_to_the_end() -> None:
    stopped = replace(result(1, 2, 0.9, False), stopped_at=40)
    assert leads([stopped, result(1, 4, 0.75, True), result(1, 10, 0.5, False)]) == {1: 0.25}
    assert leads([stopped, result(1, 4, 0.75, True)]) == {}


def test_who_is_clearly_worse_worked_by_hand() -> None:
    """Behind by 1, 1, 1, 0: mean 0.75, variance 0.25, error sqrt(0.25 / 4) = 0.25: three standard errors."""
    scores = {2.0: dict(zip("abcd", [0, 0, 0, 1], strict=True)), 10.0: dict.fromkeys("abcd", 1.0)}
    assert clearly_worse(scores) == {2.0: pytest.approx(3.0)}
    assert clearly_worse(scores, errors=3.5) == {}


def test_one_that_loses_everywhere_by_the_same_is_clearly_worse_and_a_copy_is_not() -> None:
    best = {"a": 1.0, "b": 0.5}
    assert clearly_worse({1: best, 2: {"a": 0.5, "b": 0.0}, 3: dict(best)}) == {2: 99.0}


def test_prompts_that_only_one_answered_decide_nothing() -> None:
    assert clearly_worse({1: {"a": 1.0, "b": 1.0}, 2: {"c": 0.0, "d": 0.0}}) == {}


@given(st.dictionaries(st.floats(1, 50), st.dictionaries(st.sampled_from("abcdef"), st.floats(0, 1)), min_size=1))
def test_the_best_is_never_stopped(scores: dict[float, dict[str, float]]) -> None:
    if any(scores.values()):
        best = max((member for member in scores if scores[member]), key=lambda m: fmean(scores[m].values()))
        assert best not in clearly_worse(scores)


def test_the_winner_is_told_with_the_scores_of_the_others() -> None:
    told = chosen_told("M_2", 10.0, {"2": 0.79471, "10": 0.8125})
    assert told == "M_2 is beta 10, mean score 0.812 on the seeds (beta 2: 0.795)"
    assert chosen_told("M_1", 4.0, {"4": 0.5}) == "M_1 is beta 4, mean score 0.500 on the seeds"
