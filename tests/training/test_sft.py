import math
from pathlib import Path
from typing import Any

import pytest
import torch

from synpo_lab.chat import Example
from synpo_lab.config import SamplingConfig, SFTConfig
from synpo_lab.engines.base import Request
from synpo_lab.engines.transformers_engine import TransformersEngine
from synpo_lab.errors import TrainingError
from synpo_lab.models import load_model
from synpo_lab.training.batches import collate
from synpo_lab.training.sft import SFT, train_sft

Rows = list[tuple[str, str]]

FAST = SFTConfig(learning_rate=3e-3, batch_size=8, epochs=1, max_length=64)


def test_exactly_the_answer_and_its_end_token_are_scored() -> None:
    """Prompt 1 2 3 and answer 7 8 2: 3 scores 7, 7 scores 8, 8 scores the end token 2. Second row: 5 scores 2."""
    batch = collate([Example([1, 2, 3], [7, 8, 2]), Example([1, 5], [2])], pad=0)
    assert batch["input_ids"].tolist() == [[1, 2, 3, 7, 8, 2], [1, 5, 2, 0, 0, 0]]
    assert batch["source"].tolist() == [2, 3, 4, 6 + 1]
    assert batch["target"].tolist() == [7, 8, 2, 2]
    assert batch["owner"].tolist() == [0, 0, 0, 1]
    assert batch["tokens"].tolist() == [6, 3]


def test_the_loss_is_transformers_own_with_the_prompt_masked(loaded: tuple[Any, Any], rows: Rows) -> None:
    model, tokenizer = loaded
    task = SFT(model, tokenizer, rows, 64)
    batch = task.collate(task.rows)
    total, _ = task.loss(batch)
    labels = torch.full_like(batch["input_ids"], -100)
    for i, row in enumerate(task.rows):
        labels[i, : len(row.prompt) + len(row.answer)] = torch.tensor(row.labels())
    expected = model(input_ids=batch["input_ids"], labels=labels).loss
    torch.testing.assert_close(total / task.count(batch), expected)


def test_the_model_learns_what_it_is_shown(base: Path, tmp_path: Path, rows: Rows) -> None:
    steps: list[dict[str, Any]] = []
    config = FAST.model_copy(update={"epochs": 40.0, "learning_rate": 1e-2})
    out = train_sft(base, rows, config, tmp_path / "R_1", seed=0, log=steps.append, device="cpu")
    assert steps[-1]["loss"] < 0.2 < 1 < steps[0]["loss"]
    engine = TransformersEngine("R_1", out)
    greedy = SamplingConfig(temperature=0, max_new_tokens=8)
    made = engine.generate([Request(answer, prompt) for prompt, answer in rows], greedy, seed=0)
    assert sum(completion.text == completion.key for completion in made) > 30


def test_three_steps_move_every_parameter(base: Path, tmp_path: Path, rows: Rows) -> None:
    config = FAST.model_copy(update={"schedule": "constant", "warmup_ratio": 0.0})
    out = train_sft(base, rows[:24], config, tmp_path / "R_1", seed=0, device="cpu")
    old, new = (load_model(folder, device="cpu").state_dict() for folder in (base, out))
    assert all(not torch.equal(old[name], new[name]) for name in old)


def test_a_loaded_model_can_be_trained_and_is_not_changed(loaded: tuple[Any, Any], tmp_path: Path, rows: Rows) -> None:
    before = {name: tensor.clone() for name, tensor in loaded[0].state_dict().items()}
    train_sft(loaded, rows, FAST, tmp_path / "R_1", seed=0, device="cpu")
    assert all(torch.equal(before[name], tensor) for name, tensor in loaded[0].state_dict().items())


@pytest.mark.parametrize("batch_size", [40, 16])
def test_micro_batches_give_the_same_curve_token_for_token(
    base: Path, tmp_path: Path, rows: Rows, batch_size: int
) -> None:
    """40 rows of several lengths: the same rows make each step, and a mean of the micro batches' means would differ."""
    uneven = [(prompt, f"{answer} {'w3 ' * (i % 7)}") for i, (prompt, answer) in enumerate(rows)]
    curves = []
    for micro in (None, 8):
        steps: list[dict[str, Any]] = []
        config = SFTConfig(learning_rate=1e-3, batch_size=batch_size, micro_batch_size=micro, epochs=3, max_length=64)
        train_sft(base, uneven, config, tmp_path / f"{micro}", seed=0, log=steps.append, device="cpu")
        curves.append([step["loss"] for step in steps])
    assert len(curves[0]) == 3 * math.ceil(40 / batch_size)
    assert curves[1] == pytest.approx(curves[0], rel=1e-5)


def test_no_rows_is_an_error_with_a_hint(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no rows") as caught:
        train_sft(base, [], FAST, tmp_path / "R_1", seed=0)
    assert "min_gap" in caught.value.hint


def test_half_precision_weights_are_trained_in_float32_and_stored_as_they_came(
    loaded: tuple[Any, Any], tmp_path: Path, rows: Rows
) -> None:
    from synpo_lab.models import save_model

    model, tokenizer = loaded
    base = save_model(model.bfloat16(), tokenizer, tmp_path / "half")
    out = train_sft(base, rows, FAST, tmp_path / "R_1", seed=0, device="cpu")
    stored = load_model(out, device="cpu", dtype="float32").state_dict()
    assert all(torch.equal(tensor, tensor.bfloat16().float()) for tensor in stored.values())
