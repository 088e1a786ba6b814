"""What must hold on a GPU. Each test also runs on the CPU, where every machine can see that the test itself is right.

Where CUDA computes in bfloat16 or in another order, the test says by how much the results may differ.
"""

import json
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from synpo_lab.chat import encode_prompts
from synpo_lab.cli import main
from synpo_lab.config import EngineConfig, SamplingConfig, ScorerConfig, SFTConfig, SimPOConfig
from synpo_lab.engines.base import Request
from synpo_lab.engines.transformers_engine import TransformersEngine
from synpo_lab.models import load_model, load_tokenizer, pick_device
from synpo_lab.scorers import open_scorer
from synpo_lab.training.preference import Preference, train_preference
from synpo_lab.training.sft import train_sft
from synpo_lab.training.trainer import TrainingStopped
from tests.scorers.tiny_scorers import classifier, rows_of_many_lengths, save
from tests.tiny_model import save_tiny, tiny_llama, tiny_tokenizer

pytestmark = pytest.mark.slow
ON_A_GPU = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU, and there is none here"),
    pytest.mark.filterwarnings("default"),  # CUDA and its packages warn of things that are not ours
]
GREEDY = SamplingConfig(temperature=0, max_new_tokens=24)
SFT = {"learning_rate": 3e-3, "batch_size": 8, "epochs": 3, "max_length": 64}
LORA = {"lora": {"r": 8}, "learning_rate": 3e-2}
WAYS: dict[str, dict[str, Any]] = {
    "all weights": {},
    "checkpointed": {"gradient_checkpointing": True, "micro_batch_size": 2},
    "bfloat16": {"dtype": "bfloat16", "learning_rate": 1e-2},
    "adapter": LORA,
    "adapter over 4 bits": LORA | {"lora": {"r": 8, "quantize": "4bit"}},
}


