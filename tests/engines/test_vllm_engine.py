"""What is particular about the vLLM engine; what it shares with the others is in test_contract.py."""

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from synpo_lab.config import EngineConfig, SamplingConfig
from synpo_lab.engines.base import Completion, Engine, Request, never
from synpo_lab.engines.transformers_engine import TransformersEngine
from synpo_lab.engines.vllm_engine import VllmEngine
from synpo_lab.errors import EngineError, ModelError
from tests.engines.tiny_adapter import save_adapter
from tests.tiny_model import TEMPLATE, save_tiny

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
GREEDY = SamplingConfig(temperature=0, max_new_tokens=16)
GIB = 2**30


def config(**settings: Any) -> EngineConfig:
    return EngineConfig.model_validate(
        {"kind": "vllm", "device": "cpu", "threads": 1, "vllm": {"cpu_cache_gib": 1, "max_num_seqs": 16, **settings}}
    )


def asked(n: int = 30) -> list[Request]:
    return [Request(f"k{i}", f"w{i % 26} w{i % 7} w{i % 5}") for i in range(n)]


def by_key(engine: Engine, sampling: SamplingConfig = GREEDY) -> dict[str, Completion]:
    return {made.key: made for made in engine.generate(asked(), sampling, seed=1)}


def transformers(model: Path) -> TransformersEngine:
    return TransformersEngine("M", model, EngineConfig(device="cpu", threads=1))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("vllm") / "base", hidden=64)


@pytest.fixture
def open_vllm() -> Iterator[Any]:
    opened: list[VllmEngine] = []

    def open_it(*arguments: Any, **more: Any) -> VllmEngine:
        opened.append(VllmEngine(*arguments, **more))
        return opened[-1]

    yield open_it
    for engine in opened:
        engine.close()


def test_adapters_are_served_over_one_base_as_transformers_computes_them(
    base: Path, tmp_path: Path, open_vllm: Any
) -> None:
    one, two = save_adapter(base, tmp_path / "one", seed=1), save_adapter(base, tmp_path / "two", seed=2, rank=4)
    m1 = open_vllm("M_1", one, config())
    m2, m0 = m1.beside("M_2", two), m1.beside("M_0", base)
    assert m2._core is m1._core is m0._core
    texts = [by_key(engine) for engine in (m0, m1, m2)]
    assert texts == [by_key(transformers(model)) for model in (base, one, two)]
    assert texts[0] != texts[1] != texts[2] != texts[0]
    rows = [(request.prompt, "w1 w2") for request in asked(10)]
    assert list(m1.mean_logps(rows)) == pytest.approx(list(transformers(one).mean_logps(rows)), abs=1e-5)
    assert by_key(m2) == texts[2]  # vLLM was closed for the log-probs, and opens again
    assert m1.beside("M_3", save_tiny(tmp_path / "other")) is None


def test_an_engine_opened_without_adapters_serves_none(base: Path, tmp_path: Path, open_vllm: Any) -> None:
    assert open_vllm("M_0", base, config()).beside("M_1", save_adapter(base, tmp_path / "one")) is None


def test_an_adapter_of_a_larger_rank_than_was_made_room_for_is_not_beside(
    base: Path, tmp_path: Path, open_vllm: Any
) -> None:
    wide = save_adapter(base, tmp_path / "wide", rank=16)
    engine = open_vllm("M_0", base, config(max_lora_rank=8), adapters=8)
    assert engine.beside("M_1", wide) is None
    engine.close()
    assert by_key(open_vllm("M_1", wide, config(max_lora_rank=8))) == by_key(transformers(wide))


def test_adapters_that_vllm_cannot_serve_are_refused_before_anything_loads(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="does not serve") as caught:
        VllmEngine("M_1", save_adapter(base, tmp_path / "odd", use_dora=True), config())
    assert "transformers" in caught.value.hint


@pytest.mark.parametrize("template", [TEMPLATE, TEMPLATE.removeprefix("{{ bos_token }}")], ids=["writes", "omits"])
def test_a_prompt_begins_with_exactly_one_bos_whatever_the_template_writes(
    base: Path, open_vllm: Any, template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = open_vllm("M_0", base, config())
    engine._tokenizer.chat_template = template
    adds_bos = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    engine._tokenizer.backend_tokenizer.post_processor = adds_bos
    sent: list[list[int]] = []
    plain = engine._core._llm.add_request

    def add(name: str, prompt: Any, *rest: Any, **more: Any) -> Any:
        sent.append(prompt["prompt_token_ids"])
        return plain(name, prompt, *rest, **more)

    monkeypatch.setattr(engine._core._llm, "add_request", add)
    by_key(engine)
    bos = engine._tokenizer.bos_token_id
    assert len(sent) == 30
    assert all(tokens[0] == bos and tokens.count(bos) == 1 for tokens in sent)


def test_common_beginnings_are_read_once(base: Path, open_vllm: Any) -> None:
    def read_before(**settings: Any) -> int:
        engine = open_vllm("M_0", base, config(**settings))
        start = "w1 w2 w3 w4 " * 40
        list(engine.generate([Request("k", f"{start} w5")], GREEDY, seed=0))
        work = engine._work([Request("l", f"{start} w6")], GREEDY, 0)
        [(_, output)] = engine._core.run(work, None, never)
        engine.close()
        return int(output.num_cached_tokens)

    assert read_before() > 100
    assert read_before(prefix_caching=False) == 0


def test_memory_comes_back_and_torch_is_left_as_it_was(base: Path) -> None:
    process, set_threads, threads = psutil.Process(), torch.set_num_threads, torch.get_num_threads()
    VllmEngine("M_0", base, config()).close()  # what the import itself costs stays
    gc.collect()
    before = process.memory_info().rss
    engine = VllmEngine("M_0", base, config())
    by_key(engine)
    held = process.memory_info().rss - before
    engine.close()
    engine.close()
    left = process.memory_info().rss - before
    assert held > 0.9 * GIB
    assert left < 0.1 * held
    assert torch.set_num_threads is set_threads
    torch.set_num_threads(threads)


def test_a_context_that_the_model_has_not_is_refused_with_what_to_set(base: Path) -> None:
    with pytest.raises(EngineError, match="does not start") as caught:
        VllmEngine("M_0", base, config(max_model_len=100_000))
    assert "max_model_len" in caught.value.hint


def test_two_copies_of_the_weights_share_the_work(base: Path, open_vllm: Any) -> None:
    engine = open_vllm("M_0", base, config(data_parallel=2, max_model_len=128))
    assert by_key(engine) == by_key(transformers(base))
    children = [child for child in psutil.Process().children(recursive=True) if "VLLM::" in " ".join(child.cmdline())]
    assert len(children) >= 2
    engine.close()
    assert not psutil.wait_procs(children, timeout=10)[1]


def test_more_seeded_tokens_than_one_step_reads_are_no_trouble_on_a_cpu(base: Path, open_vllm: Any) -> None:
    engine = open_vllm("M_0", base, config())
    long = [Request(f"k{i}", " ".join(f"w{(i * j) % 26}" for j in range(230))) for i in range(60)]
    made = list(engine.generate(long, SamplingConfig(temperature=1, max_new_tokens=4), seed=1))
    assert len(made) == 60
    assert all(completion.finish_reason != "error" for completion in made)
