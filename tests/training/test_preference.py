import contextlib
import copy
import json
import random
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors import SafetensorError
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GraniteConfig, GraniteForCausalLM

from synpo_lab.chat import Example, encode_examples
from synpo_lab.config import SimPOConfig
from synpo_lab.errors import TrainingError
from synpo_lab.models import load_model
from synpo_lab.training import reference
from synpo_lab.training.batches import collate_pairs, pair_mask
from synpo_lab.training.logps import AnswerLogps
from synpo_lab.training.preference import Preference, train_preference
from synpo_lab.training.trainer import TrainingStopped
from tests.tiny_model import tiny_llama, tiny_tokenizer

Pairs = list[tuple[str, str, str]]

FAST = SimPOConfig(learning_rate=3e-3, batch_size=8, epochs=1, max_length=64)


def chats(pairs: Pairs) -> list[dict[str, Any]]:
    return [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": better}],
            "rejected": [{"role": "assistant", "content": worse}],
        }
        for prompt, better, worse in pairs
    ]


@pytest.fixture
def trl(tmp_path: Path, loaded: tuple[Any, Any], pairs: Pairs) -> Iterator[Any]:
    """TRL's own trainer over the same model in float64 and the same pairs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL warns that the module is experimental
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        model, tokenizer = loaded
        arguments = CPOConfig(
            str(tmp_path / "cpo"), loss_type="simpo", cpo_alpha=0.0, beta=10.0, simpo_gamma=1.6, max_length=64,
            per_device_train_batch_size=len(pairs), use_cpu=True, bf16=False, fp16=False, gradient_checkpointing=False,
            report_to="none", save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
        )  # fmt: skip
        yield CPOTrainer(
            model.double(), arguments, train_dataset=Dataset.from_list(chats(pairs)), processing_class=tokenizer
        )


def loss_and_gradients(model: Any, loss: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_loss_and_every_gradient_are_those_of_trl(
    trl: Any, loaded: tuple[Any, Any], pairs: Pairs, shares: bool, weight: float
) -> None:
    model, tokenizer = loaded
    trl.cpo_alpha = weight
    batch = trl.data_collator([trl.train_dataset[i] for i in range(len(pairs))])
    expected, metrics = trl.get_batch_loss_metrics(model, batch)
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


def moved(model: Any) -> Any:
    """A copy a small step away."""
    other = copy.deepcopy(model)
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
    return other


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize(("kind", "theirs", "beta"), [("dpo", "sigmoid", 0.1), ("ipo", "ipo", 0.5)])
def test_dpo_and_ipo_losses_are_those_of_trl(
    loaded: tuple[Any, Any], pairs: Pairs, tmp_path: Path, kind: Any, theirs: str, beta: float, shares: bool
) -> None:
    from trl import DPOConfig, DPOTrainer

    model, tokenizer = loaded[0].double(), loaded[1]
    policy = moved(model)
    arguments = DPOConfig(
        str(tmp_path / "dpo"), loss_type=[theirs], beta=beta, max_length=64, per_device_train_batch_size=len(pairs),
        use_cpu=True, bf16=False, gradient_checkpointing=False, report_to="none", save_strategy="no", disable_tqdm=True,
        dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = DPOTrainer(
        copy.deepcopy(policy), copy.deepcopy(model), arguments, train_dataset=Dataset.from_list(chats(pairs)),
        processing_class=tokenizer,
    )  # fmt: skip
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(pairs))])
    expected = trainer._compute_loss(trainer.model, batch, return_outputs=False)

    task = Preference(model, tokenizer, pairs, FAST.model_copy(update={"kind": kind}), beta=beta)
    model.load_state_dict(policy.state_dict())
    task._shares = shares
    total, sums = task.loss(task.collate(task.rows))
    torch.testing.assert_close(total / len(pairs), expected, rtol=0, atol=1e-6, check_dtype=False)
    assert abs(sums["reward_margin"]) > 1e-3


def test_orpo_is_trls_odds_ratio_and_the_cross_entropy_of_the_answer(
    loaded: tuple[Any, Any], pairs: Pairs, tmp_path: Path
) -> None:
    """TRL's own cross-entropy counts the prompt's tokens too; eq. 6 of the paper does not, and so do we not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TRL warns that the module is experimental
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        model, tokenizer = loaded[0].double(), loaded[1]
        arguments = ORPOConfig(
            str(tmp_path / "orpo"), beta=0.5, max_length=64, per_device_train_batch_size=len(pairs), use_cpu=True,
            bf16=False, fp16=False, gradient_checkpointing=False, report_to="none", save_strategy="no",
            disable_tqdm=True, dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = ORPOTrainer(
            model, arguments, train_dataset=Dataset.from_list(chats(pairs)), processing_class=tokenizer
        )
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(pairs))])
    chosen, rejected, logits, _, _ = trainer.concatenated_forward(model, batch)
    odds = trainer.odds_ratio_loss(chosen, rejected)[0].mean()
    labels = batch["chosen_labels"][:, 1:]
    nll = torch.nn.functional.cross_entropy(logits[:, : labels.shape[1]].flatten(0, 1), labels.flatten())

    task = Preference(model, tokenizer, pairs, FAST.model_copy(update={"kind": "orpo"}), beta=0.5)
    total, _ = task.loss(task.collate(task.rows))
    torch.testing.assert_close(total / len(pairs), nll - odds, rtol=0, atol=1e-6, check_dtype=False)