@pytest.fixture(params=["cpu", pytest.param("auto", id="cuda", marks=ON_A_GPU)])
def device(request: pytest.FixtureRequest) -> str:
    """What a config says. On a machine with a GPU `auto` must find it."""
    name: str = request.param
    assert pick_device(name).type == ("cpu" if name == "cpu" else "cuda")
    return name


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Layers of 64 columns: what 4 bits are counted in."""
    return save_tiny(tmp_path / "M_0", hidden=64, initializer_range=0.1)


def words(rng: random.Random, low: int, high: int) -> str:
    return " ".join(f"w{rng.randrange(26)}" for _ in range(rng.randint(low, high)))


def taught() -> list[tuple[str, str]]:
    """The answer is the first word of the prompt, then w0."""
    rng = random.Random(0)
    return [(prompt, f"{prompt.split()[0]} w0") for prompt in (words(rng, 1, 9) for _ in range(40))]


def preferred() -> list[tuple[str, str, str]]:
    """Chosen answers say w1, rejected ones w2, among other words."""
    rng = random.Random(1)
    return [(words(rng, 1, 9), f"w1 {words(rng, 0, 4)}", f"{words(rng, 0, 5)} w2") for _ in range(40)]


@pytest.mark.parametrize("way", WAYS)
def test_supervised_fine_tuning_learns_and_leaves_a_model_that_loads_anywhere(
    base: Path, tmp_path: Path, device: str, way: str
) -> None:
    if "4 bits" in way:
        pytest.importorskip("bitsandbytes", reason="needs the package bitsandbytes")
    steps: list[dict[str, Any]] = []
    config = SFTConfig.model_validate(SFT | WAYS[way])
    out = train_sft(base, taught(), config, tmp_path / "G", seed=0, log=steps.append, device=device)
    assert len(steps) == 15
    assert steps[-1]["loss"] < 0.7 * steps[0]["loss"]
    assert (out / "adapter_config.json").is_file() is ("adapter" in way)
    before, after = (load_model(folder, device="cpu").state_dict() for folder in (base, out))
    assert any(not torch.equal(before[name], after[name]) for name in before)
    assert all(weight.isfinite().all() for weight in after.values())


@pytest.mark.parametrize("kind", ["simpo", "dpo", "ipo", "orpo"])
@pytest.mark.parametrize("way", ["all weights", "adapter"])
def test_preference_optimisation_tells_chosen_from_rejected(
    base: Path, tmp_path: Path, device: str, kind: str, way: str
) -> None:
    steps: list[dict[str, Any]] = []
    config = SimPOConfig.model_validate(SFT | WAYS[way] | {"kind": kind})
    how = {"seed": 0, "log": steps.append, "device": device}
    train_preference(base, preferred(), config, tmp_path / "M_1", beta=config.betas[0], **how)  # type: ignore[arg-type]
    assert steps[-1]["reward_accuracy"] > 0.9
    assert steps[-1]["reward_margin"] > steps[0]["reward_margin"]
    assert steps[-1]["loss"] < steps[0]["loss"]


def test_a_training_that_was_stopped_goes_on_from_its_checkpoint(base: Path, tmp_path: Path, device: str) -> None:
    """On a CPU with the same losses to the last bit (training/test_trainer.py); on CUDA sums come in any order."""
    config = SFTConfig.model_validate(SFT)

    def losses(out: str, **more: Any) -> list[float]:
        steps: list[dict[str, Any]] = []
        try:
            train_sft(base, taught(), config, tmp_path / out, seed=0, log=steps.append, device=device, **more)
        except TrainingStopped:
            assert len(steps) == 4
        return [step["loss"] for step in steps]

    asked = iter(range(100))
    whole, kept = losses("whole"), {"checkpoints": tmp_path / "checkpoints"}
    first, rest = losses("part", should_stop=lambda: next(asked) == 3, **kept), losses("part", **kept)
    assert first + rest == pytest.approx(whole, rel=1e-6 if device == "cpu" else 2e-2)


@pytest.fixture
def engine(tmp_path: Path, device: str) -> Iterator[TransformersEngine]:
    """In float32, so that the most likely word is the same for whoever computes it."""
    folder = save_tiny(tmp_path / "policy", hidden=64)
    with closing(TransformersEngine("M_0", folder, EngineConfig(device=device, dtype="float32"))) as opened:
        yield opened


def asked(n: int = 40) -> list[Request]:
    rng = random.Random(0)
    return [Request(f"k{i}", words(rng, 1, 30)) for i in range(n)]


def test_greedy_text_is_what_transformers_generate_writes_one_prompt_at_a_time(
    engine: TransformersEngine, tmp_path: Path, device: str
) -> None:
    made = {completion.key: completion for completion in engine.generate(asked(), GREEDY, seed=0)}
    folder, there = tmp_path / "policy", pick_device(device)
    model, tokenizer = load_model(folder, device=device, dtype="float32"), load_tokenizer(folder)
    same = 0
    for request in asked():
        ids = torch.tensor(encode_prompts(tokenizer, [request.prompt]), device=there)
        out = model.generate(  # type: ignore[operator]
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=24, pad_token_id=0
        )
        text = tokenizer.decode(out[0, ids.shape[1] :].tolist(), skip_special_tokens=True)
        same += made[request.key].text == text
    assert same >= (40 if device == "cpu" else 38)  # up to ties in the last bits


def test_a_stop_text_ends_an_answer_and_is_left_out(engine: TransformersEngine) -> None:
    whole = next(made for made in engine.generate(asked(), GREEDY, seed=0) if len(made.text.split()) > 5)
    prompt = next(request.prompt for request in asked() if request.key == whole.key)
    stop = whole.text.split()[4]
    [stopped] = engine.generate([Request(whole.key, prompt, stop=stop)], GREEDY, seed=0)
    assert (stopped.text, stopped.finish_reason) == (whole.text.partition(stop)[0], "stop")


def test_a_check_that_raises_ends_the_generation(engine: TransformersEngine) -> None:
    class Halt(BaseException):
        """As a stop request is: no Exception."""

    looked = iter(range(100))

    def check() -> None:
        if next(looked) == 5:
            raise Halt

    with pytest.raises(Halt):
        list(engine.generate(asked(), SamplingConfig(temperature=1, max_new_tokens=200), seed=0, check=check))
    assert len(list(engine.generate(asked(3), GREEDY, seed=0))) == 3


def test_sampling_is_by_the_seed_and_its_text_changes_with_it(engine: TransformersEngine) -> None:
    def texts(seed: int) -> list[str]:
        warm = SamplingConfig(temperature=1, max_new_tokens=16)
        return [made.text for made in sorted(engine.generate(asked(), warm, seed=seed), key=lambda made: made.key)]

    first, again, other = texts(1), texts(1), texts(2)
    assert first == again
    assert sum(a == b for a, b in zip(first, other, strict=True)) < 20


def test_closing_an_engine_gives_its_memory_back(tmp_path: Path, device: str) -> None:
    folder, there = save_tiny(tmp_path / "policy", hidden=64), pick_device(device)
    held = []
    for _ in range(2):
        with closing(TransformersEngine("M_0", folder, EngineConfig(device=device))) as opened:
            assert len(list(opened.generate(asked(3), GREEDY, seed=0))) == 3
        held.append(torch.cuda.memory_allocated() if there.type == "cuda" else 0)
    assert held[1] - held[0] < 2**16  # what CUDA itself keeps it keeps from the first time on


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_reward_is_the_models_logit(tmp_path: Path, device: str, kind: str) -> None:
    """Read alone, in float32, on the CPU; bfloat16, which CUDA gets by itself, keeps 8 bits of each number."""
    model, rows = classifier(kind), rows_of_many_lengths(12)
    folder, tokenizer = save(model, tmp_path / "reward"), tiny_tokenizer(200)

    def alone(prompt: str, answer: str) -> float:
        chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        text = tokenizer.apply_chat_template(chat, tokenize=False)
        with torch.inference_mode():
            ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
            return float(model(input_ids=ids).logits[0][0])

    expected = [alone(*row) for row in rows]
    for dtype, allowed in (("float32", 1e-4), ("auto", 1e-4 if device == "cpu" else 0.1 * max(map(abs, expected)))):
        asked_for = {"name": "reward-model", "model": str(folder), "device": device, "dtype": dtype}
        scorer: Any = open_scorer(ScorerConfig.model_validate(asked_for))
        assert [aspects["total"] for aspects in scorer.score(rows)] == pytest.approx(expected, abs=allowed)
        scorer.close()


@pytest.mark.parametrize("shares", [True, False])
def test_liger_gives_our_loss_and_gradients(device: str, shares: bool) -> None:
    pytest.importorskip("liger_kernel", reason="needs the package liger-kernel")
    tokenizer, there = tiny_tokenizer(26), pick_device(device)
    model = tiny_llama(len(tokenizer), initializer_range=0.1).to(there)
    made = []
    for kernel in ("lab", "liger"):
        config = SimPOConfig(max_length=64, kernel=kernel, label_smoothing=0.1)
        task = Preference(model, tokenizer, preferred(), config, beta=2)
        task._shares = shares
        model.zero_grad()
        batch = {name: tensor.to(there) for name, tensor in task.collate(task.rows).items()}
        total, _ = task.loss(batch)
        total.backward()  # type: ignore[no-untyped-call]
        made.append((total.detach(), {name: weight.grad.clone() for name, weight in model.named_parameters()}))
    (ours, gradients), (theirs, others) = made
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        assert (others[name] - gradient).norm() <= 1e-4 * gradient.norm(), name


def test_the_doctor_names_the_device(tmp_path: Path, device: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["doctor", "--home", str(tmp_path / "home"), "--json"])
    assert not ended.value.code
    devices = {row["what"]: row["found"] for row in json.loads(capsys.readouterr().out) if row["part"] == "device"}
    assert "threads" in devices["cpu"]
    if device != "cpu":
        assert torch.cuda.get_device_name(0) in devices["cuda:0"]
        assert "GiB free" in devices["cuda:0"]
