"""Preference optimisation with SimPO: no reference model, rewards are mean log-probs."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from synpo_lab.chat import Example, encode_examples
from synpo_lab.config import SimPOConfig
from synpo_lab.errors import TrainingError
from synpo_lab.simpo import simpo_loss
from synpo_lab.training.batches import Tensors, collate, collate_pairs
from synpo_lab.training.logps import AnswerLogps
from synpo_lab.training.trainer import Base, Log, train


def train_simpo(
    base: Base,
    rows: Sequence[tuple[str, str, str]],
    config: SimPOConfig,
    out: Path,
    *,
    beta: float,
    seed: int,
    log: Log = lambda step: None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoints: Path | None = None,
    checkpoint_minutes: float = 10,
    device: str = "auto",
    threads: int | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """Optimise a copy of `base` on (prompt, chosen, rejected) `rows`. Arguments and errors as for train_sft.

    `log` also gets reward_margin, reward_accuracy, logp_chosen and logp_rejected, means over the step's pairs.
    """
    if not rows:
        raise TrainingError("no pairs to train on", hint="lower filter.min_gap, or make more prompts per iteration")
    return train(
        base,
        lambda model, tokenizer: SimPO(model, tokenizer, rows, config, beta),
        config,
        out,
        seed=seed,
        log=log,
        should_stop=should_stop,
        checkpoints=checkpoints,
        checkpoint_minutes=checkpoint_minutes,
        device=device,
        threads=threads,
        trust_remote_code=trust_remote_code,
    )


class SimPO:
    """Mean SimPO loss over the pairs of a step.

    Chosen and rejected go through the model together, as one row where it allows that: the prompt is read once.
    """

    def __init__(
        self, model: Any, tokenizer: Any, rows: Sequence[tuple[str, str, str]], config: SimPOConfig, beta: float
    ) -> None:
        chosen = encode_examples(tokenizer, [(prompt, better) for prompt, better, _ in rows])
        rejected = encode_examples(tokenizer, [(prompt, worse) for prompt, _, worse in rows])
        self.rows = [_cut(a, b, config.max_length) for a, b in zip(chosen, rejected, strict=True)]
        self._pad, self._config, self._beta = tokenizer.pad_token_id, config, beta
        self._logps = AnswerLogps(model)
        self._shares = self._logps.can_share_prompts()

    def lengths(self) -> list[int]:
        return [len(a.prompt) + len(a.answer) + len(b.answer) for a, b in self.rows]

    def collate(self, rows: Sequence[tuple[Example, Example]]) -> Tensors:
        if self._shares:
            return collate_pairs(rows, self._pad)
        return collate([a for a, _ in rows] + [b for _, b in rows], self._pad)

    def count(self, batch: Tensors) -> int:
        return len(batch["input_ids"]) // (1 if self._shares else 2)

    def loss(self, batch: Tensors) -> tuple[Tensor, Tensors]:
        chosen, rejected = self._logps.means(batch).chunk(2)
        config = self._config
        losses, better, worse = simpo_loss(
            chosen,
            rejected,
            beta=self._beta,
            gamma=config.gamma,
            label_smoothing=config.label_smoothing,
            kind=config.loss,
        )
        sums = {
            "reward_margin": (better - worse).sum(),
            "reward_accuracy": (better > worse).sum(),
            "logp_chosen": chosen.sum(),
            "logp_rejected": rejected.sum(),
        }
        return losses.sum() + config.sft_weight * self._cross_entropy(chosen, batch), sums

    def _cross_entropy(self, chosen: Tensor, batch: Tensors) -> Tensor:
        """Mean over all tokens of the chosen answers [B mean log-probs], times B: the step divides by its pairs."""
        lengths = batch["owner"].bincount()[: len(chosen)]
        return -(chosen * lengths).sum() / lengths.sum() * len(chosen)


def _cut(chosen: Example, rejected: Example, max_length: int) -> tuple[Example, Example]:
    """Both answers after the same prompt: it is cut for the longer one."""
    a, b = chosen.cut(max_length), rejected.cut(max_length)
    prompt = min(a.prompt, b.prompt, key=len)
    return Example(prompt, a.answer), Example(prompt, b.answer)
