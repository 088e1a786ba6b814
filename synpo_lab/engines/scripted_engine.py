"""An engine without a model: answers come from a table or a function. For tests, and to teach how a recipe moves."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from synpo_lab.config import SamplingConfig
from synpo_lab.engines.base import Check, Completion, Engine, Request, never, too_long

Answer = Callable[[str, int], str]  # (prompt, draw) -> answer; the draw follows from seed and request key


class ScriptedEngine:
    """Deterministic, instant. Tokens are white-space separated words, plus one for the end."""

    def __init__(
        self, name: str, script: Mapping[str, str] | Answer | None = None, *, context: int | None = None
    ) -> None:
        """`script` maps prompts to answers (absent prompts get ""), or makes them; by default the prompt comes back.

        `context` is how many words prompt and answer may have together.
        """
        self.name = name
        self._context = context
        self._answer: Answer = _echo if script is None else script if callable(script) else _from_table(script)

    def generate(
        self, requests: Iterable[Request], sampling: SamplingConfig, *, seed: int, check: Check = never
    ) -> Iterator[Completion]:
        """Completions, in the order of the requests."""
        for request in requests:
            check()
            yield self._complete(request, sampling, seed)

    def _complete(self, request: Request, sampling: SamplingConfig, seed: int) -> Completion:
        limit = sampling.max_new_tokens
        if self._context is not None:
            read = len(request.prompt.split())
            if read >= self._context:
                return too_long(request, read, self._context, self.name)
            limit = min(limit, self._context - read)
        return _cut(
            request, self._answer(request.prompt, 0 if sampling.temperature == 0 else _draw(seed, request.key)), limit
        )

    def mean_logps(self, rows: Iterable[tuple[str, str]], *, check: Check = never) -> Iterator[float]:
        """0 (certain) for the script's answer at temperature 0; else -1, and 1 less for each word more or fewer."""
        for prompt, answer in rows:
            check()
            expected = self._answer(prompt, 0)
            yield 0.0 if answer == expected else -1.0 - abs(len(answer.split()) - len(expected.split()))

    def beside(self, name: str, model: str | Path) -> Engine | None:
        """None: there are no weights to share."""
        return None

    def close(self) -> None:
        """Nothing to give back."""


def _echo(prompt: str, draw: int) -> str:
    return prompt


def _from_table(table: Mapping[str, str]) -> Answer:
    return lambda prompt, draw: table.get(prompt, "")


def _draw(seed: int, key: str) -> int:
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{key}".encode("utf-8", "surrogatepass"), digest_size=4).digest())


def _cut(request: Request, text: str, limit: int) -> Completion:
    if request.stop:
        text = text.partition(request.stop)[0]
    words = text.split()
    if len(words) < limit:
        return Completion(request.key, text, len(words) + 1, "stop")
    return Completion(request.key, " ".join(words[:limit]), limit, "length")
