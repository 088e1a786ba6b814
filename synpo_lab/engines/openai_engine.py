"""Generation by a server: anything that answers OpenAI's /chat/completions (vLLM, SGLang, llama.cpp, Ollama, TGI).

How many requests are in flight follows the server as TCP follows a network (additive increase, multiplicative decrease:
Chiu and Jain 1989): one more per round of successes, half when it refuses or fails.
"""

import asyncio
import os
import random
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from synpo_lab.config import OpenAIConfig, SamplingConfig
from synpo_lab.engines import INSTALL
from synpo_lab.engines.base import Check, Completion, Request, never, unanswerable
from synpo_lab.engines.concurrent import as_finished
from synpo_lab.engines.seeding import stream
from synpo_lab.errors import EngineError, MissingExtra

FIRST_TOGETHER = 8  # requests at once to begin with
FIRST_WAIT_S = 0.5  # before a second try; doubles with each
LONGEST_WAIT_S = 30.0
LONGEST_ASKED_WAIT_S = 600.0  # of a rest that the server asks for
SETTLING_S = 1.0  # failures of requests sent before the last decrease are no news
REFUSALS = (400, 413, 422)  # what the server will say of this request however often it is sent
REFUSED_AT_FIRST = 8  # requests, before any is answered: then it is not the requests, it is how they are asked

_CONTEXT = re.compile(r"(?:maximum context length|context (?:length|size|window))\D{0,30}?(\d+)", re.IGNORECASE)
_READ = re.compile(r"(\d+)\s+(?:input tokens|tokens? (?:from|in) the (?:input|messages|prompt))", re.IGNORECASE)


