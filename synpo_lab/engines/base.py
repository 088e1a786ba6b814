"""What an engine is: chats in, completions out, streamed; and mean log-probs of given answers."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from synpo_lab.config import SamplingConfig


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to generate. `key` names it and, with the run's seed, decides its randomness."""

    key: str
    prompt: str  # the user's turn; the engine applies the chat template
    stop: str | None = None  # stop after this text; it is kept out of the completion


@dataclass(frozen=True, slots=True)
class Completion:
    key: str
    text: str
    n_tokens: int  # generated tokens, the end token included
    finish_reason: Literal["stop", "length"]


class Engine(Protocol):
    """A loaded model that generates.

    `generate` reads requests in bounded chunks and yields completions as they finish, in any order. The completion of a
    request depends on (weights, request, sampling, seed) and on nothing else: not on its neighbours, the batch size or
    the order.
    """

    name: str  # "M_0", "R_2", ...: what Response.model says

    def generate(self, requests: Iterable[Request], sampling: SamplingConfig, *, seed: int) -> Iterator[Completion]: ...

    def mean_logps(self, rows: Iterable[tuple[str, str]]) -> Iterator[float]:
        """Mean log-prob per token (nats, end token included) of each (prompt, answer), in order."""
        ...

    def close(self) -> None: ...