def test_the_reference_is_asked_once_and_kept_for_the_same_pairs_and_weights(
    loaded: tuple[Any, Any], pairs: Pairs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    real = reference._ask
    monkeypatch.setattr(reference, "_ask", lambda *given: asked.append(1) or real(*given))
    config, file = FAST.model_copy(update={"kind": "dpo"}), tmp_path / "models" / "reference.safetensors"

    def rows(model: Any, some: Pairs) -> list[Any]:
        return Preference(model, loaded[1], some, config, 0.1, file).rows

    first = rows(loaded[0], pairs)
    assert rows(loaded[0], pairs) == first
    assert len(asked) == 1
    rows(loaded[0], pairs[1:])
    rows(moved(loaded[0]), pairs[1:])
    assert len(asked) == 3
    file.write_bytes(file.read_bytes()[:40])  # torn
    rows(loaded[0], pairs)
    assert len(asked) == 4


class AsOnAnAppleGpu(TorchDispatchMode):
    """Makes no tensor in float64."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype as the MPS framework doesn't support float64")
        return made


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_references_key_needs_no_float64_and_tells_weights_apart(
    loaded: tuple[Any, Any], dtype: torch.dtype
) -> None:
    model = loaded[0].to(dtype)
    pair = (Example([1, 2], [3]), Example([1, 2], [4]))
    with AsOnAnAppleGpu():
        before = reference._key(model, [pair])
        assert reference._key(model, [pair]) == before
        with torch.no_grad():
            model.model.layers[1].mlp.up_proj.weight[3, 5] += 0.25
        assert reference._key(model, [pair]) != before


def test_the_reference_does_not_depend_on_what_is_read_together(
    loaded: tuple[Any, Any], pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FAST.model_copy(update={"kind": "dpo"})
    together = [row[2] for row in Preference(*loaded, pairs, config, 0.1).rows]
    monkeypatch.setattr(reference, "BATCH_TOKENS", 40)
    apart = [row[2] for row in Preference(*loaded, pairs, config, 0.1).rows]
    torch.testing.assert_close(torch.tensor(apart), torch.tensor(together))


@pytest.mark.parametrize(("kind", "beta"), [("dpo", 0.1), ("ipo", 0.5), ("orpo", 0.5)])
def test_every_kind_learns_what_is_preferred(base: Path, tmp_path: Path, pairs: Pairs, kind: Any, beta: float) -> None:
    steps: list[dict[str, Any]] = []
    config = FAST.model_copy(update={"kind": kind, "epochs": 6.0})
    train_preference(base, pairs, config, tmp_path / "M_1", beta=beta, seed=0, log=steps.append, device="cpu")
    assert steps[-1]["reward_accuracy"] > 0.9
    assert steps[-1]["loss"] < steps[0]["loss"]


def test_a_stopped_dpo_training_keeps_its_reference_and_its_curve(base: Path, tmp_path: Path, pairs: Pairs) -> None:
    config = FAST.model_copy(update={"kind": "dpo", "epochs": 3.0})

    def curve_of(out: str, stop: int, **more: Any) -> list[float]:
        steps: list[dict[str, Any]] = []
        asked = iter(range(1, 100))
        with contextlib.suppress(TrainingStopped):
            train_preference(
                base, pairs, config, tmp_path / out, beta=0.1, seed=0, log=steps.append, device="cpu",
                should_stop=lambda: next(asked) >= stop, **more,
            )  # fmt: skip
        return [step["loss"] for step in steps]

    whole = curve_of("whole", 99)
    first = curve_of("part", 7, checkpoints=tmp_path / "checkpoints")
    rest = curve_of("part", 99, checkpoints=tmp_path / "checkpoints")
    assert first + rest == whole


def test_paused_trainings_go_on_to_the_same_end(base: Path, tmp_path: Path, pairs: Pairs) -> None:
    """And a pause that is asked for again, after a crash, gives the same model again."""
    config, checkpoints = FAST.model_copy(update={"epochs": 2.0}), tmp_path / "checkpoints"

    def train(out: str, **more: Any) -> bytes:
        folder = train_preference(base, pairs, config, tmp_path / out, beta=2, seed=0, device="cpu", **more)
        return (folder / "model.safetensors").read_bytes()

    paused = train("paused", pause_at=4, checkpoints=checkpoints)
    assert train("again", pause_at=4, checkpoints=checkpoints) == paused
    assert train("gone on", checkpoints=checkpoints) == train("whole") != paused


def test_a_reference_is_asked_in_smaller_batches_when_memory_runs_out(
    loaded: tuple[Any, Any], pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, real, sizes = SimPOConfig(kind="ipo", max_length=64), AnswerLogps.means, []

    def small(self: Any, batch: Any) -> Any:
        sizes.append(len(batch["input_ids"]))
        if sizes[-1] > 12:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, batch)

    whole = [means for *_, means in Preference(*loaded, pairs, config, 0.1).rows]
    monkeypatch.setattr(AnswerLogps, "means", small)
    parts = [means for *_, means in Preference(*loaded, pairs, config, 0.1).rows]
    assert max(sizes) == 40
    torch.testing.assert_close(torch.tensor(parts), torch.tensor(whole))


def test_a_full_disk_is_told_when_the_reference_cannot_be_kept(
    base: Path, tmp_path: Path, pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(reference, "save_file", full)
    config = SimPOConfig(kind="dpo", max_length=64)
    with pytest.raises(TrainingError, match="is full"):
        train_preference(
            base, pairs, config, tmp_path / "M_1", beta=0.1, seed=0, device="cpu", reference=tmp_path / "kept"
        )


def test_tokens_are_those_of_trl(trl: Any, loaded: tuple[Any, Any], pairs: Pairs) -> None:
    task = Preference(*loaded, pairs, FAST, beta=10)
    for row, (chosen, rejected) in zip(trl.train_dataset, task.rows, strict=True):
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


def as_another_kernel_rounds(model: Any) -> Any:
    """In bfloat16, and where attention gets a mask its output is a rounding or two away: what a GPU's kernels differ by."""

    def rounded(module: Any, args: Any, how: dict[str, Any], output: Any) -> Any:
        if how["attention_mask"] is None:
            return output
        signs = torch.where(torch.arange(output[0].shape[-1]) % 2 == 0, 1, -1)
        return ((output[0].float() * (1 + signs * torch.finfo(torch.bfloat16).eps)).bfloat16(), *output[1:])

    for layer in model.bfloat16().model.layers:
        layer.self_attn.register_forward_hook(rounded, with_kwargs=True)
    return model


def deaf_to_masks(model: Any) -> Any:
    """In bfloat16; its attention is causal, and that is all."""

    def bare(module: Any, args: Any, how: dict[str, Any]) -> Any:
        return args, how | {"attention_mask": None}

    for layer in model.bfloat16().model.layers:
        layer.self_attn.register_forward_pre_hook(bare, with_kwargs=True)
    return model


def test_in_bfloat16_a_pair_is_read_as_one_row_whatever_the_kernels_round(pairs: Pairs) -> None:
    tokenizer = tiny_tokenizer(26)
    task = Preference(as_another_kernel_rounds(tiny_llama(len(tokenizer))), tokenizer, pairs, FAST, beta=10)
    assert task._shares
    assert task.notes == []


def test_in_bfloat16_a_model_that_knows_no_mask_is_told_apart_all_the_same(pairs: Pairs) -> None:
    tokenizer = tiny_tokenizer(26)
    task = Preference(deaf_to_masks(tiny_llama(len(tokenizer))), tokenizer, pairs, FAST, beta=10)
    assert not task._shares


def test_in_bfloat16_a_head_that_rounds_in_another_order_needs_no_full_logits(pairs: Pairs) -> None:
    """Granite divides by its scale, the lab multiplies with the inverse: a rounding apart."""
    tokenizer = tiny_tokenizer(26)
    torch.manual_seed(0)
    config = GraniteConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, logits_scaling=0.13, initializer_range=0.4, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    task = Preference(GraniteForCausalLM(config).eval().bfloat16(), tokenizer, pairs, FAST, beta=10)
    assert task._logps._has_states
    assert task.notes == []


def test_what_makes_a_training_dearer_is_noted(tmp_path: Path, pairs: Pairs) -> None:
    class Odd(torch.nn.Module):
        """A head that makes other logits than the matrix it holds."""

        def __init__(self, head: Any) -> None:
            super().__init__()
            self.weight = head.weight

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = states @ self.weight.T + torch.rand(len(self.weight))
            return logits

    tokenizer = tiny_tokenizer(26)
    model = tiny_llama(len(tokenizer), attn_implementation="eager")
    model.lm_head = Odd(model.lm_head)
    said: list[str] = []
    train_preference(
        (model, tokenizer), pairs[:8], FAST, tmp_path / "M_1", beta=2, seed=0, note=said.append, device="cpu"
    )
    assert said == [
        "M_1: all logits are held at once: what its head does is not known here",
        "M_1: each prompt is read twice: the model cannot read a pair as one row",
    ]


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


@pytest.mark.parametrize("loss", [{}, {"sft_weight": 0.5}, {"kind": "orpo"}], ids=str)
def test_micro_batches_leave_the_steps_as_they_are(
    base: Path, tmp_path: Path, pairs: Pairs, loss: dict[str, Any]
) -> None:
    whole = SimPOConfig(learning_rate=1e-3, batch_size=40, epochs=2, max_length=64, warmup_ratio=0, **loss)
    parts = whole.model_copy(update={"micro_batch_size": 10})
    together, apart = curve(base, pairs, whole, tmp_path / "a"), curve(base, pairs, parts, tmp_path / "b")
    assert len(together) == len(apart) == 2
    assert apart == pytest.approx(together, rel=1e-5)


def test_prompts_lose_their_start_when_a_pair_is_too_long(loaded: tuple[Any, Any]) -> None:
    rng = random.Random(0)
    prompt = " ".join(f"w{rng.randrange(26)}" for _ in range(30))
    [(chosen, rejected)] = Preference(
        *loaded, [(prompt, "w1 w2 w3", "w4")], FAST.model_copy(update={"max_length": 32}), 2
    ).rows
    [whole] = encode_examples(loaded[1], [(prompt, "w1 w2 w3")])
    assert chosen.prompt == rejected.prompt == [1, *whole.prompt[-27:]]  # and keep their BOS
    assert len(chosen.prompt + chosen.answer) == 32
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
