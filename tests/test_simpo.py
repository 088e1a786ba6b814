import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.simpo import simpo_loss

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
