import json
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from transformers import Gemma3ForCausalLM, Gemma3TextConfig

from synpo_lab.chat import Example, encode_examples
from synpo_lab.config import SimPOConfig
from synpo_lab.errors import TrainingError
from synpo_lab.models import load_model
from synpo_lab.training.batches import collate_pairs, pair_mask
from synpo_lab.training.preference import Preference, train_preference
from tests.tiny_model import tiny_llama, tiny_tokenizer

Pairs = list[tuple[str, str, str]]

FAST = SimPOConfig(learning_rate=3e-3, batch_size=8, epochs=1, max_length=64)


@pytest.fixture
def reference(tmp_path: Path, loaded: tuple[Any, Any], pairs: Pairs) -> Iterator[Any]:
    """TRL's own trainer over the same model in float64 and the same pairs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL warns that the module is experimental
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        model, tokenizer = loaded
        chats = [
            {
                "prompt": [{"role": "user", "content": prompt}],
                "chosen": [{"role": "assistant", "content": better}],
                "rejected": [{"role": "assistant", "content": worse}],
            }
            for prompt, better, worse in pairs
        ]
        arguments = CPOConfig(
            str(tmp_path / "cpo"), loss_type="simpo", cpo_alpha=0.0, beta=10.0, simpo_gamma=1.6, max_length=64,
            per_device_train_batch_size=len(pairs), use_cpu=True, bf16=False, fp16=False, gradient_checkpointing=False,
            report_to="none", save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
        )  # fmt: skip
        yield CPOTrainer(model.double(), arguments, train_dataset=Dataset.from_list(chats), processing_class=tokenizer)


def loss_and_gradients(model: Any, loss: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_loss_and_every_gradient_are_those_of_trl(
    reference: Any, loaded: tuple[Any, Any], pairs: Pairs, shares: bool, weight: float
) -> None:
    model, tokenizer = loaded
    reference.cpo_alpha = weight
    batch = reference.data_collator([reference.train_dataset[i] for i in range(len(pairs))])
    expected, metrics = reference.get_batch_loss_metrics(model, batch)
    expected_loss, expected_gradients = loss_and_gradients(model, expected)

    task = Preference(model, tokenizer, pairs, FAST.model_copy(update={"sft_weight": weight}), beta=10)
    assert task._shares
    task._shares = shares
    total, sums = task.loss(task.collate(task.rows))
    loss, gradients = loss_and_gradients(model, total / len(pairs))

    torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-7)  # the norms compute in float32 all the same
    for name, gradient in gradients.items():
        assert (gradient - expected_gradients[name]).abs().max() < 1e-6, name
    assert sums["reward_margin"].item() / len(pairs) == pytest.approx(float(metrics["rewards/margins"]))
    assert sums["reward_accuracy"].item() / len(pairs) == pytest.approx(float(metrics["rewards/accuracies"]))


def test_tokens_are_those_of_trl(reference: Any, loaded: tuple[Any, Any], pairs: Pairs) -> None:
    task = Preference(*loaded, pairs, FAST, beta=10)
    for row, (chosen, rejected) in zip(reference.train_dataset, task.rows, strict=True):
        assert row["chosen_input_ids"] == chosen.prompt + chosen.answer
        assert row["rejected_input_ids"] == rejected.prompt + rejected.answer


def test_a_pair_in_one_row_worked_by_hand() -> None:
    """Prompt p q, chosen a b, rejected c: q scores a, a scores b, q scores c; c looks at p, q and itself."""
    batch = collate_pairs([(Example([1, 2], [3, 4]), Example([1, 2], [5]))], pad=0)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 4, 5]]
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 2]]
    assert batch["source"].tolist() == [1, 2, 1]
    assert batch["target"].tolist() == [3, 4, 5]
    assert batch["owner"].tolist() == [0, 0, 1]
    assert pair_mask(batch["borders"], 5)[0, 0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


def test_a_model_with_a_sliding_window_reads_the_answers_apart(pairs: Pairs) -> None:
    tokenizer = tiny_tokenizer(26)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, sliding_window=5, layer_types=["sliding_attention", "full_attention"],
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    task = Preference(Gemma3ForCausalLM(config).eval(), tokenizer, pairs, FAST, beta=10)
    assert not task._shares
    assert len(task.collate(task.rows)["input_ids"]) == 2 * len(pairs)


def test_training_raises_margin_and_accuracy(base: Path, tmp_path: Path, pairs: Pairs) -> None:
    steps: list[dict[str, Any]] = []
    config = FAST.model_copy(update={"epochs": 6.0})
    train_preference(base, pairs, config, tmp_path / "M_1", beta=2, seed=0, log=steps.append, device="cpu")
    assert [step["step"] for step in steps] == list(range(1, 31))
    assert steps[-1]["reward_accuracy"] > 0.9 > 0.75 > steps[0]["reward_accuracy"]
    assert steps[-1]["reward_margin"] > steps[0]["reward_margin"] + 1
    assert steps[-1]["loss"] < steps[0]["loss"]
    assert set(steps[0]) == {
        "step", "loss", "lr", "grad_norm", "tokens_per_s",
        "reward_margin", "reward_accuracy", "logp_chosen", "logp_rejected",
    }  # fmt: skip


def test_three_steps_move_every_parameter_and_leave_the_base_alone(base: Path, tmp_path: Path, pairs: Pairs) -> None:
    before = {file.name: file.read_bytes() for file in base.iterdir()}
    config = FAST.model_copy(update={"schedule": "constant", "warmup_ratio": 0.0})
    out = train_preference(base, pairs[:24], config, tmp_path / "M_1", beta=2, seed=0, device="cpu")
    old, new = (load_model(folder, device="cpu").state_dict() for folder in (base, out))
    assert old.keys() == new.keys()
    for name in old:
        assert not torch.equal(old[name], new[name]), name
    assert {file.name: file.read_bytes() for file in base.iterdir()} == before


def curve(base: Any, rows: Pairs, config: SimPOConfig, out: Path, seed: int = 0) -> list[float]:
    steps: list[dict[str, Any]] = []
    train_preference(base, rows, config, out, beta=2, seed=seed, log=steps.append, device="cpu")
    return [step["loss"] for step in steps]


def test_the_same_seed_gives_the_same_curve_and_another_another(base: Path, tmp_path: Path, pairs: Pairs) -> None:
    first = curve(base, pairs, FAST, tmp_path / "a")
    assert first == curve(base, pairs, FAST, tmp_path / "b")
    assert first != curve(base, pairs, FAST, tmp_path / "c", seed=1)
    assert (tmp_path / "a" / "model.safetensors").read_bytes() == (tmp_path / "b" / "model.safetensors").read_bytes()


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_micro_batches_leave_the_first_step_as_it_is(base: Path, tmp_path: Path, pairs: Pairs, weight: float) -> None:
    whole = SimPOConfig(learning_rate=1e-3, batch_size=40, epochs=2, max_length=64, sft_weight=weight)
    parts = whole.model_copy(update={"micro_batch_size": 10})
    together, apart = curve(base, pairs, whole, tmp_path / "a"), curve(base, pairs, parts, tmp_path / "b")
    assert len(together) == len(apart) == 2
    assert apart == pytest.approx(together, rel=1e-5 if weight == 0 else 0.02)


def test_prompts_lose_their_start_when_a_pair_is_too_long(loaded: tuple[Any, Any]) -> None:
    rng = random.Random(0)
    prompt = " ".join(f"w{rng.randrange(26)}" for _ in range(30))
    [(chosen, rejected)] = Preference(
        *loaded, [(prompt, "w1 w2 w3", "w4")], FAST.model_copy(update={"max_length": 16}), 2
    ).rows
    [whole] = encode_examples(loaded[1], [(prompt, "w1 w2 w3")])
    assert chosen.prompt == rejected.prompt == whole.prompt[-12:]
    assert len(chosen.prompt + chosen.answer) == 16
    assert chosen.answer == whole.answer


def test_no_pairs_is_an_error_with_a_hint(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no pairs") as caught:
        train_preference(base, [], FAST, tmp_path / "M_1", beta=2, seed=0)
    assert "min_gap" in caught.value.hint


def test_a_hinge_loss_can_be_chosen(base: Path, tmp_path: Path, pairs: Pairs) -> None:
    losses = curve(base, pairs, FAST.model_copy(update={"loss": "hinge", "epochs": 4.0}), tmp_path / "M_1")
    assert losses[-1] < losses[0]


def test_the_saved_model_says_what_it_is(base: Path, tmp_path: Path, pairs: Pairs) -> None:
    out = train_preference(base, pairs, FAST, tmp_path / "M_1", beta=2, seed=0, device="cpu")
    assert json.loads((out / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {file.name for file in out.iterdir()}
    assert tiny_llama(32).config.vocab_size == load_model(out, device="cpu").config.vocab_size
