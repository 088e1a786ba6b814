"""Liger kernel in the place of our loss. What needs the package is skipped without it."""

from typing import Any

import pytest
import torch
from torch import nn

from synpo_lab.config import SimPOConfig
from synpo_lab.errors import MissingExtra, TrainingError
from synpo_lab.logps import Head
from synpo_lab.training import liger, preference
from synpo_lab.training.preference import Preference

Pairs = list[tuple[str, str, str]]

CONFIG = SimPOConfig(max_length=64, kernel="liger", label_smoothing=0.1)


def loss_and_gradients(task: Preference, model: Any) -> tuple[torch.Tensor, dict[str, Any], dict[str, torch.Tensor]]:
    model.zero_grad()
    total, sums = task.loss(task.collate(task.rows))
    total.backward()
    return total.detach(), sums, {name: p.grad.clone() for name, p in model.named_parameters()}


@pytest.mark.filterwarnings("ignore")  # the package's own
@pytest.mark.parametrize("shares", [True, False])
def test_liger_gives_our_loss_and_gradients(loaded: tuple[Any, Any], pairs: Pairs, shares: bool) -> None:
    pytest.importorskip("liger_kernel", reason="needs the package liger-kernel")
    model, tokenizer = loaded
    made = []
    for kernel in ("lab", "liger"):
        task = Preference(model, tokenizer, pairs, CONFIG.model_copy(update={"kernel": kernel}), beta=2)
        task._shares = shares
        made.append(loss_and_gradients(task, model))
    (ours, sums, gradients), (theirs, their_sums, their_gradients) = made
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=1e-6)
    for name, value in sums.items():
        torch.testing.assert_close(their_sums[name], value, rtol=1e-4, atol=1e-4)
    for name, gradient in gradients.items():
        assert (their_gradients[name] - gradient).norm() <= 1e-5 * gradient.norm(), name


@pytest.mark.filterwarnings("ignore")
def test_the_faster_of_the_two_is_chosen_on_the_first_batch_and_leaves_no_trace(
    loaded: tuple[Any, Any], pairs: Pairs
) -> None:
    pytest.importorskip("liger_kernel", reason="needs the package liger-kernel")
    model, tokenizer = loaded
    task = Preference(model, tokenizer, pairs, CONFIG.model_copy(update={"kernel": "fastest"}), beta=2)
    total, _, gradients = loss_and_gradients(task, model)
    assert task._kernel in {"lab", "liger"}
    chosen = Preference(model, tokenizer, pairs, CONFIG.model_copy(update={"kernel": task._kernel}), beta=2)
    expected, _, expected_gradients = loss_and_gradients(chosen, model)
    assert torch.equal(total, expected)
    assert all(torch.equal(gradients[name], expected_gradients[name]) for name in gradients)


def test_without_the_package_liger_is_a_missing_extra_and_the_fastest_is_ours(
    loaded: tuple[Any, Any], pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(liger, "find_spec", lambda name: None)
    monkeypatch.setattr(preference, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="liger-kernel") as caught:
        Preference(*loaded, pairs, CONFIG, beta=2)
    assert "pip install liger-kernel" in caught.value.hint
    task = Preference(*loaded, pairs, CONFIG.model_copy(update={"kernel": "fastest"}), beta=2)
    assert torch.isfinite(task.loss(task.collate(task.rows))[0])


@pytest.mark.parametrize(
    "head", [Head(torch.zeros(3, 2), cap=30.0), Head(torch.zeros(3, 2), scale=0.5), nn.Linear(2, 3)]
)
def test_heads_that_liger_does_not_know_are_refused(head: Any) -> None:
    with pytest.raises(TrainingError, match="soft cap") as caught:
        liger.simpo_sum(
            torch.zeros(2, 2), head, torch.zeros(2, dtype=torch.long), torch.tensor([0, 1]), beta=1, gamma=0,
            label_smoothing=0,
        )  # fmt: skip
    assert "kernel: lab" in caught.value.hint


def test_answers_are_laid_out_in_rows_worked_by_hand() -> None:
    """Owners 0 0 1 with states 1 2 3: rows (1, 2) and (3, padding)."""
    states, labels = liger._padded(
        torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([7, 8, 9]), torch.tensor([0, 0, 1]), 2
    )
    assert states.squeeze(-1).tolist() == [[1, 2], [3, 0]]
    assert labels.tolist() == [[7, 8], [9, -100]]


def test_the_faster_way_is_the_one_that_takes_less_time() -> None:
    weight = torch.zeros(400, 400, requires_grad=True)

    def work(rounds: int) -> torch.Tensor:
        made = weight
        for _ in range(rounds):
            made = made @ weight
        return made.sum()

    assert liger.faster({"slow": lambda: work(30), "fast": lambda: work(1)}, torch.device("cpu")) == "fast"
