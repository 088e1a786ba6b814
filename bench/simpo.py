"""SimPO training against TRL's CPOTrainer(loss_type="simpo"): the same pairs, batch size, model and machine.

The model has the size of the pocket model. Times are CPU seconds of this process, so that other work on the machine
disturbs them less: "all" from texts to trained weights, "steps" the training loop of CPOTrainer against all of ours.
"""

import logging
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, disable_progress_bars

from synpo_lab.config import SimPOConfig
from synpo_lab.training.preference import train_preference
from tests.tiny_model import tiny_llama, tiny_tokenizer

WORDS, PAIRS, BATCH, ROUNDS = 344, 800, 32, 3

Pairs = list[tuple[str, str, str]]


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # TRL warns that the module is experimental
    logging.disable(logging.WARNING)
    disable_progress_bars()
    pairs = _pairs()
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            theirs, steps = _trl(pairs, folder)
            ours = _ours(pairs, Path(folder))
            sys.stdout.write(
                f"{PAIRS} pairs: CPOTrainer {theirs:.2f} s (steps {steps:.2f}), ours {ours:.2f} CPU seconds, "
                f"ratio all {theirs / ours:.2f}, steps {steps / ours:.2f}\n"
            )


def _pairs() -> Pairs:
    rng = random.Random(0)

    def text(low: int, high: int) -> str:
        return " ".join(f"w{rng.randrange(WORDS)}" for _ in range(rng.randint(low, high)))

    return [(text(8, 20), text(5, 16), text(5, 16)) for _ in range(PAIRS)]


def _model() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer(WORDS)
    return tiny_llama(len(tokenizer), hidden=128, layers=4, heads=4, initializer_range=0.05), tokenizer


def _trl(pairs: Pairs, folder: str) -> tuple[float, float]:
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    model, tokenizer = _model()
    began = time.process_time()
    arguments = CPOConfig(
        folder, loss_type="simpo", cpo_alpha=0.0, beta=10.0, simpo_gamma=1.6, learning_rate=3e-4, max_length=256,
        per_device_train_batch_size=BATCH, num_train_epochs=1, logging_steps=1, use_cpu=True, bf16=False, fp16=False,
        gradient_checkpointing=False, report_to="none", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = CPOTrainer(model, arguments, train_dataset=Dataset.from_list(chats(pairs)), processing_class=tokenizer)
    trainer.log = lambda logs, start_time=None: None
    middle = time.process_time()
    trainer.train()
    return time.process_time() - began, time.process_time() - middle


def chats(pairs: Pairs) -> list[dict[str, Any]]:
    return [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": better}],
            "rejected": [{"role": "assistant", "content": worse}],
        }
        for prompt, better, worse in pairs
    ]


def _ours(pairs: Pairs, folder: Path) -> float:
    base = _model()
    config = SimPOConfig(learning_rate=3e-4, batch_size=BATCH, epochs=1, max_length=256)
    began = time.process_time()
    train_preference(base, pairs, config, folder / "M_1", beta=10, seed=0, device="cpu", threads=1)
    return time.process_time() - began


if __name__ == "__main__":
    main()
