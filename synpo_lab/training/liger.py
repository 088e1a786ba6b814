"""SimPO's loss by Liger kernel's fused linear preference loss, an optional package, in the place of our own.

It makes the logits of one pair at a time and all gradients on the way forward: three products of states and head where
ours needs four, but a copy of the head's gradient per pair, and padding to the longest answer of the batch.
"""

import time
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor

from synpo_lab.errors import MissingExtra, TrainingError
from synpo_lab.logps import Head

ROUNDS = 3


def check() -> None:
    """Raises MissingExtra where Liger kernel is not installed."""
    if find_spec("liger_kernel") is None:
        raise MissingExtra(
            "simpo.kernel = liger needs the package liger-kernel, which is not installed",
            hint="pip install liger-kernel, or set simpo.kernel: lab",
        )


def simpo_sum(
    states: Tensor, head: object, targets: Tensor, owners: Tensor, *, beta: float, gamma: float, label_smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Summed SimPO loss of B pairs, and the mean log-probs [B], [B] of their chosen and rejected answers.

    Of the answers' N tokens: the `states` [N, D] that score them, the tokens `targets` [N], and `owners` [N], 0..B-1 for
    the chosen answers and B..2B-1 for the rejected. The tokens of an answer follow one another.
    """
    if not isinstance(head, Head) or head.cap is not None or head.scale != 1.0:
        raise TrainingError(
            "Liger kernel computes no logits with a scale, a soft cap or an adapter on the head",
            hint="simpo.kernel: lab",
        )
    from liger_kernel.chunked_loss.simpo_loss import LigerFusedLinearSimPOFunction

    answers = int(owners.max()) + 1
    padded, labels = _padded(states, targets, owners, answers)
    on_gpu = states.device.type == "cuda"
    mean, (chosen, rejected, *_) = LigerFusedLinearSimPOFunction.apply(
        padded, head.weight, labels, head.bias, -100, beta, 0.0, label_smoothing, False, on_gpu, gamma, 1
    )
    return mean * (answers // 2), chosen, rejected


def _padded(states: Tensor, targets: Tensor, owners: Tensor, answers: int) -> tuple[Tensor, Tensor]:
    """States [answers, longest, D] and labels [answers, longest], -100 where there is none."""
    place = torch.arange(len(owners), device=owners.device)
    first = torch.full((answers,), len(owners), device=owners.device).scatter_reduce(0, owners, place, "amin")
    place = place - first[owners]
    longest = int(place.max()) + 1
    padded = states.new_zeros(answers, longest, states.shape[1]).index_put((owners, place), states)
    labels = torch.full((answers, longest), -100, device=targets.device).index_put((owners, place), targets)
    return padded, labels


def faster(ways: dict[str, Callable[[], Tensor]], device: torch.device) -> str:
    """The name of the way whose forward and backward pass takes least time: best of three each, after one to warm up."""
    return min(ways, key=lambda name: _seconds(ways[name], device))


def _seconds(way: Callable[[], Tensor], device: torch.device) -> float:
    best = float("inf")
    for round in range(ROUNDS + 1):
        began = _now(device)
        way().backward()  # type: ignore[no-untyped-call]
        best = min(best, _now(device) - began) if round else best
    return best


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
