"""A language model as the judge, through any engine: it grades an answer, or says which of two is better.

Verdicts are read strictly, from the last line alone; what says nothing in that form is asked once more, then left
unscored and counted. Two answers are shown in both orders (Zheng et al. 2023, arXiv 2306.05685, section 3.4): a judge that
prefers a place and not an answer comes out at 0.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from synpo_lab.config import SamplingConfig, ScorerConfig
from synpo_lab.engines import open_engine
from synpo_lab.engines.base import Check, Engine, Request, never
from synpo_lab.errors import ConfigError
from synpo_lab.records import content_id
from synpo_lab.scorers.base import Aspects
from synpo_lab.scorers.identity import identity
from synpo_lab.scorers.revision import at_revision

GRADED = """Below are a request and an answer to it. Grade the answer: is it correct, complete, clear, and to the point? Length
by itself is no merit. Think first, briefly. Then end with one line of this form, with a whole number from 1 (useless) to
10 (excellent), and write nothing after it:
Rating: NUMBER

[The request]
{prompt}

[The answer]
{answer}"""
PAIRWISE = """Below are a request and two answers to it, A and B. Which answer is better: more correct, complete, clear, and to
the point? Length by itself is no merit, nor is coming first. Think first, briefly. Then end with one line of one of these
forms, and write nothing after it:
Better: A
Better: B
Better: tie

[The request]
{prompt}

[Answer A]
{one}

[Answer B]
{other}"""
RATING = re.compile(r"Rating: (10|[1-9])\.?")
BETTER = re.compile(r"Better: (A|B|tie)\.?")
SAID = {"A": 1.0, "B": -1.0, "tie": 0.0}
CHUNK = 256  # texts asked together
SEED = 0
AGAIN = 0.7  # the temperature at which what could not be read is asked again: greedily it would say the same
Read = Callable[[str], float | None]


class GradingJudge:
    """total = the rating, 1 to 10. An unreadable one gives {"unparsed": 1}."""

    def __init__(self, config: ScorerConfig) -> None:
        self._asked = _Asked(config, GRADED)
        self.name = self._asked.name
        self.check: Check = never

    def score(self, rows: Iterable[tuple[str, str]]) -> Iterator[Aspects]:
        texts = (GRADED.format(prompt=prompt, answer=answer) for prompt, answer in rows)
        for rating in self._asked.all(texts, _rating, self.check):
            yield {"unparsed": 1.0} if rating is None else {"total": rating, "unparsed": 0.0}

    def close(self) -> None:
        """Give the engine's memory back."""
        self._asked.close()


class ComparingJudge:
    """total in -1..1: the mean of both orders. "order": 1 where they agree, else 0. One unreadable: {"unparsed": 1}."""

    def __init__(self, config: ScorerConfig) -> None:
        self._asked = _Asked(config, PAIRWISE)
        self.name = self._asked.name
        self.check: Check = never

    def compare(self, rows: Iterable[tuple[str, str, str]]) -> Iterator[Aspects]:
        texts = (
            PAIRWISE.format(prompt=prompt, one=first, other=second)
            for prompt, one, other in rows
            for first, second in ((one, other), (other, one))
        )
        verdicts = self._asked.all(texts, _better, self.check)
        for there in verdicts:
            back = next(verdicts)
            if there is None or back is None:
                yield {"unparsed": 1.0}
            else:
                yield {"total": (there - back) / 2, "order": float(there == -back), "unparsed": 0.0}

    def close(self) -> None:
        """Give the engine's memory back."""
        self._asked.close()


class _Asked:
    """An engine that is asked texts and whose completions are read by a strict reader, twice if need be."""

    def __init__(self, config: ScorerConfig, text: str) -> None:
        engine = config.judge.engine
        if engine.kind == "openai" and config.revision:
            raise ConfigError(
                f"scorer.revision = {config.revision} cannot be asked of a server, which holds the weights it holds",
                hint="leave scorer.revision out, or give the judge an engine of kind transformers or vllm",
            )
        if engine.kind == "openai":  # one name for what is asked and for what is stored with the scores
            model = config.model or engine.openai.model
            engine = engine.model_copy(update={"openai": engine.openai.model_copy(update={"model": model})})
            config = config.model_copy(update={"model": model})
        self._config, self._with = config, engine
        self.name = identity(self._config, text)
        self._engine: Engine | None = None

    def all(self, texts: Iterable[str], read: Read, check: Check) -> Iterator[float | None]:
        """What is read of the answer to each text, in order; a text that comes twice is asked once."""
        waiting, sampling = iter(texts), self._config.judge.sampling
        again = sampling.model_copy(update={"temperature": max(sampling.temperature, AGAIN)})
        while chunk := list(islice(waiting, CHUNK)):
            found = dict(self._some(dict.fromkeys(chunk), read, sampling, check))
            unread = [text for text, value in found.items() if value is None]
            found.update(self._some(unread, read, again, check))
            yield from (found[text] for text in chunk)

    def _some(
        self, texts: Iterable[str], read: Read, sampling: SamplingConfig, check: Check
    ) -> Iterator[tuple[str, float | None]]:
        asked = {content_id("judge", text): text for text in texts}
        if not asked:
            return
        requests = [Request(key, text) for key, text in asked.items()]
        for completion in self._open().generate(requests, sampling, seed=SEED, check=check):
            ended = completion.finish_reason == "stop"
            yield asked[completion.key], read(completion.text) if ended else None

    def _open(self) -> Engine:
        if self._engine is None:
            config = self._config
            self._engine = open_engine(
                "judge", at_revision(config), self._with, trust_remote_code=config.trust_remote_code, initial=True
            )
        return self._engine

    def close(self) -> None:
        if self._engine is not None:
            self._engine.close()
        self._engine = None


def _rating(text: str) -> float | None:
    found = RATING.fullmatch(_last_line(text))
    return float(found[1]) if found else None


def _better(text: str) -> float | None:
    found = BETTER.fullmatch(_last_line(text))
    return SAID[found[1]] if found else None


def _last_line(text: str) -> str:
    lines: Sequence[str] = text.strip().splitlines()
    return lines[-1].strip().strip("*").strip() if lines else ""
