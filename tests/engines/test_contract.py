"""What every engine promises (engines/base.py), one suite for all of them, over the same weights where they have any."""

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from synpo_lab.chat import encode_prompts
from synpo_lab.config import EngineConfig, SamplingConfig
from synpo_lab.engines import open_engine
from synpo_lab.engines.base import Completion, Engine, Request
from synpo_lab.errors import EngineError, LabError
from tests.engines.tiny_server import by_engine, serving
from tests.tiny_model import save_tiny

CONTEXT = 256
GREEDY = SamplingConfig(temperature=0, max_new_tokens=16)
WARM = SamplingConfig(temperature=1, max_new_tokens=16)


@dataclass(frozen=True)
class Case:
    """An engine and what is particular about it."""

    engine: Engine
    ahead: int  # requests it may read before the first is answered
    exact: bool = True  # sampled text is the same bit for bit in any company; else for 19 of 20 at least
    weights: bool = True  # it computes with the model folder
    broken: dict[str, Any] = field(default_factory=dict)  # engine settings with which it cannot open
    scores: bool = True  # it can give log-probs
    spaced: bool = False  # text may begin with the space that decoding word by word puts before a word


Opened = Callable[[Path], Any]


def _config(kind: str, **settings: Any) -> EngineConfig:
    return EngineConfig.model_validate({"kind": kind, "device": "cpu", "threads": 1, **settings})


@contextmanager
def _scripted(folder: Path) -> Iterator[Case]:
    from synpo_lab.engines.scripted_engine import ScriptedEngine

    def talk(prompt: str, draw: int) -> str:
        rng = random.Random(f"{prompt!a} {draw}")
        return " ".join(f"w{rng.randrange(26)}" for _ in range(rng.randrange(1, 400)))

    yield Case(ScriptedEngine("M_0", talk, context=CONTEXT), ahead=1, weights=False)


@contextmanager
def _transformers(folder: Path) -> Iterator[Case]:
    engine = open_engine("M_0", folder, _config("transformers", batch_size=4))
    yield Case(engine, ahead=4 * 64)
    engine.close()


@contextmanager
def _openai(folder: Path) -> Iterator[Case]:
    behind = open_engine("M_0", folder, _config("transformers"))
    with serving(by_engine(behind, CONTEXT)) as server:
        settings = {"base_url": server.url, "concurrency": 8}
        engine = open_engine("M_0", folder, _config("openai", openai=settings), initial=True)
        yield Case(engine, ahead=8, scores=False, broken={"openai": {"base_url": "http://127.0.0.1:1/v1"}})
        engine.close()
    behind.close()


@contextmanager
def _ray(folder: Path) -> Iterator[Case]:
    pytest.importorskip("ray", reason="needs the extra ray")
    engine = open_engine("M_0", folder, _config("ray", ray={"workers": 1, "batch": 32}))
    yield Case(engine, ahead=3 * 32, broken={"ray": {"workers": 1000, "batch": 1}})
    engine.close()


@contextmanager
def _vllm(folder: Path) -> Iterator[Case]:
    settings = {"cpu_cache_gib": 1, "max_num_seqs": 16}
    engine = open_engine("M_0", folder, _config("vllm", vllm=settings))
    yield Case(engine, ahead=256 + 2 * 16, exact=False, broken={"vllm": {"max_model_len": 100_000}})
    engine.close()


@contextmanager
def _vllm_server(folder: Path) -> Iterator[Case]:
    with vllm_server(folder) as url:
        engine = open_engine("M_0", folder, _config("openai", openai={"base_url": url}), initial=True)
        wrong = {"openai": {"base_url": url, "model": "absent"}}
        yield Case(engine, ahead=64, exact=False, scores=False, spaced=True, broken=wrong)
        engine.close()


