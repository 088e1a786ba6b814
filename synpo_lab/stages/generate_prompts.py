"""Synthetic prompts: what G learns from, and the sieve its prompts go through."""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence

from synpo_lab.config import KeywordsConfig
from synpo_lab.engines.base import Completion, Request
from synpo_lab.errors import ConfigError, DataError
from synpo_lab.keywords import KeywordList, content_words, keyword_list
from synpo_lab.records import Prompt, Seed, content_id
from synpo_lab.templates import Templates

Row = tuple[str, str]

LONGEST_PROMPT = 4000  # characters; the paper gives no bound, this one only refuses what ran away


def generator_rows(
    seeds: Sequence[Seed], keywords: KeywordsConfig, target: str, templates: Templates, seed: int
) -> list[Row]:
    """G's training rows: keywords of a seed prompt and noise from another -> that prompt (and its solution).

    SynPO section 2.1: two random keywords of x*_i and one of x*_j.
    """
    rng = random.Random(seed)
    words = [content_words(row.prompt) for row in seeds]
    rows = []
    for place, row in enumerate(seeds):
        others = [found for i, found in enumerate(words) if i != place and found]
        noise = [rng.choice(rng.choice(others)) for _ in range(keywords.noise)] if others else []
        made = keyword_list(words[place], noise, per_prompt=keywords.per_prompt, rng=rng)
        if made is not None:
            solution = row.gold if target == "prompt_and_solution" else None
            rows.append((templates.ask_for_prompt(made.words), templates.generator_target(row.prompt, solution)))
    if not rows:
        raise DataError(
            f"no seed prompt has {keywords.per_prompt - keywords.noise} keywords",
            hint="lower keywords.per_prompt, or give longer seed prompts",
        )
    return rows


def prompt_requests(lists: Sequence[KeywordList], templates: Templates) -> list[Request]:
    """What G is asked, in the lists' order; generation stops where the prompt ends."""
    return [
        Request(content_id("keywords", words.words), templates.ask_for_prompt(words.words), stop=templates.prompt_end)
        for words in lists
    ]


class Sieve:
    """Says of each prompt whether it is kept: well-formed, valid, new, not held out. Remembers what it has kept."""

    def __init__(self, validator: str, held_out: Iterable[str], seeds: Iterable[str], kept: Iterable[str] = ()) -> None:
        self._valid = _validator(validator)
        self._held_out, self._seeds, self._kept = (set(map(_folded, texts)) for texts in (held_out, seeds, kept))

    def judge(self, text: str | None, *, finished: bool) -> str | None:
        """Why the prompt is dropped, None if it is kept."""
        if text is None or not finished:
            return "malformed"
        if not self._valid(text):
            return "invalid"
        folded = _folded(text)
        if folded in self._held_out:
            return "evaluation"
        if folded in self._seeds:
            return "seed"
        if folded in self._kept:
            return "duplicate"
        self._kept.add(folded)
        return None


def prompt_records(
    lists: Sequence[KeywordList], written: Sequence[Completion], templates: Templates, sieve: Sieve, iteration: int
) -> Iterator[Prompt]:
    """A record for every keyword list, kept or dropped."""
    for words, made in zip(lists, written, strict=True):
        text = templates.read_prompt(made.text)
        unanswered = made.finish_reason == "error"
        reason = "unanswered" if unanswered else sieve.judge(text, finished=made.finish_reason == "stop")
        shown = text or made.text
        yield Prompt(
            iteration=iteration,
            prompt_id=content_id("prompt", shown)
            if reason is None
            else content_id("prompt", shown, words.words, iteration),
            text=shown,
            keywords=list(words.words),
            noise_keyword=", ".join(words.noise) or None,
            source="generator",
            status="dropped" if reason else "kept",
            drop_reason=reason,
        )


def _folded(text: str) -> str:
    """What is the same but for case and white space is the same prompt."""
    return " ".join(text.casefold().split())


def _validator(name: str) -> Callable[[str], bool]:
    if name == "format":
        return lambda text: 0 < len(text) <= LONGEST_PROMPT
    if name == "pocket":
        from synpo_lab.pocket.data import is_valid_prompt

        return is_valid_prompt
    raise ConfigError(f"no prompt validator {name!r}", hint="prompts.validator is 'format' or 'pocket'")
