"""A grid of trainings in words and numbers: which beta won, and by how much."""

from collections.abc import Sequence

from storage.queries import GridResult


def leads(results: Sequence[GridResult]) -> dict[int, float]:
    """By iteration, the winner's mean validation score minus the best of the others'; no entry while that is open,
    or where there was nothing to choose from."""
    found = {}
    for winner in (result for result in results if result.won):
        others = [one.score for one in results if one.iteration == winner.iteration and one is not winner]
        if others:
            found[winner.iteration] = winner.score - max(others)
    return found
