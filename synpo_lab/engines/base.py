"""What an engine is: chats in, completions out, streamed; and mean log-probs of given answers."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from synpo_lab.config import SamplingConfig

Check = Callable[[], None]


def never() -> None:
    """A check that lets everything go on."""


@dataclass(frozen=True, slots=True)
class Request:
    """One thing to generate. `key` names it and, with the run's seed, decides its randomness."""

    key: str
    prompt: str  # the user's turn; the engine applies the chat template
    stop: str | None = None  # stop after this text; it is kept out of the completion
    history: tuple[tuple[str, str], ...] = ()  # (user, model) turns before the prompt


@dataclass(frozen=True, slots=True)
class Completion:
    """What became of a request. A request that is not answered comes back as "error", and the others go on."""

    key: str
    text: str  # "" when the reason is "error"
    n_tokens: int  # generated tokens, the end token included
    finish_reason: Literal["stop", "length", "error"]
    error: str | None = None  # why there is no answer, for people
    again: bool = False  # whether it may be answered when it is asked another time


class Engine(Protocol):
    """A loaded model that generates.

    `generate` reads requests in bounded chunks and yields one completion for each as they finish, in any order. The
    completion of a request depends on (weights, request, sampling, seed) and on nothing else: not on its neighbours, the
    batch size or the order. At temperature 0 that is so up to ties in the last bits of the logits, which a batch of
    another shape may break another way. Sampled text also differs between kinds of engines, and on a server it is
    what the server makes of the seed it is given.

    A prompt that fills the context comes back as "error" with the reason; an answer that reaches it ends as "length".
    Whatever concerns all requests (a dead server, no memory for a single prompt) raises EngineError; completions that
    were finished by then have been yielded.

    `check` is called at least once a second, but not inside a step of the model. Whatever it raises ends the generation,
    as closing the iterator does: within two seconds nothing computes any more.
    """

    name: str  # "M_0", "R_2", ...: what Response.model says

    def generate(
        self, requests: Iterable[Request], sampling: SamplingConfig, *, seed: int, check: Check = never
    ) -> Iterator[Completion]: ...

    def mean_logps(self, rows: Iterable[tuple[str, str]], *, check: Check = never) -> Iterator[float]:
        """Mean log-prob per token (nats, end token included) of each (prompt, answer), in order. `check` as in generate."""
        ...

    def beside(self, name: str, model: str | Path) -> "Engine | None":
        """An engine for another model on the weights this one holds: its base, or an adapter over it. None if it is neither.

        Both work until either is closed, which closes both.
        """
        ...

    def close(self) -> None:
        """Gives the memory back."""
        ...


def unanswerable(request: Request, why: str, *, again: bool = False) -> Completion:
    return Completion(request.key, "", 0, "error", why, again)


def too_long(request: Request, tokens: int, context: int, name: str) -> Completion:
    """For a prompt that leaves no room for an answer."""
    return unanswerable(request, f"its prompt has {tokens} tokens, {name} takes {context} with the answer")
