"""Preference losses beside SimPO's: DPO, IPO and ORPO. Pure: log-probs in, losses out.

All take [B] log-probs of the chosen and of the rejected answers and return losses [B] and the rewards [B], [B], which
carry no gradient. Whether a log-prob is summed over an answer's tokens or their mean is part of each method and said there.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

Losses = tuple[Tensor, Tensor, Tensor]


def dpo_loss(
    chosen: Tensor,
    rejected: Tensor,
    chosen_reference: Tensor,
    rejected_reference: Tensor,
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> Losses:
    """DPO (arXiv 2305.18290) on *summed* log-probs, the reference model's beside the policy's.

    With `label_smoothing`, the conservative DPO of Mitchell's note (2023), as in the authors' code.
    """
    better, worse = beta * (chosen - chosen_reference), beta * (rejected - rejected_reference)  # eq. 5, up to Z(x)
    margin = better - worse
    losses = -(1 - label_smoothing) * F.logsigmoid(margin) - label_smoothing * F.logsigmoid(-margin)  # eq. 7
    return losses, better.detach(), worse.detach()


def ipo_loss(
    chosen: Tensor, rejected: Tensor, chosen_reference: Tensor, rejected_reference: Tensor, *, beta: float
) -> Losses:
    """IPO (arXiv 2310.12036, eq. 17; its tau is `beta`) on *mean* log-probs per token.

    The paper writes whole-answer log-probs; its results used means, as its authors told the TRL developers, and TRL takes
    means too. Rewards are beta times the log-ratios.
    """
    better, worse = chosen - chosen_reference, rejected - rejected_reference
    return (better - worse - 1 / (2 * beta)).square(), beta * better.detach(), beta * worse.detach()


def orpo_loss(chosen: Tensor, rejected: Tensor, *, beta: float) -> Losses:
    """ORPO's odds-ratio term (arXiv 2403.07691, lambda x eq. 7; lambda is `beta`) on *mean* log-probs per token.

    To it ORPO adds the cross-entropy of the chosen answer (eq. 6), which is not in here. No reference model.
    """
    odds = _log_odds(chosen) - _log_odds(rejected)  # eq. 5
    return -beta * F.logsigmoid(odds), beta * chosen.detach(), beta * rejected.detach()


def _log_odds(logp: Tensor) -> Tensor:
    """log(p / (1 - p)), eq. 4, of a log-prob; a certain token counts as one step of the number format below certain."""
    logp = logp.clamp(max=-torch.finfo(logp.dtype).eps)
    near, far = logp.clamp(min=-math.log(2)), logp.clamp(max=-math.log(2))
    return logp - torch.where(logp > -math.log(2), torch.log(-torch.expm1(near)), torch.log1p(-torch.exp(far)))
