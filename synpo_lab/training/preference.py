"""Preference optimisation on pairs: SimPO, DPO, IPO and ORPO over the same log-probs."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from operator import ne
from pathlib import Path
from typing import Any, Unpack

import torch
from torch import Tensor

from synpo_lab.chat import cut, encode_examples
from synpo_lab.config import SimPOConfig
from synpo_lab.errors import TrainingError
from synpo_lab.logps import Head
from synpo_lab.losses import Losses, dpo_loss, ipo_loss, orpo_loss
from synpo_lab.simpo import simpo_loss
from synpo_lab.training import liger
from synpo_lab.training.batches import Tensors, collate, collate_pairs
from synpo_lab.training.launch import alone, in_processes
from synpo_lab.training.logps import AnswerLogps
from synpo_lab.training.reference import reference_means
from synpo_lab.training.trainer import Execution, How, train
from synpo_lab.training.weights import Base

Pairs = Sequence[tuple[str, str, str]]
Row = tuple[Any, ...]  # chosen and rejected Example, then, for DPO and IPO, the reference's mean log-probs of both


def train_preference(
    base: Base,
    rows: Pairs,
    config: SimPOConfig,
    out: Path,
    *,
    beta: float,
    reference: Path | None = None,
    **how: Unpack[How],
) -> Path:
    """Optimise a copy of `base` on (prompt, chosen, rejected) `rows`. Arguments and errors as for train_sft.

    `log` also gets reward_margin, reward_accuracy, logp_chosen and logp_rejected, means over the step's pairs. DPO and
    IPO compare with `base` itself, asked once before the first step; `reference` is a file that keeps what it said, for
    the other betas of a grid and for a resume.
    """
    if not rows:
        raise TrainingError("no pairs to train on", hint="lower filter.min_gap, or make more prompts per iteration")
    if not alone(how):
        return in_processes("preference", base, rows, config, out, how, beta=beta, reference=reference)
    return train(
        base,
        lambda model, tokenizer: Preference(model, tokenizer, rows, config, beta, reference),
        config,
        out,
        len(rows),
        Execution(**how),
    )


class Preference:
    """Mean preference loss over the pairs of a step.

    Chosen and rejected go through the model together, as one row where it allows that: the prompt is read once.
    """

    logged = ("reward_margin", "reward_accuracy", "logp_chosen", "logp_rejected", "loss")

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        rows: Pairs,
        config: SimPOConfig,
        beta: float,
        reference: Path | None = None,
    ) -> None:
        chosen = encode_examples(tokenizer, [(prompt, better) for prompt, better, _ in rows])
        rejected = encode_examples(tokenizer, [(prompt, worse) for prompt, _, worse in rows])
        whole = list(zip(chosen, rejected, strict=True))
        self.rows: list[Row] = [tuple(cut(pair, config.max_length, tokenizer.bos_token_id)) for pair in whole]
        self.shortened = sum(map(ne, self.rows, whole))
        self._pad, self._config, self._beta = tokenizer.pad_token_id, config, beta
        self._logps = AnswerLogps(model)
        self._shares = self._logps.can_share_prompts()
        self._kernel: str = config.kernel
        if self._kernel == "liger":
            liger.check()
        elif self._kernel == "fastest" and find_spec("liger_kernel") is None:
            self._kernel = "lab"
        if config.kind in ("dpo", "ipo"):
            means = reference_means(model, self._logps, self.rows, self.collate, reference).tolist()
            self.rows = [(*pair, tuple(mean)) for pair, mean in zip(self.rows, means, strict=True)]

    @property
    def notes(self) -> list[str]:
        apart = [] if self._shares else ["each prompt is read twice: the model cannot read a pair as one row"]
        return [*self._logps.notes, *apart]

    def lengths(self) -> list[int]:
        return [len(a.prompt) + len(a.answer) + len(b.answer) for a, b, *_ in self.rows]

    def longest(self) -> int:
        return max(len(a.prompt) + max(len(a.answer), len(b.answer)) for a, b, *_ in self.rows)

    def collate(self, rows: Sequence[Row]) -> Tensors:
        pairs = [(chosen, rejected) for chosen, rejected, *_ in rows]
        if self._shares:
            batch = collate_pairs(pairs, self._pad)
        else:
            batch = collate([a for a, _ in pairs] + [b for _, b in pairs], self._pad)
        reference = [means for _, _, *rest in rows for means in rest]
        # as bits: a sharded model's wrapper would round numbers to bfloat16
        return batch | ({"reference": torch.tensor(reference).view(torch.int32)} if reference else {})

    def count(self, batch: Tensors) -> int:
        return len(batch["input_ids"]) // (1 if self._shares else 2)

    def tokens(self, batch: Tensors) -> int:
        return int((batch["owner"] < self.count(batch)).sum())

    def loss(self, batch: Tensors) -> tuple[Tensor, Tensors]:
        if self._kernel == "fastest":
            self._kernel = self._faster(batch)
        return self._by_liger(batch) if self._kernel == "liger" else self._by_ours(batch)

    def _by_ours(self, batch: Tensors) -> tuple[Tensor, Tensors]:
        chosen, rejected = self._logps.means(batch).chunk(2)
        losses, better, worse = self._losses(chosen, rejected, batch)
        weight = 1.0 if self._config.kind == "orpo" else self._config.sft_weight
        return losses.sum() + weight * self._cross_entropy(chosen, batch), _sums(better, worse, chosen, rejected)

    def _by_liger(self, batch: Tensors) -> tuple[Tensor, Tensors]:
        config = self._config
        total, chosen, rejected = liger.simpo_sum(
            *self._logps.states(batch),
            batch["target"],
            batch["owner"],
            beta=self._beta,
            gamma=config.gamma,
            label_smoothing=config.label_smoothing,
        )
        chosen, rejected = chosen.detach(), rejected.detach()
        return total, _sums(self._beta * chosen, self._beta * rejected, chosen, rejected)

    def _faster(self, batch: Tensors) -> str:
        """Forward and backward pass of the loss alone, on hidden states made once and a head that nothing else watches."""
        states, head = self._logps.states(batch)
        held = states.detach().requires_grad_()
        if isinstance(head, Head):
            head = replace(head, weight=head.weight.detach().requires_grad_(head.weight.requires_grad))
        here = copy.copy(self)
        here._logps = copy.copy(self._logps)
        here._logps.states = lambda batch: (held, head)  # type: ignore[method-assign]
        ways = {"lab": lambda: here._by_ours(batch)[0], "liger": lambda: here._by_liger(batch)[0]}
        return liger.faster(ways, held.device)

    def _losses(self, chosen: Tensor, rejected: Tensor, batch: Tensors) -> Losses:
        config, beta = self._config, self._beta
        if config.kind == "orpo":
            return orpo_loss(chosen, rejected, beta=beta)
        if config.kind == "ipo":
            return ipo_loss(chosen, rejected, *_reference(batch), beta=beta)
        if config.kind == "dpo":
            lengths = batch["owner"].bincount().view(2, -1)  # DPO's log-probs are sums over the tokens
            means = torch.stack([chosen, rejected, *_reference(batch)])
            return dpo_loss(*(means * lengths.repeat(2, 1)), beta=beta, label_smoothing=config.label_smoothing)
        return simpo_loss(
            chosen,
            rejected,
            beta=beta,
            gamma=config.gamma,
            label_smoothing=config.label_smoothing,
            kind=config.loss,
        )

    def _cross_entropy(self, chosen: Tensor, batch: Tensors) -> Tensor:
        """Sum over the tokens of the chosen answers [B mean log-probs], such that what the step divides by its pairs
        is the mean over its tokens, whatever the micro batches.
        """
        lengths = batch["owner"].bincount()[: len(chosen)]
        pairs, tokens = batch.get("step", (len(chosen), lengths.sum()))
        return -(chosen * lengths).sum() / tokens * pairs


def _reference(batch: Tensors) -> tuple[Tensor, ...]:
    """The reference's mean log-probs [B], [B] of chosen and rejected."""
    return batch["reference"].view(torch.float32).unbind(1)


def _sums(better: Tensor, worse: Tensor, chosen: Tensor, rejected: Tensor) -> Tensors:
    """What is logged of B pairs: rewards [B], [B] and mean log-probs [B], [B]."""
    return {
        "reward_margin": (better - worse).sum(),
        "reward_accuracy": (better > worse).sum(),
        "logp_chosen": chosen.sum(),
        "logp_rejected": rejected.sum(),
    }
