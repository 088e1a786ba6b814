"""The training loop behind SFT and SimPO: transformers' Trainer with bucketed batches, our loss, and a way to stop.

What a training does is in its Objective; this file is about how it runs: steps, logging, stopping, checkpoints, saving.
"""

import copy
import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from synpo_lab.config import TrainerConfig
from synpo_lab.errors import TrainingError
from synpo_lab.models import (
    check_tokenizer,
    load_model,
    load_tokenizer,
    out_of_memory,
    pick_device,
    save_model,
    use_threads,
)
from synpo_lab.training.batches import BucketSampler, Tensors

Log = Callable[[dict[str, Any]], None]
Base = str | Path | tuple[Any, Any]  # a model folder, 'hub:OWNER/NAME', or a loaded (model, tokenizer)


class TrainingStopped(Exception):
    """`should_stop` said so. The work so far is in the checkpoint folder, if there is one."""


class Objective(Protocol):
    """What is trained: rows as token ids, and their loss."""

    @property
    def rows(self) -> Sequence[Any]:
        """Token ids, one item per row."""
        ...

    def lengths(self) -> list[int]:
        """Tokens of each row: rows of a like length share a batch."""
        ...

    def collate(self, rows: Sequence[Any]) -> Tensors: ...

    def count(self, batch: Tensors) -> int:
        """How many items (tokens, pairs) the loss of an optimiser step is the mean over."""
        ...

    def loss(self, batch: Tensors) -> tuple[torch.Tensor, Tensors]:
        """Summed loss of a batch, and sums over its items of what is logged."""
        ...


def train(
    base: Base,
    objective: Callable[[Any, Any], Objective],
    config: TrainerConfig,
    out: Path,
    *,
    seed: int,
    log: Log,
    should_stop: Callable[[], bool],
    checkpoints: Path | None,
    checkpoint_minutes: float,
    device: str,
    threads: int | None,
    trust_remote_code: bool,
) -> Path:
    """Train a copy of `base` on objective(model, tokenizer) and save it in `out`. See train_sft for the arguments."""
    model, tokenizer, stored = _load(base, device, trust_remote_code)
    use_threads(threads, model.num_parameters())
    task = objective(model, tokenizer)
    with tempfile.TemporaryDirectory(prefix="synpo-lab-") as scratch:
        trainer = LabTrainer(
            model,
            task,
            _arguments(config, checkpoints or scratch, seed, model, optimizer_steps(len(task.rows), config)),
            log,
        )
        trainer.add_callback(_Control(should_stop, checkpoints, checkpoint_minutes * 60))
        _run(trainer, _last_complete(checkpoints), config)
        if trainer.control.should_training_stop and trainer.state.global_step < trainer.state.max_steps:
            raise TrainingStopped(f"stopped after step {trainer.state.global_step} of {trainer.state.max_steps}")
    save_model(model.to("cpu", stored), tokenizer, out)  # off the GPU, which the next stage wants to itself
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.accelerator.free_memory()
    if checkpoints:
        shutil.rmtree(checkpoints, ignore_errors=True)
    return out


class LabTrainer(Trainer):  # type: ignore[misc]
    def __init__(self, model: Any, task: Objective, arguments: TrainingArguments, log: Log) -> None:
        super().__init__(model, arguments, data_collator=task.collate, train_dataset=task.rows)
        self.remove_callback(PrinterCallback)
        if self.args.use_cpu:  # it would only collect garbage, for as long as several steps of a tiny model take
            self.accelerator.free_memory = lambda *objects: objects
        self.model_accepts_loss_kwargs = True  # our loss is already a mean over the whole optimiser step
        self._task, self._write = task, log
        self._sums: Tensors = {}
        self._items, self._tokens, self._since = 0, 0, 0.0

    def _get_train_sampler(self, train_dataset: Any = None) -> BucketSampler:
        # By optimiser steps, not by forward passes: micro batches leave it as it is which rows make a step.
        step = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        return BucketSampler(self._task.lengths(), step, self.args.seed)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> int:
        return sum(map(self._task.count, batch_samples))

    def compute_loss(
        self, model: Any, inputs: Tensors, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16):
            total, sums = self._task.loss(inputs)
        self._since = self._since or time.monotonic()
        if not torch.isfinite(total):
            raise self._diverged(f"the loss is {total.item()}")
        for name, value in (sums | {"loss": total}).items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
        self._items += self._task.count(inputs)
        self._tokens += int(inputs["tokens"].sum())
        mean: torch.Tensor = total / num_items_in_batch
        return mean

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" not in logs:  # the summary after the last step
            return
        if not math.isfinite(logs["grad_norm"]):
            raise self._diverged(f"the gradient norm is {logs['grad_norm']}")
        now = time.monotonic()
        self._write(
            {name: float(value) / self._items for name, value in self._sums.items()}
            | {"step": self.state.global_step, "lr": logs["learning_rate"], "grad_norm": logs["grad_norm"]}
            | {"tokens_per_s": self._tokens / max(now - self._since, 1e-9)}
        )
        self._sums, self._items, self._tokens, self._since = {}, 0, 0, now

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # counting parameters anew at each step takes longer than a step of a tiny model

    def _diverged(self, what: str) -> TrainingError:
        return TrainingError(
            f"training diverged at step {self.state.global_step + 1}: {what}",
            hint=f"lower learning_rate (now {self.args.learning_rate:g}), or raise warmup_ratio",
        )


