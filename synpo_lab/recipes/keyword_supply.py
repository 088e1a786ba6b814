"""The keyword lists of a run: drawn once, for all iterations, and kept with it.

Their source may be a data set on the Hub with a million paragraphs: it is read once, as a stream, and a resume needs neither
it nor a network.
"""

import random
from collections.abc import Sequence
from itertools import islice
from typing import Any

from synpo_lab.config import RunConfig
from synpo_lab.errors import DataError
from synpo_lab.keywords import KeywordList, content_words, keyword_lists, sample
from synpo_lab.records import Seed
from synpo_lab.run import Run
from synpo_lab.seeds import paragraphs

FEWEST_TEXTS = 100_000  # that are drawn from where the source has as many; what is beyond is sampled evenly


class KeywordSupply:
    def __init__(self, config: RunConfig, run: Run, seeds: Sequence[Seed]) -> None:
        self._run, self._seeds = run, seeds
        self._config, self._iterations = config.keywords, config.iterations
        self._each = config.prompts.per_iteration

    def lists(self, iteration: int) -> list[KeywordList]:
        """The lists of an iteration. DataError where the source cannot be read or holds too few words."""
        found = self._stored(iteration)
        if found is None:
            self._draw()
            found = self._stored(iteration)
        return [KeywordList(tuple(words), tuple(noise)) for words, noise in found or ()]

    def _stored(self, iteration: int) -> list[Any] | None:
        known = self._run.marker(_step(iteration)) or {}
        return known["lists"] if known.get("of") == self._told() else None

    def _told(self) -> dict[str, Any]:
        """What the lists follow from, besides the run's seed and seeds."""
        return self._config.model_dump(mode="json") | {"per_iteration": self._each}

    def _draw(self) -> None:
        words = self._words()
        for iteration in range(1, self._iterations + 1):
            if self._stored(iteration) is None:
                made = self._drawn(words, iteration)
                pairs = [[one.words, one.noise] for one in made]
                self._run.mark(_step(iteration), {"of": self._told(), "lists": pairs})

    def _words(self) -> list[list[str]]:
        texts = paragraphs(
            self._config.source, [(seed.prompt, seed.gold) for seed in self._seeds], self._config.paragraphs
        )
        most = max(FEWEST_TEXTS, self._iterations * self._each)
        rng = random.Random(self._run.seed_for("paragraphs"))
        return [content_words(text) for text in sample(texts, most, rng)]

    def _drawn(self, words: Sequence[Sequence[str]], iteration: int) -> list[KeywordList]:
        rng = random.Random(self._run.seed_for("keywords", iteration))
        wanted = keyword_lists(words, per_prompt=self._config.per_prompt, noise=self._config.noise, rng=rng)
        found = list(islice(wanted, self._each))
        if not found:
            raise DataError(
                f"no text of keywords.source = {self._config.source!r} has {self._config.per_prompt} keywords",
                hint="lower keywords.per_prompt, or give a file of longer paragraphs",
            )
        return found


def _step(iteration: int) -> str:
    return f"iteration=0/keywords-{iteration}"  # of iteration 0: a fork takes all of them over
