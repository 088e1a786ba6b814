"""Scores of responses, one record per aspect."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from synpo_lab.errors import ConfigError
from synpo_lab.records import Response, Score
from synpo_lab.scorers.base import Aspects, Ranker, Scorer, against_anchors, is_ranker


def score(
    scorer: Scorer | Ranker,
    responses: Sequence[Response],
    prompts: Mapping[str, str],
    anchors: Mapping[str, str] | None = None,
) -> Iterator[Score]:
    """A Score per response and aspect, a response's total last: what has a total has all its aspects.

    `prompts` gives each prompt id its text. A ranker compares with the prompt's answer in `anchors` (by the prompt's text).
    A total that is no finite number counts as "unparsed". ConfigError when a scorer does not keep its contract.
    """
    rows = [(prompts[response.prompt_id], response.text) for response in responses]
    found = against_anchors(scorer, rows, anchors or {}) if is_ranker(scorer) else scorer.score(rows)
    for response, aspects in zip(responses, _as_many(found, len(rows), scorer.name), strict=True):
        checked = _checked(scorer.name, aspects)
        for aspect, value in sorted(checked.items(), key=lambda item: item[0] == "total"):
            yield Score(response.iteration, response.response_id, scorer.name, aspect, value)


def is_last(score: Score) -> bool:
    """Whether it is the last of its response's: the total, or word that none could be had."""
    return score.aspect == "total" or (score.aspect == "unparsed" and score.value > 0)


def _checked(scorer: str, aspects: Aspects) -> Aspects:
    if "total" not in aspects and not aspects.get("unparsed"):
        raise ConfigError(
            f"scorer {scorer!r} gave no 'total', only {sorted(aspects)}",
            hint="its score() yields a dict with 'total' per answer; or choose another scorer.name",
        )
    usable = {aspect: float(value) for aspect, value in aspects.items() if math.isfinite(value)}
    return usable if "total" in usable else {"unparsed": 1.0}


def _as_many(found: Iterable[Aspects], rows: int, scorer: str) -> Iterator[Aspects]:
    given = 0
    for given, aspects in enumerate(found, start=1):
        if given <= rows:
            yield aspects
    if given != rows:
        raise ConfigError(
            f"scorer {scorer!r} gave {given} numbers for {rows} answers",
            hint="it yields one dict per row, in order; or choose another scorer.name",
        )
