import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.config import SamplingConfig
from synpo_lab.engines.sampling import choose, uniforms
from synpo_lab.engines.seeding import stream
from synpo_lab.errors import EngineError


def draws(n: int, seed: int = 0) -> np.ndarray:
    return uniforms([stream(seed, str(i)) for i in range(n)], [0] * n)


def test_uniforms_are_uniform_over_keys_and_over_steps() -> None:
    over_steps = uniforms([stream(0, "k")] * 20_000, list(range(20_000)))
    for sample in (draws(20_000), over_steps):
        counts = np.histogram(sample, bins=20, range=(0, 1))[0]
        chi_square = ((counts - 1000) ** 2 / 1000).sum()
        assert chi_square < 43.8  # 19 degrees of freedom, p = 0.001
        assert sample.min() >= 0
        assert sample.max() < 1


def test_successive_steps_are_uncorrelated() -> None:
    u = uniforms([stream(0, "k")] * 20_000, list(range(20_000)))
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.03


def test_a_draw_depends_on_seed_key_and_step_alone() -> None:
    assert stream(1, "a") == stream(1, "a") != stream(2, "a") != stream(1, "b")
    s = stream(1, "a")
    assert uniforms([s, stream(9, "z"), s], [3, 0, 4])[0] == uniforms([s], [3])[0] != uniforms([s], [4])[0]


def exact(logits: torch.Tensor, sampling: SamplingConfig) -> torch.Tensor:
    """Probabilities by definition: temperature, then the smallest head of mass >= top_p, renormalised."""
    p = (logits.double() / sampling.temperature).softmax(-1)
    order = sorted(range(len(p)), key=lambda i: -p[i].item())
    kept: list[int] = []
    for i in order:
        kept.append(i)
        if p[kept].sum() >= sampling.top_p:
            break
    out = torch.zeros_like(p)
    out[kept] = p[kept]
    return out / out.sum()


@pytest.mark.parametrize(("temperature", "top_p"), [(0.7, 1.0), (1.0, 0.8), (2.0, 0.5)])
def test_frequencies_are_the_exact_probabilities(temperature: float, top_p: float) -> None:
    sampling = SamplingConfig(temperature=temperature, top_p=top_p)
    logits = torch.randn(12, generator=torch.Generator().manual_seed(0)) * 2
    n = 40_000
    tokens = choose(logits.expand(n, -1), sampling, draws(n))
    expected = exact(logits, sampling) * n
    counts = torch.bincount(tokens, minlength=12)
    assert counts[expected == 0].sum() == 0
    likely = expected > 5
    chi_square = ((counts - expected)[likely] ** 2 / expected[likely]).sum().item()
    assert chi_square < 31.3  # at most 11 degrees of freedom, p = 0.001


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=8), st.floats(0, 1, exclude_max=True), st.floats(0.01, 1))
def test_a_token_without_probability_is_never_chosen(values: list[float], u: float, top_p: float) -> None:
    logits = torch.tensor([[*values, float("-inf")]])
    sampling = SamplingConfig(temperature=0.5, top_p=top_p)
    [token] = choose(logits, sampling, np.array([u])).tolist()
    assert exact(logits[0], sampling)[token] > 0 or logits[0, token] == logits.max()


@pytest.mark.parametrize("u", [0.0, 1 - 2.0**-53])
def test_the_ends_of_the_unit_interval_choose_real_tokens(u: float) -> None:
    logits = torch.tensor([[float("-inf"), 0.1, 0.2, float("-inf")]])
    [token] = choose(logits, SamplingConfig(temperature=1), np.array([u])).tolist()
    assert token == (1 if u == 0 else 2)


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 1.0, 0.0]])
    assert choose(logits, SamplingConfig(temperature=0), np.array([0.99, 0.99])).tolist() == [1, 0]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
@pytest.mark.parametrize(("temperature", "top_p"), [(0, 1), (0.7, 1), (0.7, 0.9)])
def test_logits_that_are_no_numbers_end_the_generation_with_a_hint(
    number: float, temperature: float, top_p: float
) -> None:
    logits = torch.zeros(3, 7)
    logits[1, 2] = number
    with pytest.raises(EngineError, match="not finite") as caught:
        choose(logits, SamplingConfig(temperature=temperature, top_p=top_p), draws(3))
    assert "engine.dtype" in caught.value.hint


def test_a_token_that_is_ruled_out_is_no_fault() -> None:
    logits = torch.full((1, 4), float("-inf"))
    logits[0, 2] = 1.0
    assert [int(choose(logits, SamplingConfig(temperature=t), draws(1))) for t in (0, 0.7)] == [2, 2]
