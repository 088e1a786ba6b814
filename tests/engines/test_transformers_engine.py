import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel, MambaConfig, MambaForCausalLM

from synpo_lab.chat import encode_examples, encode_prompts
from synpo_lab.config import EngineConfig, SamplingConfig
from synpo_lab.engines import batch as batches
from synpo_lab.engines import memory, transformers_engine
from synpo_lab.engines.adapters import adapter_of
from synpo_lab.engines.base import Completion, Request
from synpo_lab.engines.transformers_engine import TransformersEngine
from synpo_lab.errors import EngineError, ModelError
from synpo_lab.models import load_model, load_tokenizer
from synpo_lab.training.batches import Tensors
from synpo_lab.training.logps import AnswerLogps
from tests.engines.conftest import Endings
from tests.engines.tiny_adapter import save_adapter
from tests.tiny_model import save_tiny, tiny_llama, tiny_tokenizer

GREEDY = SamplingConfig(temperature=0, max_new_tokens=20)
WARM = SamplingConfig(temperature=0.7, max_new_tokens=20)


def requests(n: int, *, longest: int = 30, seed: int = 0) -> list[Request]:
    rng = random.Random(seed)
    return [
        Request(f"r{i}", " ".join(f"w{rng.randrange(26)}" for _ in range(rng.randint(0, longest)))) for i in range(n)
    ]


def by_key(
    engine: TransformersEngine, asked: list[Request], sampling: SamplingConfig, seed: int = 1
) -> dict[str, Completion]:
    made = list(engine.generate(asked, sampling, seed=seed))
    assert len(made) == len(asked)
    return {completion.key: completion for completion in made}


def reference(engine: TransformersEngine, request: Request, limit: int) -> list[int]:
    """What transformers' own generate writes, greedily and alone."""
    [prompt] = encode_prompts(engine._tokenizer, [request.prompt])
    ids = torch.tensor([prompt])
    out = engine._model.generate(
        input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=limit, pad_token_id=0
    )
    return list(out[0, len(prompt) :].tolist())


def assert_greedy_parity(engine: TransformersEngine, asked: list[Request]) -> None:
    made = by_key(engine, asked, GREEDY)
    for request in asked:
        tokens = reference(engine, request, GREEDY.max_new_tokens)
        assert made[request.key].text == engine._tokenizer.decode(tokens, skip_special_tokens=True)
        assert made[request.key].n_tokens == len(tokens)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_completion_does_not_depend_on_batch_size_or_order(endings: Endings, batch_size: int) -> None:
    asked = requests(100)
    expected = by_key(endings(7), asked, WARM)
    shuffled = random.Random(batch_size).sample(asked, len(asked))
    assert by_key(endings(batch_size), shuffled, WARM) == expected
    assert len({completion.text for completion in expected.values()}) > 50


def test_another_seed_or_key_makes_another_completion(endings: Endings) -> None:
    asked = [Request(str(i), "w1 w2 w3") for i in range(40)]
    first, other = by_key(endings(), asked, WARM, seed=1), by_key(endings(), asked, WARM, seed=2)
    assert len({completion.text for completion in first.values()}) > 20
    assert sum(first[key].text != other[key].text for key in first) > 20


def test_greedy_text_is_what_transformers_generate_writes(endings: Endings) -> None:
    assert_greedy_parity(endings(5), requests(40))


def test_rows_outgrow_the_first_cache_and_still_agree_with_transformers() -> None:
    endless = Endings(every=1000, max_position_embeddings=1024)
    endless.model.model.embed_tokens.weight.data[[2, 7]] = 0  # a tied head: ends have logit 0, never the highest
    engine = endless(3)
    asked = requests(7, longest=60)
    made = by_key(engine, asked, SamplingConfig(temperature=0, max_new_tokens=300))
    assert {completion.n_tokens for completion in made.values()} == {300}
    for request in asked:
        tokens = reference(engine, request, 300)
        assert made[request.key].n_tokens == len(tokens)
        assert made[request.key].text == engine._tokenizer.decode(tokens, skip_special_tokens=True)


def test_a_longer_prompt_can_join_a_running_batch(endings: Endings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_engine, "CHUNK", 1)  # chunks of two: short prompts first, long ones join later
    short, long = requests(8, longest=2), requests(8, longest=50, seed=5)
    asked = short + [Request(f"long{r.key}", r.prompt) for r in long]
    assert_greedy_parity(endings(2), asked)


