import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.losses import dpo_loss, ipo_loss, orpo_loss

logp = st.floats(-50, -0.01)


def one(*values: float) -> list[torch.Tensor]:
    return [torch.tensor([value], dtype=torch.float64) for value in values]


def test_dpo_worked_by_hand() -> None:
    """beta 0.1; log-ratios -10 + 12 = 2 and -15 + 13 = -2: rewards 0.2, -0.2; -log sigmoid(0.4) = 0.5130."""
    losses, better, worse = dpo_loss(*one(-10, -15, -12, -13), beta=0.1)
    assert losses.item() == pytest.approx(0.5130, abs=1e-4)
    assert (better.item(), worse.item()) == (pytest.approx(0.2), pytest.approx(-0.2))


def test_conservative_dpo_worked_by_hand() -> None:
    """As above with a tenth of the labels flipped: 0.9 x 0.5130 + 0.1 x 0.9130 = 0.5530."""
    losses, _, _ = dpo_loss(*one(-10, -15, -12, -13), beta=0.1, label_smoothing=0.1)
    assert losses.item() == pytest.approx(0.5530, abs=1e-4)


def test_ipo_worked_by_hand() -> None:
    """beta 0.1: the target is 1 / 0.2 = 5. Log-ratios 0.5 and -1.5, 2 apart: (2 - 5)^2 = 9."""
    losses, better, worse = ipo_loss(*one(-1.0, -3.0, -1.5, -1.5), beta=0.1)
    assert losses.item() == pytest.approx(9)
    assert (better.item(), worse.item()) == (pytest.approx(0.05), pytest.approx(-0.15))


def test_orpo_worked_by_hand() -> None:
    """p = 1/2 and 1/5: odds 1 and 1/4, ratio 4; -0.1 x log(4 / 5) = 0.0223."""
    losses, _, _ = orpo_loss(*one(math.log(1 / 2), math.log(1 / 5)), beta=0.1)
    assert losses.item() == pytest.approx(-0.1 * math.log(0.8))


@given(logp, logp, st.floats(0.01, 10))
def test_dpo_of_the_reference_itself_is_ln_2(a: float, b: float, beta: float) -> None:
    losses, better, worse = dpo_loss(*one(a, b, a, b), beta=beta)
    assert losses.item() == pytest.approx(math.log(2))
    assert better.item() == worse.item() == 0


@given(logp, logp, st.floats(0.01, 1))
def test_ipo_is_zero_where_the_log_ratios_are_the_target_apart(a: float, b: float, beta: float) -> None:
    losses, _, _ = ipo_loss(*one(a + 1 / (2 * beta), b, a, b), beta=beta)
    assert losses.item() == pytest.approx(0, abs=1e-9)


@given(st.floats(-80, -1e-7), st.floats(-80, -1e-7))
def test_orpo_is_the_odds_ratio_by_definition_and_its_gradient_is_finite(a: float, b: float) -> None:
    chosen, rejected = (value.requires_grad_() for value in one(a, b))
    losses, _, _ = orpo_loss(chosen, rejected, beta=1)
    odds = [math.exp(p) / -math.expm1(p) for p in (a, b)]
    assert losses.item() == pytest.approx(math.log1p(odds[1] / odds[0]), rel=1e-6)
    losses.sum().backward()
    assert torch.isfinite(torch.cat([chosen.grad, rejected.grad])).all()  # type: ignore[list-item]


def test_an_answer_of_certain_tokens_has_a_finite_orpo_loss_and_gradient() -> None:
    chosen = torch.zeros(1, requires_grad=True)
    losses, _, _ = orpo_loss(chosen, torch.tensor([-1.0]), beta=1)
    losses.sum().backward()
    assert torch.isfinite(losses).all()
    assert torch.isfinite(chosen.grad).all()  # type: ignore[arg-type]


@given(logp, logp, logp, st.sampled_from(["dpo", "orpo"]))
def test_a_likelier_chosen_answer_never_raises_the_loss(low: float, high: float, other: float, kind: str) -> None:
    def loss(chosen: float) -> float:
        if kind == "dpo":
            return dpo_loss(*one(chosen, other, -1, -1), beta=0.1)[0].item()
        return orpo_loss(*one(chosen, other), beta=0.1)[0].item()

    low, high = sorted((low, high))
    assert loss(high) <= loss(low)
