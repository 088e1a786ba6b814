"""Which beta won, and by how much."""

from storage.queries import GridResult
from synpo_lab.grid import leads


def result(iteration: int, beta: float, score: float, won: bool | None) -> GridResult:
    return GridResult(iteration, f"beta={beta:g}", beta, score, None, 10, 0.5, 20.0, won)


def test_the_winner_leads_by_its_distance_to_the_best_of_the_others() -> None:
    found = leads([result(1, 2, 0.5, False), result(1, 4, 0.75, True), result(1, 10, 0.625, False)])
    assert found == {1: 0.125}


def test_a_run_resumed_with_a_winner_that_is_not_best_is_told_so() -> None:
    assert leads([result(1, 2, 0.75, False), result(1, 4, 0.5, True)]) == {1: -0.25}


def test_an_open_grid_and_a_single_training_have_no_lead() -> None:
    assert leads([result(1, 2, 0.5, None), result(1, 4, 0.7, None), result(2, 4, 0.7, True)]) == {}