def gpt2(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=64, eos_token_id=2)
    return GPT2LMHeadModel(config)


SLIDING = ["sliding_attention", "sliding_attention", "full_attention"]


def sliding(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, sliding_window=5, layer_types=SLIDING,
        eos_token_id=2, pad_token_id=0, bos_token_id=1,
    )  # fmt: skip
    return Gemma3ForCausalLM(config)


def recurrent(tokenizer: Any) -> Any:
    torch.manual_seed(0)
    config = MambaConfig(vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, eos_token_id=2, pad_token_id=0)
    return MambaForCausalLM(config)


@pytest.mark.parametrize("make", [gpt2, sliding, recurrent])
def test_greedy_parity_holds_for_other_architectures(make: Any) -> None:
    tokenizer = tiny_tokenizer(26)
    model = make(tokenizer)
    for parameter in model.parameters():
        parameter.data.mul_(3)  # larger weights: answers that differ
    engine = TransformersEngine("M", model, EngineConfig(batch_size=4, threads=1), tokenizer=tokenizer)
    assert_greedy_parity(engine, requests(12))


def test_a_model_with_recurrent_states_is_decoded_in_batches_of_fixed_rows() -> None:
    tokenizer = tiny_tokenizer(26)
    made = batches.new_batch(recurrent(tokenizer), GREEDY, 0, lambda row: None)
    assert isinstance(made, batches.FixedBatch)


def test_answers_end_at_the_limit_at_an_end_token_or_at_the_stop_text(endings: Endings) -> None:
    engine = endings()
    plain = by_key(engine, requests(60), SamplingConfig(temperature=0.7, max_new_tokens=6))
    assert {c.finish_reason for c in plain.values()} == {"stop", "length"}
    assert all(c.n_tokens == 6 for c in plain.values() if c.finish_reason == "length")
    cut = next(c for c in plain.values() if len(c.text.split()) >= 4)
    word = cut.text.split()[2]
    asked = next(r for r in requests(60) if r.key == cut.key)
    [stopped] = engine.generate([Request(asked.key, asked.prompt, stop=word)], WARM, seed=1)
    assert stopped.text == cut.text.partition(word)[0]
    assert stopped.finish_reason == "stop"
    assert word not in stopped.text


def test_a_stop_text_of_several_tokens_is_found_across_their_border(endings: Endings) -> None:
    engine = endings()
    whole = next(c for c in by_key(engine, requests(60), WARM).values() if len(c.text.split()) >= 5)
    a, b, c = whole.text.split()[1:4]
    stop = f"{a} {b} {c}"
    asked = next(r for r in requests(60) if r.key == whole.key)
    [stopped] = engine.generate([Request(asked.key, asked.prompt, stop=stop)], WARM, seed=1)
    assert stopped.text == whole.text.partition(stop)[0]


def test_odd_prompts_are_answered(endings: Endings) -> None:
    asked = [Request("empty", ""), Request("unicode", "naïve ☃ \U0001f600 \ud800"), Request("lines", "w1\n\nw2\t w3")]
    made = by_key(endings(), asked, GREEDY)
    assert all(completion.n_tokens >= 1 for completion in made.values())


def test_a_prompt_beyond_the_context_comes_back_with_the_reason(endings: Endings) -> None:
    [made] = endings().generate([Request("long", "w1 " * 300)], GREEDY, seed=0)
    assert (made.finish_reason, made.text) == ("error", "")
    assert made.error == "its prompt has 303 tokens, M_0 takes 256 with the answer"


def test_an_answer_stops_where_the_context_ends(endings: Endings) -> None:
    [made] = endings().generate(
        [Request("long", "w1 " * 250)], SamplingConfig(temperature=2, max_new_tokens=90), seed=3
    )
    assert made.n_tokens <= 3


def test_requests_are_read_in_bounded_chunks(endings: Endings) -> None:
    taken = 0

    def endless() -> Iterator[Request]:
        nonlocal taken
        for i in range(10_000):
            taken += 1
            yield Request(str(i), f"w{i % 26}")

    stream = endings(2).generate(endless(), SamplingConfig(temperature=1, max_new_tokens=2), seed=0)
    for _ in range(100):
        next(stream)
    assert taken <= 100 + 2 * transformers_engine.CHUNK + 2


