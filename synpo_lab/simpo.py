"""SimPO: the loss, and the mean log-probs it is made of, without ever holding the logits of a whole batch.

SimPO, arXiv 2405.14734; SynPO, arXiv 2410.06961, trains with it. Pure: tensors in, tensors out.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Head = Tensor | Callable[[Tensor], Tensor]  # [V, D], or a module [N, D] -> [N, V]

CHUNK_LOGITS = 1 << 26  # logits held at a time by default: 256 MB in float32


def simpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    *,
    beta: float,
    gamma: float,
    label_smoothing: float = 0.0,
    kind: Literal["sigmoid", "hinge"] = "sigmoid",
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses [B] and the rewards [B], [B] of `chosen` and `rejected`: mean log-probs per token [B], [B].

    `gamma` is the target margin in reward units (SimPO's code calls gamma / beta the gamma_beta_ratio). The rewards
    carry no gradient.
    """
    z = chosen - rejected - gamma / beta
    if kind == "hinge":
        losses = F.relu(1 - beta * z)
    elif kind == "sigmoid":  # SimPO eq. 6 and SynPO eq. 1, with smoothed labels
        losses = -(1 - label_smoothing) * F.logsigmoid(beta * z) - label_smoothing * F.logsigmoid(-beta * z)
    else:
        raise ValueError(f"kind is 'sigmoid' or 'hinge', not {kind!r}")
    return losses, beta * chosen.detach(), beta * rejected.detach()  # SimPO eq. 4


def mean_logps(hidden: Tensor, head: Head, labels: Tensor, *, chunk_size: int | None = None) -> Tensor:
    """Mean log-prob per labelled token [B], of `hidden` [B, T, D], `head` [V, D] or a module, `labels` [B, T].

    Labels of -100 are skipped; hidden t scores label t+1, as in transformers. A row without labelled tokens gets 0.
    Logits are made for `chunk_size` labelled tokens at a time, in the forward pass and again in the backward pass.
    """
    where = labels[:, 1:] != -100
    logps = token_logps(hidden[:, :-1][where], head, labels[:, 1:][where], chunk_size=chunk_size)
    return owner_means(logps, where.nonzero()[:, 0], len(labels))


def token_logps(states: Tensor, head: Head, targets: Tensor, *, chunk_size: int | None = None) -> Tensor:
    """Log-prob [N] of each token of `targets` [N] under `states` [N, D], `chunk_size` tokens at a time."""
    size = chunk_size or max(1, CHUNK_LOGITS // _vocabulary(head, states))
    if len(targets) <= size:
        return _logps(states, head, targets)
    parts = zip(torch.split(states, size), torch.split(targets, size), strict=True)
    return torch.cat([_recomputed(part, head, target) for part, target in parts])


def _recomputed(states: Tensor, head: Head, targets: Tensor) -> Tensor:
    """As _logps, with the logits made anew in the backward pass."""
    logps: Tensor = checkpoint(_logps, states, head, targets, use_reentrant=False, preserve_rng_state=False)
    return logps


def owner_means(values: Tensor, owners: Tensor, count: int) -> Tensor:
    """Means [count] of `values` [N] by owner [N] in 0..count-1; 0 for an owner of nothing."""
    sums = values.new_zeros(count).index_add(0, owners, values)
    return sums / torch.bincount(owners, minlength=count).clamp(min=1)


def _logps(states: Tensor, head: Head, targets: Tensor) -> Tensor:
    logits = states @ head.T if isinstance(head, Tensor) else head(states)
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    return -F.cross_entropy(logits, targets, reduction="none")


def _vocabulary(head: Head, states: Tensor) -> int:
    weight = head if isinstance(head, Tensor) else getattr(head, "weight", None)
    return int(weight.shape[0] if weight is not None else states.shape[-1])
