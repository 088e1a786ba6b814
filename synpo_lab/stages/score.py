"""Scores of responses, one record per aspect."""

from collections.abc import Iterator, Mapping, Sequence

from synpo_lab.errors import ConfigError
from synpo_lab.records import Response, Score
from synpo_lab.scorers.base import Aspects, Ranker, Scorer, against_anchors, is_ranker


def score(
    scorer: Scorer | Ranker,
    responses: Sequence[Response],
    prompts: Mapping[str, str],
    anchors: Mapping[str, str] | None = None,
) -> Iterator[Score]:
    """A Score per response and aspect. `prompts` gives each prompt id its text.

    A ranker compares with the prompt's answer in `anchors` (by the prompt's text). ConfigError when there is neither a
    total nor word that none could be had ("unparsed").
    """
    rows = [(prompts[response.prompt_id], response.text) for response in responses]
    found = against_anchors(scorer, rows, anchors or {}) if is_ranker(scorer) else scorer.score(rows)
    for response, aspects in zip(responses, found, strict=True):
        _check(scorer, aspects)
        for aspect, value in aspects.items():
            yield Score(response.iteration, response.response_id, scorer.name, aspect, value)


def _check(scorer: Scorer | Ranker, aspects: Aspects) -> None:
    if "total" not in aspects and not aspects.get("unparsed"):
        raise ConfigError(
            f"scorer {scorer.name!r} gave no 'total', only {sorted(aspects)}",
            hint="its score() yields a dict with 'total' per answer; or choose another scorer.name",
        )
