"""SimPO on a model of Llama-3-8B's shape on one GPU: ours, Liger kernel's loss and TRL's CPOTrainer, the same batch.

    python bench/gpu.py            every way at 1, 2, 4, 8 pairs of 2 x 1,024 tokens until memory runs out (80 GB or more)
    python bench/gpu.py --small    a toy shape on whatever is here: whether the script works, no numbers worth keeping

Random weights in bfloat16, AdamW in bfloat16, gradient checkpointing; a step is forward, backward and update. Each way runs
in a process of its own. Tokens per second count both whole answers with their prompts, whoever reads a prompt once or
twice, so that they compare; FLOP utilisation (MFU) counts what a way really has to compute: 6 FLOPs per weight and token it
passes through, those of attention, nothing that is made again.
"""

import json
import os
import random
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.tiny_model import SPECIALS, tiny_tokenizer

PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "B200": 2250e12}  # dense bfloat16 FLOP/s
WAYS = ("trl", "ours", "ours, prompts read twice", "ours, loss by Liger")
BATCHES, ROUNDS, BETA, GAMMA = (1, 2, 4, 8), 3, 2.0, 1.6

Step = Callable[[], None]


@dataclass(frozen=True)
class Shape:
    layers: int
    hidden: int
    inner: int
    heads: int
    kv_heads: int
    words: int
    prompt: int
    answer: int

    def flops(self, through_layers: int, through_head: int, width: int) -> float:
        """Of one step that sends so many tokens through layers and head, in rows `width` tokens wide."""
        kv = self.hidden * self.kv_heads // self.heads
        layer = 2 * self.hidden**2 + 2 * self.hidden * kv + 3 * self.hidden * self.inner
        attention = 6 * 2 * self.hidden * width / 2  # per token and layer: half of the row lies behind it
        per_token = self.layers * (6 * layer + attention)
        return through_layers * per_token + through_head * 6 * self.hidden * self.words


LLAMA_3_8B = Shape(32, 4096, 14336, 32, 8, 128_256, 512, 512)
TOY = Shape(2, 64, 128, 2, 1, 4096, 32, 32)


def main() -> None:
    small = "--small" in sys.argv
    if not torch.cuda.is_available() and not small:
        sys.stdout.write("no GPU here: nothing measured; --small shows whether the script works\n")
        return
    for pairs in (2,) if small else BATCHES:
        for way in WAYS:
            sys.stdout.write(f"{pairs} pairs, {way:26}: {_in_a_process(way, pairs, small)}\n")
            sys.stdout.flush()


def _in_a_process(way: str, pairs: int, small: bool) -> str:
    command = [sys.executable, "-m", "bench.gpu", "--child", way, str(pairs), str(int(small))]
    settings = os.environ | {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    ran = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=Path(__file__).parents[1], env=settings
    )
    if ran.returncode:
        last = ran.stderr.strip().splitlines()[-1:]
        return "out of memory" if "OutOfMemoryError" in ran.stderr else f"failed: {' '.join(last)}"
    found = json.loads(ran.stdout.splitlines()[-1])
    return f"{found['gb']:6.1f} GB, {found['tokens_per_s']:8,.0f} tokens/s, MFU {found['mfu']:.0%}, loss {found['loss']:.4f}"


def child(way: str, pairs: int, small: bool) -> None:
    warnings.simplefilter("ignore")
    shape = TOY if small else LLAMA_3_8B
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    tokenizer, model = tiny_tokenizer(shape.words - len(SPECIALS)), _model(shape, device)
    rows = _pairs(shape, pairs)
    with tempfile.TemporaryDirectory() as folder:
        loss, flops = (_trl if way == "trl" else _ours)(model, tokenizer, rows, shape, way, folder)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=device.type == "cuda")
    last = 0.0

    def step() -> float:
        nonlocal last
        began = _now(device)
        value = loss()
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        last = float(value)
        return _now(device) - began

    step()  # allocates the optimiser's state, compiles what is compiled
    seconds = min(step() for _ in range(ROUNDS))
    peak = next((flop for name, flop in PEAK.items() if name in _device_name(device)), float("nan"))
    tokens = 2 * pairs * (shape.prompt + shape.answer)
    gigabytes = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else float("nan")
    found = {"gb": gigabytes, "tokens_per_s": tokens / seconds, "mfu": flops / seconds / peak, "loss": last}
    sys.stdout.write(json.dumps(found) + "\n")


def _ours(
    model: Any, tokenizer: Any, rows: Any, shape: Shape, way: str, folder: str
) -> tuple[Callable[[], torch.Tensor], float]:
    from synpo_lab.config import SimPOConfig
    from synpo_lab.training.preference import Preference

    config = SimPOConfig(gamma=GAMMA, max_length=8192, kernel="liger" if "Liger" in way else "lab")
    task = Preference(model, tokenizer, rows, config, BETA)
    if "twice" in way:
        task._shares = False
    device = model.device
    batch = {name: tensor.to(device) for name, tensor in task.collate(task.rows).items()}
    read = shape.prompt * (1 if task._shares else 2) + 2 * shape.answer
    width = read if task._shares else shape.prompt + shape.answer
    model.train()
    return lambda: task.loss(batch)[0] / len(rows), shape.flops(len(rows) * read, len(batch["target"]), width)


def _trl(
    model: Any, tokenizer: Any, rows: Any, shape: Shape, way: str, folder: str
) -> tuple[Callable[[], torch.Tensor], float]:
    from datasets import Dataset
    from trl.experimental.cpo import CPOConfig, CPOTrainer

    from bench.simpo import chats

    arguments = CPOConfig(
        folder, loss_type="simpo", cpo_alpha=0.0, beta=BETA, simpo_gamma=GAMMA, max_length=8192,
        per_device_train_batch_size=len(rows), use_cpu=model.device.type == "cpu", bf16=False, fp16=False,
        gradient_checkpointing=False, report_to="none", save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    trainer = CPOTrainer(model, arguments, train_dataset=Dataset.from_list(chats(rows)), processing_class=tokenizer)
    batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(rows))])
    batch = {name: value.to(model.device) if torch.is_tensor(value) else value for name, value in batch.items()}
    width = shape.prompt + shape.answer
    model.train()
    flops = shape.flops(2 * len(rows) * width, 2 * len(rows) * width, width)
    return lambda: trainer.get_batch_loss_metrics(model, batch)[0], flops


def _model(shape: Shape, device: torch.device) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=shape.words, hidden_size=shape.hidden, intermediate_size=shape.inner,
        num_hidden_layers=shape.layers, num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        max_position_embeddings=8192, rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
        tie_word_embeddings=False, pad_token_id=0, bos_token_id=1, eos_token_id=2, dtype=torch.bfloat16,
    )  # fmt: skip
    torch.manual_seed(0)
    standard = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            model = LlamaForCausalLM(config)
    finally:
        torch.set_default_dtype(standard)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def _pairs(shape: Shape, pairs: int) -> list[tuple[str, str, str]]:
    """The template adds three tokens to a prompt and an end token to an answer."""
    rng = random.Random(0)

    def text(tokens: int) -> str:
        return " ".join(f"w{rng.randrange(shape.words - len(SPECIALS))}" for _ in range(tokens))

    return [(text(shape.prompt - 3), text(shape.answer - 1), text(shape.answer - 1)) for _ in range(pairs)]


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    if "--child" in sys.argv:
        at = sys.argv.index("--child")
        child(sys.argv[at + 1], int(sys.argv[at + 2]), sys.argv[at + 3] == "1")
    else:
        main()
