"""Scores of responses, one record per aspect."""

from collections.abc import Iterator, Mapping, Sequence

from synpo_lab.errors import ConfigError
from synpo_lab.records import Response, Score
from synpo_lab.scorers.base import Scorer


def score(scorer: Scorer, responses: Sequence[Response], prompts: Mapping[str, str]) -> Iterator[Score]:
    """A Score per response and aspect. `prompts` gives each prompt id its text. ConfigError without a total."""
    rows = ((prompts[response.prompt_id], response.text) for response in responses)
    for response, aspects in zip(responses, scorer.score(rows), strict=True):
        if "total" not in aspects:
            raise ConfigError(
                f"scorer {scorer.name!r} gave no 'total', only {sorted(aspects)}",
                hint="its score() yields a dict with 'total' per answer; or choose another scorer.name",
            )
        for aspect, value in aspects.items():
            yield Score(response.iteration, response.response_id, scorer.name, aspect, value)
