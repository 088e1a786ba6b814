"""A SimPO step with a real vocabulary against TRL's CPOTrainer: the same batch, model, machine. Linux only.

Llama architecture, 128,256 words, small hidden size; 4 pairs, each side 512 tokens (128 of prompt, 384 of answer). Each
trainer works in a process of its own: its loss and gradients are compared, its extra memory is the high-water mark of
the resident set during the first forward and backward pass less what was resident before, its time the best of two
passes in CPU seconds.
"""

import json
import logging
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.tiny_model import SPECIALS, tiny_llama, tiny_tokenizer

VOCABULARY, HIDDEN, PAIRS, PROMPT, ANSWER, ROUNDS = 128_256, 64, 4, 128, 384, 2
BETA, GAMMA = 2.0, 1.6

Step = Callable[[], torch.Tensor]


def main() -> None:
    for tied in (True, False):
        with tempfile.TemporaryDirectory() as folder:
            measured = {name: _in_a_process(name, tied, Path(folder)) for name in ("trl", "ours")}
            ours, theirs = measured["ours"], measured["trl"]
            worst = _worst_difference(Path(folder))
        sys.stdout.write(
            f"{VOCABULARY:,} words, {'tied' if tied else 'own'} head, {PAIRS} pairs of {PROMPT + ANSWER} tokens: "
            f"extra memory {ours['mb']:,.0f} of {theirs['mb']:,.0f} MB, ratio {ours['mb'] / theirs['mb']:.3f}; "
            f"time {ours['seconds']:.2f} of {theirs['seconds']:.2f} CPU seconds, "
            f"ratio {ours['seconds'] / theirs['seconds']:.2f}; "
            f"largest relative difference of loss {abs(ours['loss'] / theirs['loss'] - 1):.0e}, "
            f"of a gradient {worst:.0e}\n"
        )


def _in_a_process(name: str, tied: bool, folder: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.simpo_memory", name, str(int(tied)), str(folder)]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    measured: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return measured


def _worst_difference(folder: Path) -> float:
    """Of all parameters, the largest ||ours - theirs|| / ||theirs||."""
    ours, theirs = (torch.load(folder / f"{name}.pt") for name in ("ours", "trl"))
    assert ours.keys() == theirs.keys()
    return max(float((ours[k] - theirs[k]).norm() / theirs[k].norm()) for k in theirs)


def child(name: str, tied: bool, folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # TRL warns that the module is experimental
    logging.disable(logging.WARNING)
    tokenizer = tiny_tokenizer(VOCABULARY - len(SPECIALS))
    model = tiny_llama(
        VOCABULARY, hidden=HIDDEN, layers=2, heads=2, initializer_range=0.05, max_position_embeddings=1024,
        tie_word_embeddings=tied,
    ).train()  # fmt: skip
    step = (_trl if name == "trl" else _ours)(model, tokenizer, str(folder))
    before = _forget_the_peak()
    loss = step()
    peak = _status("VmHWM")
    torch.save({name: p.grad for name, p in model.named_parameters()}, folder / f"{name}.pt")
    seconds = min(_seconds(step, model) for _ in range(ROUNDS))
    sys.stdout.write(json.dumps({"mb": (peak - before) / 1e6, "seconds": seconds, "loss": float(loss.double())}) + "\n")


def _seconds(step: Step, model: Any) -> float:
    model.zero_grad()
    began = time.process_time()
    step()
    return time.process_time() - began


def _ours(model: Any, tokenizer: Any, folder: str) -> Step:
    from synpo_lab.config import SimPOConfig
    from synpo_lab.training.preference import Preference

    config = SimPOConfig(gamma=GAMMA, max_length=1024)
    task = Preference(model, tokenizer, _pairs(), config, BETA)
    batch = task.collate(task.rows)

    def step() -> torch.Tensor:
        loss = task.loss(batch)[0] / task.count(batch)
        loss.backward()
        return loss.detach()

    return step


def _trl(model: Any, tokenizer: Any, folder: str) -> Step:
    from datasets import Dataset
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    from bench.simpo import chats

    arguments = CPOConfig(
        folder, loss_type="simpo", cpo_alpha=0.0, beta=BETA, simpo_gamma=GAMMA, max_length=1024,
        per_device_train_batch_size=PAIRS, use_cpu=True, bf16=False, fp16=False, gradient_checkpointing=False,
        report_to="none", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = CPOTrainer(model, arguments, train_dataset=Dataset.from_list(chats(_pairs())), processing_class=tokenizer)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(PAIRS)])

    def step() -> torch.Tensor:
        loss, _ = trainer.get_batch_loss_metrics(model, batch)
        loss.backward()
        return loss.detach()

    return step


def _pairs() -> list[tuple[str, str, str]]:
    """The template adds three tokens to a prompt and an end token to an answer."""
    rng = random.Random(0)

    def text(tokens: int) -> str:
        return " ".join(f"w{rng.randrange(VOCABULARY - len(SPECIALS))}" for _ in range(tokens))

    return [(text(PROMPT - 3), text(ANSWER - 1), text(ANSWER - 1)) for _ in range(PAIRS)]


def _forget_the_peak() -> int:
    """Bytes resident now; the high-water mark starts again from here."""
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    if len(sys.argv) == 4:
        child(sys.argv[1], sys.argv[2] == "1", Path(sys.argv[3]))
    else:
        main()