@contextmanager
def vllm_server(folder: Path) -> Iterator[str]:
    """vLLM's own server over `folder`, in a process of its own; yields its address."""
    import socket
    import urllib.request

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    module = "vllm.entrypoints.openai.api_server"
    command = [
        sys.executable, "-m", module, "--model", str(folder), "--served-model-name", "tiny", "--dtype", "float32",
        "--enforce-eager", "--max-model-len", str(CONTEXT), "--host", "127.0.0.1", "--port", str(port),
        "--kv-cache-memory-bytes", str(1 << 29), "--max-num-seqs", "32", "--no-enable-chunked-prefill",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            for _ in range(600):
                assert process.poll() is None, "the server did not start"
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


# What other people's packages warn of among themselves.
QUIET = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
CASES = {
    "scripted": pytest.param(_scripted, id="scripted"),
    "transformers": pytest.param(_transformers, id="transformers"),
    "openai": pytest.param(_openai, id="openai"),
    "ray": pytest.param(_ray, id="ray", marks=[pytest.mark.slow, *QUIET]),
    "vllm": pytest.param(_vllm, id="vllm", marks=[pytest.mark.vllm, pytest.mark.slow, *QUIET]),
    "openai-vllm": pytest.param(_vllm_server, id="openai-vllm", marks=[pytest.mark.vllm, pytest.mark.slow]),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("contract") / "model", hidden=64, max_position_embeddings=CONTEXT)


@pytest.fixture(scope="module", params=CASES.values())
def case(request: pytest.FixtureRequest, folder: Path) -> Iterator[Case]:
    with request.param(folder) as case:
        yield case


def requests(n: int, *, longest: int = 30, seed: int = 0) -> list[Request]:
    rng = random.Random(seed)
    return [
        Request(f"r{i}", " ".join(f"w{rng.randrange(26)}" for _ in range(rng.randint(1, longest)))) for i in range(n)
    ]


def by_key(case: Case, asked: list[Request], sampling: SamplingConfig, seed: int = 1) -> dict[str, Completion]:
    made = list(case.engine.generate(asked, sampling, seed=seed))
    assert len(made) == len(asked)
    return {completion.key: completion for completion in made}


def agreement(one: dict[str, Completion], other: dict[str, Completion]) -> float:
    return sum(one[key] == other[key] for key in other) / len(other)


def test_greedy_text_is_what_transformers_writes_with_the_same_weights(case: Case, folder: Path) -> None:
    if not case.weights:
        pytest.skip("a script has no weights")
    import torch

    from synpo_lab.models import load_model, load_tokenizer

    model, tokenizer = load_model(folder, device="cpu"), load_tokenizer(folder)
    asked = requests(40)
    made = by_key(case, asked, GREEDY)
    for request in asked:
        [prompt] = encode_prompts(tokenizer, [request.prompt])
        ids = torch.tensor([prompt])
        out = model.generate(  # type: ignore[operator]
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=16, pad_token_id=0
        )
        tokens = out[0, len(prompt) :].tolist()
        text = made[request.key].text.removeprefix(" " if case.spaced else "")
        assert text == tokenizer.decode(tokens, skip_special_tokens=True)
        assert made[request.key].n_tokens == len(tokens)


def test_the_same_seed_gives_the_same_text_and_another_seed_another(case: Case) -> None:
    asked = requests(40)
    first, again, other = (by_key(case, asked, WARM, seed) for seed in (1, 1, 2))
    assert agreement(first, again) >= (1 if case.exact else 0.95)
    assert agreement(first, other) < 0.5


def test_sampled_text_does_not_depend_on_the_neighbours_or_the_order(case: Case) -> None:
    asked = requests(40)
    together = by_key(case, asked, WARM)
    fewer = random.Random(0).sample(asked, 13)
    assert agreement(together, by_key(case, fewer, WARM)) >= (1 if case.exact else 0.9)


def test_equal_prompts_under_other_keys_are_sampled_anew(case: Case) -> None:
    made = by_key(case, [Request(f"k{i}", "w1 w2 w3") for i in range(30)], WARM)
    assert len({completion.text for completion in made.values()}) > 15


def test_generation_stops_at_the_stop_text_and_leaves_it_out(case: Case) -> None:
    asked = requests(40)
    made = by_key(case, asked, GREEDY)
    whole = next(
        c for c in made.values() if len(words := c.text.split()) >= 8 and f"{words[3]} {words[4]}" not in c.text[:9]
    )
    stop = " ".join(whole.text.split()[3:5])
    prompt = next(request.prompt for request in asked if request.key == whole.key)
    [stopped] = case.engine.generate([Request(whole.key, prompt, stop=stop)], GREEDY, seed=1)
    assert stopped.text == whole.text.partition(stop)[0]
    assert stopped.finish_reason == "stop"
    assert stopped.n_tokens <= whole.n_tokens


def test_a_long_answer_is_cut_and_says_so(case: Case) -> None:
    made = by_key(case, requests(40), SamplingConfig(temperature=1, max_new_tokens=3))
    cut = [completion for completion in made.values() if completion.finish_reason == "length"]
    assert len(cut) > 20
    assert {completion.n_tokens for completion in cut} == {3}
    assert all(completion.n_tokens <= 3 for completion in made.values())


def test_an_answer_ends_where_the_context_does(case: Case) -> None:
    [made] = case.engine.generate(
        [Request("k", "w1 " * (CONTEXT - 6))], SamplingConfig(temperature=1, max_new_tokens=90), seed=3
    )
    assert made.finish_reason in {"stop", "length"}
    assert 1 <= made.n_tokens <= 6


def test_a_prompt_beyond_the_context_costs_only_itself(case: Case) -> None:
    asked = [*requests(5), Request("long", "w1 " * 300), Request("after", "w1 w2")]
    made = by_key(case, asked, GREEDY)
    long = made.pop("long")
    assert (long.finish_reason, long.text, long.n_tokens) == ("error", "", 0)
    assert str(CONTEXT) in (long.error or "")
    assert all(completion.finish_reason != "error" for completion in made.values())
    assert all(completion.error is None for completion in made.values())


def test_empty_and_odd_prompts_are_answered(case: Case) -> None:
    odd = {"empty": "", "unicode": "naïve ☃ \U0001f600 \u202e\u0000", "half": "w1 \ud800", "lines": "w1\n\nw2\t w3"}
    made = by_key(case, [Request(key, prompt) for key, prompt in odd.items()], GREEDY)
    assert set(made) == set(odd)
    assert all(completion.finish_reason != "error" for completion in made.values())


def test_requests_are_read_as_they_are_needed(case: Case) -> None:
    taken = 0

    def many() -> Iterator[Request]:
        nonlocal taken
        for i in range(3000):
            taken += 1
            yield Request(str(i), f"w{i % 26}")

    stream = case.engine.generate(many(), SamplingConfig(temperature=1, max_new_tokens=2), seed=0)
    for _ in range(50):
        next(stream)
    assert taken <= 50 + 2 * case.ahead + 2
    stream.close()  # type: ignore[attr-defined]


def test_a_generation_that_is_closed_ends_within_two_seconds(case: Case) -> None:
    asked = [Request(f"{i}", f"w{i % 26} w{i % 7}") for i in range(3000)]
    stream = case.engine.generate(asked, SamplingConfig(temperature=1, max_new_tokens=200), seed=0)
    next(stream)
    began = time.monotonic()
    stream.close()  # type: ignore[attr-defined]
    assert time.monotonic() - began < 2
    began = time.monotonic()  # and the engine is free for the next
    list(case.engine.generate([Request("k", "w1")], SamplingConfig(max_new_tokens=1), seed=0))
    assert time.monotonic() - began < 60


class Halt(BaseException):
    """As a stop request is: no Exception."""


def test_a_check_that_raises_ends_the_generation(case: Case) -> None:
    asked = (Request(f"{i}", f"w{i % 26} w{i % 7}") for i in range(20_000))
    raised_at = 0.0

    def check() -> None:
        nonlocal raised_at
        if time.monotonic() - began > 0.3:
            raised_at = raised_at or time.monotonic()
            raise Halt

    began = time.monotonic()
    with pytest.raises(Halt):
        list(case.engine.generate(asked, SamplingConfig(temperature=1, max_new_tokens=200), seed=0, check=check))
    assert time.monotonic() - raised_at < 2
    assert raised_at - began < 30


def test_no_requests_give_no_completions(case: Case) -> None:
    assert list(case.engine.generate([], GREEDY, seed=0)) == []


def test_mean_logps_are_those_of_transformers_in_order_or_refused_with_a_hint(case: Case, folder: Path) -> None:
    rows = [(request.prompt, f"w{i % 26} w{i % 7}") for i, request in enumerate(requests(20))]
    if not case.weights:
        assert len(list(case.engine.mean_logps(rows))) == 20
        return
    if not case.scores:
        with pytest.raises(EngineError) as caught:
            list(case.engine.mean_logps(rows))
        assert "transformers" in caught.value.hint
        return
    found = list(case.engine.mean_logps(rows))
    reference = open_engine("M_0", folder, _config("transformers"))
    assert found == pytest.approx(list(reference.mean_logps(rows)), abs=1e-4)
    reference.close()


def test_a_check_that_raises_ends_the_scoring(case: Case) -> None:
    class Stop(BaseException):
        pass

    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 3:
            raise Stop

    rows = [(request.prompt, f"w{i % 26} w{i % 7}") for i, request in enumerate(requests(300))]
    if not case.scores:
        pytest.skip("a server scores nothing")
    with pytest.raises(Stop):
        list(case.engine.mean_logps(rows, check=check))
    assert asked == 3


def test_an_engine_that_cannot_open_says_why_and_what_to_do(case: Case, folder: Path, tmp_path: Path) -> None:
    kind = {"OpenAIEngine": "openai", "RayEngine": "ray", "VllmEngine": "vllm"}.get(type(case.engine).__name__)
    if not case.weights:
        pytest.skip("a script always opens")
    where, config = (folder, _config(kind, **case.broken)) if kind else (tmp_path, _config("transformers"))
    with pytest.raises(LabError) as caught, closing(open_engine("M_0", where, config, initial=True)) as engine:
        list(engine.generate([Request("k", "w1")], GREEDY, seed=0))
    assert caught.value.hint
    assert "Traceback" not in str(caught.value)
