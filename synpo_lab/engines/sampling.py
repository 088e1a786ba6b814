"""Which token comes next: counter-based randomness and the inverse of the cumulative distribution.

Step n of a request draws u = hash(seed, key, n), uniform in [0, 1), and takes the token at which the cumulative
probability passes u. Nothing else enters, so a completion does not depend on its neighbours in the batch.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from synpo_lab.config import SamplingConfig
from synpo_lab.errors import EngineError

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def uniforms(streams: list[int], steps: list[int]) -> NDArray[np.float64]:
    """[B] numbers in [0, 1): step n of each stream (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = np.array(streams, np.uint64) + (np.array(steps, np.uint64) + np.uint64(1)) * _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    u: NDArray[np.float64] = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return u


def choose(logits: torch.Tensor, sampling: SamplingConfig, u: NDArray[np.float64]) -> torch.Tensor:
    """One token id per row: [B] from `logits` [B, V] and `u` [B] in [0, 1). Temperature 0 takes the likeliest.

    Raises EngineError where a row's logits are no numbers.
    """
    if sampling.temperature == 0:
        likeliest = logits.argmax(dim=-1)  # that of a NaN if there is one
        _check_numbers(logits.gather(1, likeliest.unsqueeze(1)))
        return likeliest
    wide = torch.float32 if logits.device.type == "mps" else torch.float64
    scaled = logits.to(wide) / sampling.temperature
    weights = (scaled - scaled.amax(dim=-1, keepdim=True)).exp()
    point = torch.from_numpy(u).to(logits.device, wide).unsqueeze(1)
    if sampling.top_p == 1:
        return _invert(weights, point).squeeze(1)
    weights, order = weights.sort(dim=-1, descending=True, stable=True)
    return order.gather(1, _invert(_nucleus(weights, sampling.top_p), point)).squeeze(1)


def _nucleus(weights: torch.Tensor, top_p: float) -> torch.Tensor:
    """`weights` [B, V], falling, with all but the smallest head of mass >= top_p set to zero."""
    total = weights.cumsum(dim=-1)
    return weights.masked_fill(total - weights >= top_p * total[:, -1:], 0.0)


def _invert(weights: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """[B, 1]: the first index at which the cumulative weight exceeds point x total; never one of weight zero."""
    total = weights.cumsum(dim=-1)
    top = total[:, -1:]
    _check_numbers(top)
    below_top = torch.nextafter(top, torch.zeros_like(top))
    return torch.searchsorted(total, torch.minimum(point * top, below_top), right=True)


def _check_numbers(values: torch.Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise EngineError(
            "the model computed logits that are not finite numbers (NaN or infinity)",
            hint="set engine.dtype to bfloat16 or float32: float16 overflows in many models; if that is so already, the "
            "weights are damaged, by a training that diverged or a broken download",
        )
