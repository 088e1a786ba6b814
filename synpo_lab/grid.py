"""A grid of trainings in words and numbers: which beta won, and by how much."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean, variance

from storage.queries import GridResult

CERTAIN = 99.0  # standard errors behind, where every prompt says the same


def leads(results: Sequence[GridResult]) -> dict[int, float]:
    """By iteration, the winner's mean validation score minus the best of the others'; no entry while that is open,
    or where there was nothing to choose from."""
    found = {}
    for winner in (result for result in results if result.won):
        others = [one.score for one in _finished(results, winner.iteration) if one is not winner]
        if others:
            found[winner.iteration] = winner.score - max(others)
    return found


def chosen_told(model: str, beta: float, scores: Mapping[str, float]) -> str:
    """ "M_2 is beta 10, mean score 0.812 on the seeds (beta 2: 0.795)"; `scores` by beta as it is written."""
    chosen = f"{beta:g}"
    others = ", ".join(f"beta {name}: {score:.3f}" for name, score in scores.items() if name != chosen)
    told = f"{model} is beta {chosen}, mean score {scores[chosen]:.3f} on the seeds"
    return f"{told} ({others})" if others else told


def clearly_worse(scores: Mapping[float, Mapping[str, float]], errors: float = 2.0) -> dict[float, float]:
    """Which members of a grid are behind the best by more than `errors` standard errors, and by how many.

    `scores` are each member's by prompt; the differences are taken prompt by prompt, on those that both answered.
    """
    means = {member: fmean(found.values()) for member, found in scores.items() if found}
    leader = max(means, key=lambda member: means[member])
    behind = {member: _behind(scores[member], scores[leader]) for member in means if member != leader}
    return {member: by for member, by in behind.items() if by > errors}


def _behind(one: Mapping[str, float], leader: Mapping[str, float]) -> float:
    lost = [leader[prompt] - one[prompt] for prompt in sorted(one.keys() & leader.keys())]
    if len(lost) < 2:
        return 0.0
    error = math.sqrt(variance(lost) / len(lost))
    return min(fmean(lost) / error, CERTAIN) if error else CERTAIN if fmean(lost) > 0 else 0.0


def _finished(results: Sequence[GridResult], iteration: int) -> list[GridResult]:
    return [one for one in results if one.iteration == iteration and one.stopped_at is None]