class _Control(TrainerCallback):  # type: ignore[misc]
    """Stop when asked; save from time to time; mark a checkpoint complete when all of it is written."""

    def __init__(self, should_stop: Callable[[], bool], checkpoints: Path | None, every: float) -> None:
        self._should_stop, self._checkpoints, self._every = should_stop, checkpoints, every
        self._saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step < state.max_steps and self._should_stop():
            control.should_training_stop = True
        due = control.should_training_stop or time.monotonic() - self._saved >= self._every
        if self._checkpoints and due and state.global_step < state.max_steps:
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (folder / "COMPLETE").touch()
        for older in Path(args.output_dir).glob("checkpoint-*"):
            if older != folder:
                shutil.rmtree(older)
        self._saved = time.monotonic()


def optimizer_steps(rows: int, config: TrainerConfig) -> int:
    """How many steps a training on so many rows takes."""
    return math.ceil(math.ceil(rows / config.batch_size) * config.epochs)


def _arguments(config: TrainerConfig, folder: str | Path, seed: int, model: Any, steps: int) -> TrainingArguments:
    micro = config.micro_batch_size or config.batch_size
    if config.batch_size % micro:
        raise TrainingError(
            f"micro_batch_size {micro} does not divide batch_size {config.batch_size}",
            hint=f"use a divisor of {config.batch_size}",
        )
    cuda = model.device.type == "cuda"
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.batch_size // micro,
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup" if config.schedule == "constant" else config.schedule,
        warmup_steps=int(config.warmup_ratio * steps),  # rounded down: the first warm-up step has learning rate 0
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=seed % 2**32,
        bf16=cuda,
        use_cpu=model.device.type == "cpu",
        gradient_checkpointing=cuda and model.num_parameters() > 5e8,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=cuda,
    )
    if cuda:
        _stay_on(model.device, arguments)
    return arguments


def _stay_on(device: torch.device, arguments: TrainingArguments) -> None:
    """Train where the model is; Trainer by itself takes the first GPU, and all of them when there are several."""
    torch.cuda.set_device(device)
    arguments._n_gpu = 1
    arguments.__dict__["_setup_devices"] = device  # the cached property behind arguments.device


def _run(trainer: LabTrainer, checkpoint: Path | None, config: TrainerConfig) -> None:
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        micro = config.micro_batch_size or config.batch_size
        raise TrainingError(
            f"out of memory with {micro} rows per forward pass",
            hint=f"set micro_batch_size below {micro} (the result stays nearly the same), or lower max_length",
        ) from error


def _load(base: Base, device: str, trust_remote_code: bool) -> tuple[Any, Any, torch.dtype]:
    """A model in float32 that may be changed, its tokenizer, and the dtype its weights are stored in."""
    if isinstance(base, tuple):
        model, tokenizer = copy.deepcopy(base[0]).to(pick_device(device)), check_tokenizer(base[1], where="the model")
        stored = model.dtype
    else:
        model = load_model(base, device=device, dtype="float32", trust_remote_code=trust_remote_code)
        tokenizer = load_tokenizer(base, trust_remote_code=trust_remote_code)
        stored = _stored_dtype(Path(base))
    _without_dropout(model)
    return model.float(), tokenizer, stored


def _stored_dtype(folder: Path) -> torch.dtype:
    file = folder / "config.json"
    config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    return {"bfloat16": torch.bfloat16, "float16": torch.float16}.get(str(name), torch.float32)


def _without_dropout(model: torch.nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if isinstance(getattr(module, "attention_dropout", None), float):
            setattr(module, "attention_dropout", 0.0)  # noqa: B010


def _last_complete(checkpoints: Path | None) -> Path | None:
    """The newest checkpoint that was written to its end."""
    found = [marker.parent for marker in checkpoints.glob("checkpoint-*/COMPLETE")] if checkpoints else []
    return max(found, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)