def test_equal_prompts_are_read_once(endings: Endings, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    plain = batches.Batch._left_padded
    monkeypatch.setattr(
        batches.Batch, "_left_padded", lambda self, prompts: read.append(len(prompts)) or plain(self, prompts)
    )
    made = by_key(endings(8), [Request(str(i), "w1 w2") for i in range(8)], WARM)
    assert read == [1]
    assert len({completion.text for completion in made.values()}) > 1


def test_running_out_of_memory_halves_the_batch_and_loses_nothing(
    endings: Endings, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = requests(30)
    expected = by_key(endings(16), asked, WARM)
    engine = endings(16)
    plain = batches.SlotBatch._forward

    def scarce(self: Any, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(ids) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, ids, *rest)

    monkeypatch.setattr(batches.SlotBatch, "_forward", scarce)
    assert by_key(engine, asked, WARM) == expected
    assert engine._batch_size == 4


def test_out_of_memory_with_a_single_row_is_an_error(endings: Endings, monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(batches.SlotBatch, "_forward", none_left)
    with pytest.raises(EngineError, match="one prompt at a time"):
        list(endings().generate(requests(3), GREEDY, seed=0))


def test_other_errors_of_the_model_are_not_taken_for_a_lack_of_memory(
    endings: Endings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(batches.SlotBatch, "_forward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        list(endings().generate(requests(3), GREEDY, seed=0))


def test_mean_logps_are_those_of_the_full_logits_in_order(endings: Endings) -> None:
    rows = [(r.prompt, f"w{i % 26} w{i % 7}" * (i % 3 + 1)) for i, r in enumerate(requests(20))]
    found = list(endings(3).mean_logps(rows))
    for value, example in zip(found, encode_examples(endings.tokenizer, rows), strict=True):
        ids = torch.tensor([example.prompt + example.answer])
        logps = endings.model(ids).logits.log_softmax(-1)[0, len(example.prompt) - 1 : -1]
        expected = logps.gather(1, torch.tensor(example.answer).unsqueeze(1)).mean()
        assert value == pytest.approx(expected.item(), abs=1e-5)


def test_scoring_halves_its_batch_too_when_memory_runs_out(endings: Endings, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(request.prompt, "w1 w2") for request in requests(20)]
    expected = list(endings(16).mean_logps(rows))
    plain = AnswerLogps.means

    def scarce(self: AnswerLogps, batch: Tensors) -> torch.Tensor:
        if len(batch["input_ids"]) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, batch)

    monkeypatch.setattr(AnswerLogps, "means", scarce)
    assert list(endings(16).mean_logps(rows)) == pytest.approx(expected, abs=1e-5)


def test_an_engine_opens_a_model_folder(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "model")
    opened = TransformersEngine("M", folder, EngineConfig(device="cpu", threads=1))
    given = TransformersEngine("M", tiny_llama(32), EngineConfig(threads=1), tokenizer=tiny_tokenizer(26))
    assert by_key(opened, requests(5), GREEDY) == by_key(given, requests(5), GREEDY)
    opened.close()
    assert opened._model is None


CPU_ALLOCATION = "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"


@pytest.mark.parametrize(
    "error", [RuntimeError(CPU_ALLOCATION), MemoryError(), RuntimeError("MPS backend out of memory")]
)
def test_a_cpu_or_mps_without_memory_halves_the_batch_too(
    endings: Endings, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    asked = requests(30)
    expected = by_key(endings(16), asked, WARM)
    plain = batches.SlotBatch._forward

    def scarce(self: Any, ids: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(ids) > 3:
            raise error
        return plain(self, ids, *rest)

    monkeypatch.setattr(batches.SlotBatch, "_forward", scarce)
    engine = endings(16)
    assert by_key(engine, asked, WARM) == expected
    monkeypatch.undo()
    assert by_key(engine, asked, WARM) == expected
    assert engine._batch_size == 2  # what did not fit once is not tried again


def test_without_a_batch_size_as_many_rows_are_decoded_as_memory_holds(
    endings: Endings, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EngineConfig(threads=1)
    engine = TransformersEngine("M_0", endings.model, config, tokenizer=endings.tokenizer)
    by_key(engine, requests(3), GREEDY)
    assert engine._batch_size == memory.MOST_ELSEWHERE
    per_row = memory._bytes_per_row(endings.model, GREEDY.max_new_tokens)
    # 2 layers, keys and values, 2 heads of 16, 256 columns (the context), 4 bytes; and logits
    assert per_row == 2 * 2 * 2 * 16 * 256 * 4 + 4 * 8 * len(endings.tokenizer)
    monkeypatch.setattr(memory, "_free", lambda device: 9 * per_row / memory.SHARE)
    engine = TransformersEngine("M_0", endings.model, config, tokenizer=endings.tokenizer)
    assert by_key(engine, requests(30), WARM) == by_key(endings(7), requests(30), WARM)
    assert engine._batch_size == 8


def adapted_folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    base = save_tiny(tmp_path / "base")
    return base, save_adapter(base, tmp_path / "one", seed=1), save_adapter(base, tmp_path / "two", seed=2)


def merged(folder: Path) -> TransformersEngine:
    """The adapter merged into its base: the same function, other arithmetic."""
    model = load_model(folder, device="cpu")
    config = EngineConfig(threads=1)
    return TransformersEngine("M", model, config, tokenizer=load_tokenizer(adapter_of(folder).base))  # type: ignore[union-attr]


def test_adapters_share_one_loaded_base_and_compute_what_merging_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, one, two = adapted_folders(tmp_path)
    loads: list[str] = []
    plain = transformers_engine.load_model
    monkeypatch.setattr(
        transformers_engine, "load_model", lambda path, **how: loads.append(str(path)) or plain(path, **how)
    )
    config = EngineConfig(device="cpu", threads=1)
    m0 = TransformersEngine("M_0", base, config)
    m1, m2 = m0.beside("M_1", one), m0.beside("M_2", two)
    assert m1 is not None
    assert m2 is not None
    asked = requests(20)
    texts = [by_key(engine, asked, GREEDY) for engine in (m0, m1, m2)]
    assert texts[0] == by_key(
        TransformersEngine("M_0", plain(base, device="cpu"), config, tokenizer=m0._tokenizer), asked, GREEDY
    )
    assert texts[1] == by_key(merged(one), asked, GREEDY)
    assert texts[2] == by_key(merged(two), asked, GREEDY)
    assert len({str(sorted(t.items())) for t in texts}) == 3
    assert by_key(m0, asked, GREEDY) == texts[0]
    rows = [(request.prompt, "w1 w2") for request in asked]
    assert list(m1.mean_logps(rows)) == pytest.approx(list(merged(one).mean_logps(rows)), abs=1e-5)
    assert len(loads) == 1
    assert (m1.name, m2.name) == ("M_1", "M_2")


def test_two_adapters_may_generate_at_the_same_time(tmp_path: Path) -> None:
    _, one, two = adapted_folders(tmp_path)
    m1 = TransformersEngine("M_1", one, EngineConfig(device="cpu", threads=1, batch_size=3))
    m2 = m1.beside("M_2", two)
    assert m2 is not None
    alone = by_key(m1, requests(20), WARM), by_key(m2, requests(20), WARM)
    streams = [engine.generate(requests(20), WARM, seed=1) for engine in (m1, m2)]
    together = [{made.key: made for made in stream} for stream in zip(*zip(*streams, strict=True), strict=True)]
    assert tuple(together) == alone


def test_other_weights_are_not_beside(tmp_path: Path) -> None:
    base, *_ = adapted_folders(tmp_path)
    engine = TransformersEngine("M_0", base, EngineConfig(device="cpu", threads=1))
    assert engine.beside("M_1", save_tiny(tmp_path / "other", seed=4)) is None
    odd = save_adapter(base, tmp_path / "odd", use_dora=True)
    assert engine.beside("M_1", odd) is None
    dora = TransformersEngine("M_1", odd, EngineConfig(device="cpu", threads=1))  # merged into a base of its own
    assert by_key(dora, requests(5), GREEDY) == by_key(merged(odd), requests(5), GREEDY)


def test_an_adapter_of_another_model_says_so(tmp_path: Path) -> None:
    _, one, _ = adapted_folders(tmp_path)
    wide = save_tiny(tmp_path / "wide", hidden=64)
    told = json.loads((one / "adapter_config.json").read_text())
    (one / "adapter_config.json").write_text(json.dumps(told | {"base_model_name_or_path": str(wide)}))
    with pytest.raises(ModelError, match="does not fit its base") as caught:
        TransformersEngine("M_1", one, EngineConfig(device="cpu", threads=1))
    assert "train it again" in caught.value.hint
