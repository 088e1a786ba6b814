import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from synpo_lab.simpo import mean_logps, simpo_loss

logp = st.floats(-8, 0)


def test_the_loss_of_a_pair_worked_by_hand() -> None:
    """beta 2, gamma 1.6: z = -0.5 + 1.5 - 1.6 / 2 = 0.2; beta z = 0.4; -log sigmoid(0.4) = ln(1 + e^-0.4) = 0.5130."""
    losses, better, worse = simpo_loss(torch.tensor([-0.5]), torch.tensor([-1.5]), beta=2, gamma=1.6)
    assert losses.item() == pytest.approx(0.5130, abs=1e-4)
    assert (better.item(), worse.item()) == (-1.0, -3.0)


def test_smoothed_and_hinge_losses_worked_by_hand() -> None:
    """beta z = 0.4 as above. Smoothed by 0.1: 0.9 x 0.5130 + 0.1 x 0.9130 = 0.5530. Hinge: max(0, 1 - 0.4) = 0.6."""
    chosen, rejected = torch.tensor([-0.5]), torch.tensor([-1.5])
    smoothed, _, _ = simpo_loss(chosen, rejected, beta=2, gamma=1.6, label_smoothing=0.1)
    hinge, _, _ = simpo_loss(chosen, rejected, beta=2, gamma=1.6, kind="hinge")
    assert smoothed.item() == pytest.approx(0.5530, abs=1e-4)
    assert hinge.item() == pytest.approx(0.6)


@given(logp, st.floats(1, 12), st.floats(0, 3))
def test_the_loss_is_ln_2_where_the_gap_is_the_target_margin(rejected: float, beta: float, gamma: float) -> None:
    chosen = torch.tensor([rejected + gamma / beta], dtype=torch.float64)
    losses, _, _ = simpo_loss(chosen, torch.tensor([rejected], dtype=torch.float64), beta=beta, gamma=gamma)
    assert losses.item() == pytest.approx(math.log(2))


@given(logp, logp, logp, st.floats(0.1, 12), st.floats(0, 3), st.sampled_from(["sigmoid", "hinge"]))
def test_a_likelier_chosen_answer_never_raises_the_loss(
    low: float, high: float, rejected: float, beta: float, gamma: float, kind: str
) -> None:
    low, high = sorted((low, high))
    chosen = torch.tensor([low, high], dtype=torch.float64)
    losses, _, _ = simpo_loss(
        chosen, torch.full((2,), rejected, dtype=torch.float64), beta=beta, gamma=gamma, kind=kind
    )
    assert losses[1] <= losses[0]


@given(logp, logp, st.floats(0.1, 12), st.floats(0.01, 0.49))
def test_smoothing_mixes_the_loss_with_that_of_the_flipped_pair_without_margin(
    a: float, b: float, beta: float, share: float
) -> None:
    one, other = torch.tensor([a], dtype=torch.float64), torch.tensor([b], dtype=torch.float64)
    smoothed, _, _ = simpo_loss(one, other, beta=beta, gamma=0, label_smoothing=share)
    straight, flipped = (simpo_loss(x, y, beta=beta, gamma=0)[0] for x, y in ((one, other), (other, one)))
    assert smoothed.item() == pytest.approx(((1 - share) * straight + share * flipped).item())


def test_rewards_carry_no_gradient_and_losses_do() -> None:
    chosen = torch.tensor([-1.0], requires_grad=True)
    losses, better, worse = simpo_loss(chosen, torch.tensor([-2.0]), beta=2, gamma=1)
    assert losses.requires_grad
    assert not better.requires_grad
    assert not worse.requires_grad


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'ipo'"):
        simpo_loss(torch.zeros(1), torch.zeros(1), beta=1, gamma=0, kind="ipo")  # type: ignore[arg-type]


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


def test_a_module_with_bias_can_be_the_head() -> None:
    hidden, weight, labels = batch(2)
    head = nn.Linear(5, 11, dtype=torch.float64)
    head.weight.data = weight
    biased = torch.cat([hidden, torch.ones(3, 7, 1, dtype=torch.float64)], dim=-1)
    expected = full_logits(biased, torch.cat([weight, head.bias.unsqueeze(1)], dim=1), labels)
    torch.testing.assert_close(mean_logps(hidden, head, labels, chunk_size=3), expected)


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
    assert largest == 8 * words
    assert largest < rows * width * words


def test_half_precision_is_widened_before_the_softmax() -> None:
    hidden, head, labels = batch(4)
    values = mean_logps(hidden.bfloat16(), head.bfloat16(), labels)
    assert values.dtype == torch.float32
    torch.testing.assert_close(values.double(), full_logits(hidden, head, labels), rtol=0.03, atol=0.03)
