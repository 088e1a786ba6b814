"""Preference pairs from answers and their scores."""

from collections.abc import Iterator, Mapping, Sequence

from synpo_lab.metrics import repetition, similarity
from synpo_lab.records import Pair, Response, content_id


def build_pairs(
    prompts: Mapping[str, str],
    chosen: Mapping[str, Response],
    rejected: Mapping[str, Response],
    totals: Mapping[str, float],
    iteration: int,
) -> Iterator[Pair]:
    """One undecided pair per prompt that has both sides, both with a score.

    `prompts` gives each prompt id its text, answers are by prompt id, `totals` by response id.
    """
    for prompt_id, prompt in prompts.items():
        if prompt_id not in chosen or prompt_id not in rejected:
            continue
        better, worse = chosen[prompt_id], rejected[prompt_id]
        high, low = totals.get(better.response_id), totals.get(worse.response_id)
        if high is None or low is None:
            continue
        yield Pair(
            iteration=iteration,
            pair_id=content_id("pair", better.response_id, worse.response_id),
            prompt_id=prompt_id,
            prompt=prompt,
            chosen_id=better.response_id,
            rejected_id=worse.response_id,
            chosen=better.text,
            rejected=worse.text,
            chosen_score=high,
            rejected_score=low,
            gap=high - low,
            len_chosen=len(better.text),
            len_rejected=len(worse.text),
            repetition=repetition(better.text),
            kept=False,
            drop_reason=None,
            similarity=similarity(better.text, worse.text),
        )


def best_and_worst(
    candidates: Sequence[Response], totals: Mapping[str, float]
) -> tuple[dict[str, Response], dict[str, Response]]:
    """By prompt id, the candidate with the highest and with the lowest total; prompts whose candidates agree are left out.

    Candidates without a total take no part.
    """
    best: dict[str, Response] = {}
    worst: dict[str, Response] = {}
    for response in sorted(candidates, key=lambda item: item.response_id):
        if response.response_id not in totals:
            continue
        prompt, value = response.prompt_id, totals[response.response_id]
        if prompt not in best or value > totals[best[prompt].response_id]:
            best[prompt] = response
        if prompt not in worst or value < totals[worst[prompt].response_id]:
            worst[prompt] = response
    same = [prompt for prompt in best if best[prompt].text == worst[prompt].text]
    for prompt in same:
        del best[prompt], worst[prompt]
    return best, worst
