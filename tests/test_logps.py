import math

import pytest
import torch
from torch import nn

from synpo_lab.logps import Head, mean_logps, token_logps


def batch(seed: int = 0, *, rows: int = 3, width: int = 7, size: int = 5, words: int = 11) -> tuple[torch.Tensor, ...]:
    """Random hidden states, head and labels in float64; row i has its first i + 1 labels masked, and one later hole."""
    made = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, size, generator=made, dtype=torch.float64)
    head = torch.randn(words, size, generator=made, dtype=torch.float64)
    labels = torch.randint(words, (rows, width), generator=made)
    for i in range(rows):
        labels[i, : i + 1] = -100
    labels[0, 4] = -100
    return hidden, head, labels


def full_logits(hidden: torch.Tensor, head: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The same by definition, with all logits at once."""
    logps = (hidden @ head.T).log_softmax(-1)
    return torch.stack(
        [
            torch.stack([logps[b, t - 1, y] for t, y in enumerate(row.tolist()) if t and y != -100]).mean()
            for b, row in enumerate(labels)
        ]
    )


@pytest.mark.parametrize("chunk_size", [None, 1, 2, 5, 100])
def test_chunked_mean_logps_and_gradients_equal_those_of_full_logits(chunk_size: int | None) -> None:
    hidden, head, labels = batch()
    weights = torch.tensor([0.3, -1.1, 2.0], dtype=torch.float64)
    grads = []
    for compute in (
        lambda h, w: mean_logps(h, w, labels, chunk_size=chunk_size),
        lambda h, w: full_logits(h, w, labels),
    ):
        h, w = hidden.clone().requires_grad_(), head.clone().requires_grad_()
        values = compute(h, w)
        (values * weights).sum().backward()
        grads.append((values, h.grad, w.grad))
    for ours, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("chunk_size", [None, 2])
def test_gradients_pass_gradcheck(chunk_size: int | None) -> None:
    hidden, head, labels = batch(1)
    inputs = (hidden.requires_grad_(), head.requires_grad_())
    assert torch.autograd.gradcheck(lambda h, w: mean_logps(h, w, labels, chunk_size=chunk_size), inputs)


def gradients(head: nn.Module, states: torch.Tensor, logps: torch.Tensor) -> list[torch.Tensor]:
    weights = torch.linspace(-1, 2, len(logps), dtype=logps.dtype)
    wanted = [states, *(p for p in head.parameters() if p.requires_grad)]
    return [logps.detach(), *torch.autograd.grad((logps * weights).sum(), wanted)]


def a_linear(bias: bool, seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(5, 11, bias=bias, dtype=torch.float64)


@pytest.mark.parametrize("chunk_size", [1, 3])
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("cap", [None, 0.7])
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("bias", [False, True])
def test_bias_scale_and_soft_cap_give_the_numbers_of_autograd(
    bias: bool, scale: float, cap: float | None, frozen: bool, chunk_size: int
) -> None:
    module = a_linear(bias).requires_grad_(not frozen)
    states = torch.randn(6, 5, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([0, 10, 3, 3, 7, 10])
    head = Head(module.weight, module.bias, scale, cap)
    ours = gradients(module, states, token_logps(states, head, targets, chunk_size=chunk_size))
    logits = module(states) * scale
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    logps = logits.log_softmax(-1).gather(1, targets.unsqueeze(1)).squeeze(1)
    theirs = gradients(module, states, logps)
    assert len(ours) == 2 + (not frozen) * (1 + bias)
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_a_layer_that_is_more_than_linear_is_called_as_it_is() -> None:
    class Adapted(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    head = Adapted(5, 11, dtype=torch.float64)
    states, targets = torch.randn(6, 5, dtype=torch.float64, requires_grad=True), torch.arange(6)
    ours = gradients(head, states, token_logps(states, head, targets, chunk_size=2))
    theirs = gradients(head, states, head(states).log_softmax(-1)[torch.arange(6), targets])
    for found, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found, expected)


def test_a_frozen_head_costs_two_matrix_products_and_a_trained_one_four() -> None:
    """Of N x V x D each. Walking a frozen head again in the backward pass would make it four."""
    from torch.utils.flop_counter import FlopCounterMode

    counts = []
    for frozen in (True, False):
        states, head = torch.randn(6, 5, requires_grad=True), a_linear(False).float().requires_grad_(not frozen)
        with FlopCounterMode(display=False) as counter:
            token_logps(states, head, torch.arange(6), chunk_size=2).sum().backward()
        counts.append(counter.get_total_flops() / (2 * 6 * 11 * 5))
    assert counts == [2, 4]


@pytest.mark.parametrize("frozen", [False, True])
def test_huge_logits_neither_overflow_nor_lose_the_gradient(frozen: bool) -> None:
    states = torch.tensor([[1e4, 0.0], [-1e4, 1.0]], requires_grad=True)
    head = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0, 2.0]], requires_grad=not frozen)
    logps = token_logps(states, head, torch.tensor([0, 1]), chunk_size=1)
    expected = torch.tensor([-math.log(2), 0.0])  # words 0 and 2 tie at 1e4; word 1 is alone at 1e4
    torch.testing.assert_close(logps, expected)
    [grad] = torch.autograd.grad(logps.sum(), states)
    torch.testing.assert_close(grad, torch.tensor([[0.0, -1.0], [0.0, 0.0]]))


def test_under_autocast_it_works_in_bfloat16_as_a_linear_layer_would() -> None:
    module = a_linear(True).float()
    states, targets = torch.randn(6, 5, requires_grad=True), torch.arange(6)
    with torch.autocast("cpu", torch.bfloat16):
        logps = token_logps(states, module, targets, chunk_size=2)
        expected = module(states).float().log_softmax(-1)[torch.arange(6), targets]
    torch.testing.assert_close(logps, expected)
    for found, theirs in zip(gradients(module, states, logps), gradients(module, states, expected), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, theirs, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("labels", [torch.full((2, 4), -100), torch.tensor([[-100] * 4, [-100, 1, 2, 3]])])
def test_rows_without_an_answer_get_zero_and_a_zero_gradient(labels: torch.Tensor) -> None:
    hidden = torch.randn(2, 4, 5, requires_grad=True)
    values = mean_logps(hidden, torch.randn(11, 5), labels)
    values.sum().backward()
    assert values[0] == 0
    assert torch.equal(hidden.grad[0], torch.zeros(4, 5))  # type: ignore[index]
    assert torch.isfinite(hidden.grad).all()  # type: ignore[arg-type]


def test_no_tensor_of_all_logits_is_ever_made() -> None:
    """Counts the elements of every output of a matrix product, forward and backward."""
    from torch.utils._python_dispatch import TorchDispatchMode

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    rows, width, size, words = 4, 32, 4, 500
    hidden, head, labels = batch(3, rows=rows, width=width, size=size, words=words)
    hidden.requires_grad_(), head.requires_grad_()
    with Watch():
        mean_logps(hidden, head, labels, chunk_size=8).sum().backward()
    assert 7 * words < largest <= 8 * words  # the tile is of whole words, so a little less than 8 tokens' worth


def test_half_precision_is_widened_before_the_softmax() -> None:
    hidden, head, labels = batch(4)
    for chunk_size in (None, 2):
        values = mean_logps(hidden.bfloat16(), head.bfloat16(), labels, chunk_size=chunk_size)
        assert values.dtype == torch.float32
        torch.testing.assert_close(values.double(), full_logits(hidden, head, labels), rtol=0.03, atol=0.03)


def test_a_head_with_dropout_drops_the_same_on_the_way_back() -> None:
    """An adapter on the head, say: its logits are made again in the backward pass."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 11, bias=False))
    states, targets = torch.randn(8, 6), torch.randint(11, (8,))
    grads = []
    for chunk_size in (4, None):
        held = states.clone().requires_grad_()
        torch.manual_seed(1)
        if chunk_size:
            logps = token_logps(held, head, targets, chunk_size=chunk_size)
        else:
            logits = torch.cat([head(part) for part in held.split(4)])
            logps = logits.log_softmax(-1).gather(1, targets.unsqueeze(1))[:, 0]
        grads.append(torch.autograd.grad(logps.sum(), held)[0])
    torch.testing.assert_close(*grads)
