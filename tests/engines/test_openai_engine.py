"""The openai engine against a real local server that misbehaves as it is told to."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from synpo_lab.config import OpenAIConfig, SamplingConfig, parse
from synpo_lab.engines import openai_engine
from synpo_lab.engines.base import Completion, Request
from synpo_lab.engines.openai_engine import OpenAIEngine
from synpo_lab.errors import ConfigError, EngineError
from tests.engines.tiny_server import (
    Reply,
    TinyServer,
    echo,
    garbage,
    no_choices,
    nothing,
    serving,
    slow,
    status,
)

SAMPLING = SamplingConfig(temperature=0.5, max_new_tokens=9)


@pytest.fixture
def server() -> Iterator[TinyServer]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_engine, "FIRST_WAIT_S", 0.02)


def opened(server: TinyServer, **settings: Any) -> OpenAIEngine:
    return OpenAIEngine("M_0", OpenAIConfig(base_url=server.url, **settings))


def ask(server: TinyServer, n: int = 20, **settings: Any) -> dict[str, Completion]:
    engine = opened(server, **settings)
    try:
        made = list(engine.generate([Request(f"k{i}", f"say {i}") for i in range(n)], SAMPLING, seed=3))
    finally:
        engine.close()
    assert len(made) == n
    return {completion.key: completion for completion in made}


def all_answered(made: dict[str, Completion]) -> bool:
    return all(made[f"k{i}"].text == f"say {i}" and made[f"k{i}"].finish_reason == "stop" for i in range(len(made)))


def test_what_is_asked_is_a_chat_with_the_sampling_and_a_seed_of_its_own(server: TinyServer) -> None:
    assert all_answered(ask(server))
    asked = [body for _, body in server.seen]
    assert all(body["model"] == "tiny" and body["temperature"] == 0.5 and body["max_tokens"] == 9 for body in asked)
    assert all("stop" not in body for body in asked)
    assert len({body["seed"] for body in asked}) == 20
    assert max(body["seed"] for body in asked) < 2**31


def test_the_turns_before_are_sent_as_turns(server: TinyServer) -> None:
    engine = opened(server)
    list(engine.generate([Request("k", "say 2", history=(("say 1", "one"),))], SAMPLING, seed=3))
    engine.close()
    [(_, body)] = server.seen
    assert [(turn["role"], turn["content"]) for turn in body["messages"]] == [
        ("user", "say 1"), ("assistant", "one"), ("user", "say 2"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "fault",
    [
        status(429, **{"retry-after": "0"}),
        status(500),
        status(503),
        garbage,
        no_choices,
        nothing,
        lambda handler, asked: handler.answer(None),
        lambda handler, asked: handler.send(200, {"choices": "many"}),
    ],
    ids=["429", "500", "503", "garbage", "no choices", "nothing", "no text", "wrong types"],
)
def test_a_server_that_stumbles_is_asked_again_and_nothing_is_lost(server: TinyServer, fault: Reply) -> None:
    server.faults = [fault] * 7
    assert all_answered(ask(server))
    assert len(server.seen) == 27


def test_a_request_without_an_answer_in_time_is_asked_again(server: TinyServer) -> None:
    server.faults = [slow(5)]
    began = time.monotonic()
    assert all_answered(ask(server, timeout_s=0.3))
    assert time.monotonic() - began < 4


def test_retry_after_is_honoured_by_every_request(server: TinyServer) -> None:
    server.faults = [status(429, **{"retry-after": "1"})]
    assert all_answered(ask(server, n=4, concurrency=1))
    (first, _), (second, _), *_ = server.seen
    assert 1.0 <= second - first < 2.5


def test_retry_after_may_be_a_date() -> None:
    class Refused(Exception):
        class response:
            headers = {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}  # noqa: RUF012

    assert openai_engine._asked_wait(Refused()) == 0
    Refused.response.headers = {"retry-after": "soon"}
    assert openai_engine._asked_wait(Refused()) is None


def test_concurrency_rises_while_all_goes_well_and_halves_when_it_does_not(server: TinyServer) -> None:
    server.reply = slow(0.01)
    engine = opened(server, concurrency=32)
    list(engine.generate([Request(f"k{i}", "x") for i in range(400)], SAMPLING, seed=0))
    high = engine._pace.limit()
    assert 20 <= high <= 32
    assert server.most_at_once <= 32
    server.faults = [status(429)] * high
    list(engine.generate([Request(f"l{i}", "x") for i in range(high)], SAMPLING, seed=0))
    assert engine._pace.limit() <= high // 2 + 5  # the answers since have raised it a little
    engine.close()


def test_a_dead_server_ends_the_stage_after_what_was_finished(server: TinyServer) -> None:
    engine = opened(server, attempts=3, concurrency=1)
    stream = engine.generate([Request(f"k{i}", f"say {i}") for i in range(9)], SAMPLING, seed=0)
    kept = [next(stream).key for _ in range(3)]
    server.reply = status(500, "I am lost")
    with pytest.raises(EngineError, match=r"does not answer: .*I am lost.* \(3 tries\)") as caught:
        list(stream)
    assert kept == ["k0", "k1", "k2"]
    assert "resume" in caught.value.hint
    engine.close()


def test_a_request_that_alone_keeps_failing_costs_only_itself(server: TinyServer) -> None:
    def reply(handler: Any, asked: dict[str, Any]) -> None:
        poisoned = asked["messages"][0]["content"] == "say 5"
        (status(500, "it broke me") if poisoned else slow(0.02))(handler, asked)

    server.reply = reply
    made = ask(server, n=60, attempts=4, concurrency=2)
    assert made["k5"].finish_reason == "error"
    assert "it broke me" in (made["k5"].error or "")
    assert made["k5"].again  # this may pass
    assert sum(completion.finish_reason == "stop" for completion in made.values()) == 59


def test_a_request_that_is_refused_comes_back_with_the_servers_reason(server: TinyServer) -> None:
    server.faults = [
        status(400, "This model's maximum context length is 256 tokens. However, it has 300 input tokens.")
    ]
    made = ask(server, n=3, concurrency=1)
    assert made["k0"].finish_reason == "error"
    assert "maximum context length is 256" in (made["k0"].error or "")
    assert not made["k0"].again
    assert made["k1"].text == "say 1"


@pytest.mark.parametrize("number", [400, 422])
def test_a_server_that_refuses_every_request_ends_the_stage_with_its_words(server: TinyServer, number: int) -> None:
    server.reply = status(number, "unknown parameter: seed")
    engine = opened(server)
    stream = engine.generate((Request(f"k{i}", "x") for i in range(1000)), SAMPLING, seed=0)
    kept: list[Completion] = []
    with pytest.raises(EngineError, match=r"refuses every request: .*unknown parameter: seed") as caught:
        kept.extend(stream)
    assert "resume" in caught.value.hint
    assert len(server.seen) < 20
    assert all(made.again for made in kept)  # not one of them is settled
    engine.close()


def test_a_refusal_is_final_once_the_server_has_answered_something(server: TinyServer) -> None:
    refused = status(400, "I do not answer that")
    server.faults = [refused, echo, refused]
    made = ask(server, n=4, concurrency=1)
    assert {key: one.again for key, one in made.items() if one.error} == {"k0": True, "k2": False}


def test_prompts_that_are_too_long_are_no_fault_of_the_server(server: TinyServer) -> None:
    server.faults = [status(400, "maximum context length is 32 tokens"), status(413, "too large")] * 10
    made = ask(server, n=30)
    assert sum(one.finish_reason == "error" and not one.again for one in made.values()) == 20


def test_an_answer_that_would_pass_the_context_is_asked_for_shorter(server: TinyServer) -> None:
    told = "maximum context length is 32 tokens. However, you requested 9 output tokens and your prompt contains 27 input tokens"
    server.faults = [status(400, told)]
    assert ask(server, n=1)["k0"].text == "say 0"
    assert [body["max_tokens"] for _, body in server.seen] == [9, 5]


@pytest.mark.parametrize(
    ("fault", "message", "hint"),
    [
        (status(401, "bad key sk-secret-123"), "refuses the key", "environment variable THE_KEY"),
        (status(404, "no such model"), "has no model 'tiny'", "engine.openai.model"),
    ],
)
def test_what_no_request_can_mend_ends_the_stage_at_once(
    server: TinyServer, fault: Reply, message: str, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", "sk-secret-123")
    server.faults = [fault] * 50
    with pytest.raises(EngineError, match=message) as caught:
        ask(server, key_variable="THE_KEY")
    assert hint in caught.value.hint
    assert "sk-secret-123" not in str(caught.value)


def test_the_key_comes_from_the_environment_and_is_sent_to_the_server_only(
    server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THE_KEY", "sk-secret-123")
    ask(server, n=1, key_variable="THE_KEY")
    assert server.headers[0]["authorization"] == "Bearer sk-secret-123"
    config = parse({"engine": {"kind": "openai", "openai": {"key_variable": "THE_KEY"}}})
    assert "sk-secret" not in config.to_yaml()


@pytest.mark.parametrize("key", ["key_variable", "base_url"])
def test_a_key_in_the_config_is_refused_without_repeating_it(key: str) -> None:
    value = "sk-secret-123" if key == "key_variable" else "http://me:sk-secret-123@host/v1"
    with pytest.raises(ConfigError) as caught:
        parse({"engine": {"openai": {key: value}}})
    assert "sk-secret" not in str(caught.value)
    assert f"engine.openai.{key}" in str(caught.value)


def test_no_server_is_said_when_the_engine_opens() -> None:
    with pytest.raises(EngineError, match=r"no model at http://127\.0\.0\.1:1/v1/models") as caught:
        OpenAIEngine("M_0", OpenAIConfig(base_url="http://127.0.0.1:1/v1"))
    assert "start the server" in caught.value.hint


def test_log_probs_are_refused_with_what_to_do(server: TinyServer) -> None:
    engine = opened(server)
    with pytest.raises(EngineError, match="log-probs") as caught:
        engine.mean_logps([("p", "a")])
    assert "transformers" in caught.value.hint
    engine.close()


def test_a_cancelled_generation_leaves_no_request_in_flight(server: TinyServer) -> None:
    server.reply = slow(0.5)
    server.faults = [echo]
    engine = opened(server)
    stream = engine.generate([Request(f"k{i}", "x") for i in range(100)], SAMPLING, seed=0)
    next(stream)
    began = time.monotonic()
    stream.close()
    engine.close()
    assert time.monotonic() - began < 2
    seen = len(server.seen)
    time.sleep(0.7)
    assert len(server.seen) == seen
