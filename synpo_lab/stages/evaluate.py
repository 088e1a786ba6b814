"""One model against another on the same prompts, judged by their scores."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from synpo_lab.records import EvalResult, Response


def compare(
    policy: Sequence[Response],
    opponent: Mapping[str, Response],
    totals: Mapping[str, float],
    *,
    suite: str,
    iteration: int,
) -> Iterator[EvalResult]:
    """A result per answer of the policy whose prompt the opponent answered too, both with a score. `opponent` is by prompt id."""
    for mine in policy:
        theirs = opponent.get(mine.prompt_id)
        a = totals.get(mine.response_id)
        b = totals.get(theirs.response_id) if theirs is not None else None
        if theirs is not None and a is not None and b is not None:
            yield EvalResult(
                iteration=iteration,
                suite=suite,
                prompt_id=mine.prompt_id,
                model_a=mine.model,
                model_b=theirs.model,
                response_a=mine.response_id,
                response_b=theirs.response_id,
                score_a=a,
                score_b=b,
                winner=_winner(a, b),
                len_a=len(mine.text),
                len_b=len(theirs.text),
            )


def _winner(a: float, b: float) -> Literal["a", "b", "tie"]:
    if a == b:
        return "tie"
    return "a" if a > b else "b"