class OpenAIEngine:
    """An engine on a server. See engines.base.Engine for what its methods promise.

    Every request carries a seed; whether the same seed gives the same text is up to the server (vLLM: yes, but for ties).
    A request that the server refuses, or that alone keeps failing while others are answered, comes back as "error". Only of
    a server that has answered something is a refusal taken for final, and of any for what is too long.
    """

    def __init__(self, name: str, config: OpenAIConfig) -> None:
        """Asks the server for its models. EngineError when none answers or the key is refused."""
        try:
            import openai
        except ImportError:
            raise MissingExtra("the package openai is not installed", hint=INSTALL["openai"]) from None
        self.name, self._config, self._openai = name, config, openai
        self._key = os.environ.get(config.key_variable, "")
        self._loop = asyncio.new_event_loop()
        self._client: Any = openai.AsyncOpenAI(
            base_url=config.base_url, api_key=self._key or "none", timeout=config.timeout_s, max_retries=0
        )
        self._pace = _Pace(config.concurrency)
        self._answered, self._refused = False, 0
        try:
            self._model = config.model or self._loop.run_until_complete(self._first_model())
        except BaseException:
            self.close()
            raise

    def generate(
        self, requests: Iterable[Request], sampling: SamplingConfig, *, seed: int, check: Check = never
    ) -> Iterator[Completion]:
        """Completions as they finish. EngineError when the server answers nothing any more."""

        async def work(request: Request) -> Completion:
            return await self._completion(request, sampling, seed)

        return as_finished(self._loop, requests, work, self._pace.limit, check)

    def mean_logps(self, rows: Iterable[tuple[str, str]], *, check: Check = never) -> Iterator[float]:
        """Raises EngineError: chat servers do not score given answers."""
        raise EngineError(
            f"the server at {self._config.base_url} cannot give log-probs of an answer it did not write",
            hint="set engine.kind to transformers or vllm for what needs log-probs",
        )

    def beside(self, name: str, model: str | Path) -> None:
        """None: what a server holds cannot be changed from here."""
        return

    def close(self) -> None:
        """Close the connections."""
        if not self._loop.is_closed():
            self._loop.run_until_complete(self._close_connections())
            self._loop.close()

    async def _close_connections(self) -> None:
        await self._client.close()
        for _ in range(3):  # a transport closes in the rounds of the loop after it was told to
            await asyncio.sleep(0)

    async def _completion(self, request: Request, sampling: SamplingConfig, seed: int) -> Completion:
        """Tries until there is an answer, a refusal, or no sense in trying on."""
        asked = self._asked(request, sampling, seed)
        began, problem = time.monotonic(), ""
        for attempt in range(1, self._config.attempts + 1):
            await self._pace.rest()
            sent = time.monotonic()
            try:
                made = await self._try(request, asked)
                self._pace.went_well()
                return made
            except _Failed as failure:
                problem = failure.problem
                self._pace.went_wrong(sent, failure.asked_wait)
            if attempt < self._config.attempts:
                await asyncio.sleep(_wait(attempt))
        if self._pace.last_success > began:
            return unanswerable(request, f"{self._config.attempts} tries failed, the last: {problem}", again=True)
        raise EngineError(
            f"the server at {self._config.base_url} does not answer: {problem} ({self._config.attempts} tries)",
            hint="see to the server, then resume: what was answered is kept",
        )

    async def _try(self, request: Request, asked: dict[str, Any]) -> Completion:
        """One try. Raises _Failed if another may do better, EngineError if none will for any request."""
        try:
            made = _read(request, await self._client.chat.completions.create(**asked))
            self._answered = True
            return made
        except self._openai.APIStatusError as error:
            if error.status_code in (401, 402, 403):
                raise self._locked_out(error) from None
            if error.status_code == 404:
                raise self._no_such_model(error) from None
            if error.status_code not in REFUSALS:
                raise _Failed(self._told(error), _asked_wait(error)) from None
            if (room := _room_left(error, asked["max_tokens"])) is None:
                return self._refusal(request, error)
            return await self._try(request, asked | {"max_tokens": room})
        except self._openai.APITimeoutError:
            raise _Failed(f"no answer within {self._config.timeout_s:g} s") from None
        except (self._openai.OpenAIError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise _Failed(self._told(error)) from None

    def _refusal(self, request: Request, error: Any) -> Completion:
        """EngineError when nothing but refusals has come from this server."""
        told = f"the server refuses it: {self._told(error)}"
        if self._answered or error.status_code == 413 or _CONTEXT.search(str(error)):
            return unanswerable(request, told)
        self._refused += 1
        if self._refused >= REFUSED_AT_FIRST:
            raise EngineError(
                f"the server at {self._config.base_url} refuses every request: {self._told(error)}",
                hint="its words say which part it does not take (the model, a sampling setting, the chat template); mend "
                "that, then resume: none of them is counted as answered",
            )
        return unanswerable(request, told, again=True)

    def _asked(self, request: Request, sampling: SamplingConfig, seed: int) -> dict[str, Any]:
        return {
            "model": self._model,
            "messages": list(_messages(request)),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_new_tokens,
            "seed": stream(seed, request.key) >> 33,  # 31 bits: what every server takes
            "stop": [request.stop] if request.stop else self._openai.omit,
        }

    async def _first_model(self) -> str:
        try:
            listed = await self._client.models.list()
            return str(listed.data[0].id)
        except (self._openai.AuthenticationError, self._openai.PermissionDeniedError) as error:
            raise self._locked_out(error) from None
        except (self._openai.OpenAIError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise EngineError(
                f"no model at {self._config.base_url}/models: {self._told(error)}",
                hint="start the server, correct engine.openai.base_url, or name the model in engine.openai.model",
            ) from None

    def _locked_out(self, error: Exception) -> EngineError:
        variable = self._config.key_variable
        found = f"the key in ${variable}" if self._key else f"${variable} is not set; a request without a key"
        return EngineError(
            f"the server at {self._config.base_url} refuses {found}: {self._told(error)}",
            hint=f"put the key into the environment variable {variable} of the shell that starts the lab",
        )

    def _no_such_model(self, error: Exception) -> EngineError:
        return EngineError(
            f"the server at {self._config.base_url} has no model {self._model!r}: {self._told(error)}",
            hint="name one that its /models lists in engine.openai.model, or leave that out",
        )

    def _told(self, error: Exception) -> str:
        """The error in a line, without the key should the server repeat it."""
        text = " ".join(str(error).split()) or type(error).__name__
        return (text.replace(self._key, "***") if self._key else text)[:300]


class _Failed(Exception):
    """A try that another may better, after as many seconds as the server asks for."""

    def __init__(self, problem: str, asked_wait: float | None = None) -> None:
        super().__init__(problem)
        self.problem, self.asked_wait = problem, asked_wait


class _Pace:
    """How many requests may be in flight, when one last went well, and until when the server wants rest."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = float(min(FIRST_TOGETHER, most))
        self._lowered = self._rest_until = float("-inf")
        self.last_success = float("-inf")

    def limit(self) -> int:
        return int(self._now)

    def went_well(self) -> None:
        self.last_success = time.monotonic()
        self._now = min(self._most, self._now + 1 / self._now)

    async def rest(self) -> None:
        while (left := self._rest_until - time.monotonic()) > 0:
            await asyncio.sleep(left + random.uniform(0, 0.1))

    def went_wrong(self, sent: float, asked_wait: float | None) -> None:
        now = time.monotonic()
        if asked_wait is not None:
            self._rest_until = max(self._rest_until, now + min(asked_wait, LONGEST_ASKED_WAIT_S))
        if sent >= self._lowered and now - self._lowered >= SETTLING_S:
            self._now, self._lowered = max(1.0, self._now / 2), now


def _messages(request: Request) -> Iterator[dict[str, str]]:
    """The turns before the prompt, and the prompt. Half a surrogate pair, which JSON can hold, no server takes."""
    said = [text for turn in request.history for text in turn]
    for place, text in enumerate([*said, request.prompt]):
        yield {"role": ("user", "assistant")[place % 2], "content": text.encode("utf-8", "replace").decode()}


def _read(request: Request, reply: Any) -> Completion:
    """The server's answer. ValueError, TypeError, AttributeError or IndexError for anything else."""
    choice = reply.choices[0]
    text = choice.message.content  # of any type: a server may send what it likes
    if choice.finish_reason == "content_filter":
        return unanswerable(request, "the server's content filter withheld it")
    if not isinstance(text, str):
        raise ValueError("a reply without text")
    text = text.partition(request.stop)[0] if request.stop else text
    reason: Literal["stop", "length"] = "length" if choice.finish_reason == "length" else "stop"
    tokens = getattr(reply.usage, "completion_tokens", None)
    return Completion(request.key, text, tokens if isinstance(tokens, int) else len(text.split()) + 1, reason)


def _room_left(error: Any, asked: int) -> int | None:
    """How long the answer may be, if the server says that prompt and answer together are too long but the prompt is not."""
    told = str(error)
    context, read = _CONTEXT.search(told), _READ.search(told)
    if context is None or read is None:
        return None
    room = int(context[1]) - int(read[1])
    return room if 0 < room < asked else None


def _asked_wait(error: Any) -> float | None:
    """Seconds the server asks to wait (Retry-After)."""
    from email.utils import parsedate_to_datetime

    told: str | None = error.response.headers.get("retry-after")
    if told is None:
        return None
    try:
        return max(0.0, float(told))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(told).timestamp() - time.time())
    except ValueError:
        return None


def _wait(attempt: int) -> float:
    """Seconds before the next try; random, so that requests which failed together do not return together."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (attempt - 1)) * random.uniform(0.5, 1)
