"""Supervised fine-tuning on answers: token cross-entropy, the prompt masked."""

from collections.abc import Sequence
from operator import ne
from pathlib import Path
from typing import Any, Unpack

from torch import Tensor

from synpo_lab.chat import Example, cut, encode_examples
from synpo_lab.config import SFTConfig
from synpo_lab.errors import TrainingError
from synpo_lab.training.batches import Tensors, collate
from synpo_lab.training.launch import alone, in_processes
from synpo_lab.training.logps import AnswerLogps
from synpo_lab.training.trainer import Execution, How, train
from synpo_lab.training.weights import Base


def train_sft(base: Base, rows: Sequence[tuple[str, str]], config: SFTConfig, out: Path, **how: Unpack[How]) -> Path:
    """Fine-tune a copy of `base` on (prompt, answer) `rows` and save it in the folder `out`, which is returned.

    `base` is a model or adapter folder, 'hub:OWNER/NAME' or a loaded (model, tokenizer); it is never changed. Raises
    TrainingStopped when told to stop, TrainingError when there are no rows, the loss is not finite, memory or the disk
    is full.
    """
    if not rows:
        raise TrainingError("no rows to train on", hint="loosen the filter that selects them (improver.min_gap, seeds)")
    if not alone(how):
        return in_processes("sft", base, rows, config, out, how)
    return train(
        base,
        lambda model, tokenizer: SFT(model, tokenizer, rows, config.max_length),
        config,
        out,
        len(rows),
        Execution(**how),
    )


class SFT:
    """Mean cross-entropy over the answer tokens of a step."""

    logged = ("loss",)

    def __init__(self, model: Any, tokenizer: Any, rows: Sequence[tuple[str, str]], max_length: int) -> None:
        whole = encode_examples(tokenizer, rows)
        self.rows = [row for example in whole for row in cut([example], max_length, tokenizer.bos_token_id)]
        self.shortened = sum(map(ne, self.rows, whole))
        self._pad, self._logps = tokenizer.pad_token_id, AnswerLogps(model)

    @property
    def notes(self) -> list[str]:
        return self._logps.notes

    def lengths(self) -> list[int]:
        return [len(row.prompt) + len(row.answer) for row in self.rows]

    def longest(self) -> int:
        return max(self.lengths())

    def collate(self, rows: Sequence[Example]) -> Tensors:
        return collate(rows, self._pad)

    def count(self, batch: Tensors) -> int:
        return len(batch["target"])

    def tokens(self, batch: Tensors) -> int:
        return len(batch["target"])

    def loss(self, batch: Tensors) -> tuple[Tensor, Tensors]:
        return -self._logps.tokens(batch).sum(), {}
