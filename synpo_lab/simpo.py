"""SimPO: the loss, over the mean log-probs of `synpo_lab.logps`.

SimPO, arXiv 2405.14734; SynPO, arXiv 2410.06961, trains with it. Pure: tensors in, tensors out.
"""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from synpo_lab.logps import mean_logps

__all__ = ["mean_logps", "simpo_loss"]


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
    carry no gradient. Smoothed labels belong to the sigmoid; with the hinge they are refused (SimPO's code ignores them).
    """
    if kind == "hinge" and label_smoothing:
        raise ValueError(f"label_smoothing = {label_smoothing:g} has no meaning with the hinge loss")
    z = chosen - rejected - gamma / beta
    if kind == "hinge":
        losses = F.relu(1 - beta * z)
    elif kind == "sigmoid":  # SimPO eq. 6 and SynPO eq. 1, with smoothed labels
        losses = -(1 - label_smoothing) * F.logsigmoid(beta * z) - label_smoothing * F.logsigmoid(-beta * z)
    else:
        raise ValueError(f"kind is 'sigmoid' or 'hinge', not {kind!r}")
    return losses, beta * chosen.detach(), beta * rejected.detach()  # SimPO eq. 4
