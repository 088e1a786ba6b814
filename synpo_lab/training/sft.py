"""Supervised fine-tuning on answers: token cross-entropy, the prompt masked."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from synpo_lab.chat import Example, encode_examples
from synpo_lab.config import SFTConfig
from synpo_lab.errors import TrainingError
from synpo_lab.training.batches import Tensors, collate
from synpo_lab.training.logps import AnswerLogps
from synpo_lab.training.trainer import Base, Log, train


def train_sft(
    base: Base,
    rows: Sequence[tuple[str, str]],
    config: SFTConfig,
    out: Path,
    *,
    seed: int,
    log: Log = lambda step: None,
    should_stop: Callable[[], bool] = lambda: False,
    checkpoints: Path | None = None,
    checkpoint_minutes: float = 10,
    device: str = "auto",
    threads: int | None = None,
    trust_remote_code: bool = False,
) -> Path:
    """Fine-tune a copy of `base` on (prompt, answer) `rows` and save it in the folder `out`, which is returned.

    `base` is a model folder, 'hub:OWNER/NAME' or a loaded (model, tokenizer); it is never changed. `log` gets a dict
    per optimiser step: step, loss, lr, grad_norm, tokens_per_s. `should_stop` is asked after each step; when true,
    TrainingStopped is raised. With a folder `checkpoints`, state is saved there every `checkpoint_minutes` and when
    stopped; a later call with the same arguments goes on from it. Raises TrainingError when there are no rows, the
    loss is not finite, or memory runs out.
    """
    if not rows:
        raise TrainingError("no rows to train on", hint="loosen the filter that selects them (improver.min_gap, seeds)")
    return train(
        base,
        lambda model, tokenizer: SFT(model, tokenizer, rows, config.max_length),
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


class SFT:
    """Mean cross-entropy over the answer tokens of a step."""

    def __init__(self, model: Any, tokenizer: Any, rows: Sequence[tuple[str, str]], max_length: int) -> None:
        self.rows = [example.cut(max_length) for example in encode_examples(tokenizer, rows)]
        self._pad, self._logps = tokenizer.pad_token_id, AnswerLogps(model)

    def lengths(self) -> list[int]:
        return [len(row.prompt) + len(row.answer) for row in self.rows]

    def collate(self, rows: Sequence[Example]) -> Tensors:
        return collate(rows, self._pad)

    def count(self, batch: Tensors) -> int:
        return len(batch["target"])

    def loss(self, batch: Tensors) -> tuple[Tensor, Tensors]:
        return -self._logps.tokens(batch).sum(), {}
