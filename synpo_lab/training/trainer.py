"""The training loop behind SFT and preference optimisation: transformers' Trainer with bucketed batches, our loss, and a
way to stop.

What a training does is in its Objective; this file is about how it runs: steps, logging, stopping, checkpoints, saving.
The model's forward is replaced by the objective's loss, so that whatever wraps the model to share it among processes (DDP,
FSDP, DeepSpeed) sees the whole computation; what the loss needs of the model it calls from inside.
"""

import errno
import gc
import importlib
import math
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, Required, TypedDict

import torch
from accelerate.data_loader import DataLoaderShard
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from synpo_lab.config import TrainerConfig
from synpo_lab.errors import MissingExtra, TrainingError
from synpo_lab.models import out_of_memory, pick_device, use_threads
from synpo_lab.training.batches import BucketSampler, StepBatches, Tensors
from synpo_lab.training.logps import bare
from synpo_lab.training.weights import Base, Trainee, load_trainee

Log = Callable[[dict[str, Any]], None]

LARGE = 5e8  # parameters from which on activations are made again on a GPU


class How(TypedDict, total=False):
    """How a training is executed.

    `log` gets a dict per optimiser step: step, loss, lr, grad_norm, tokens_per_s and what the objective adds; `note`, in
    a sentence, what else should be known. `should_stop` is asked after each step; when true, TrainingStopped is raised.
    With a folder `checkpoints`, state is saved there every `checkpoint_minutes` and when stopped; a later call with the
    same arguments goes on from it. `pause_at`: stop after that step, save the model as it is then, and leave the
    checkpoint for a later call. `report_to`: none, tensorboard, trackio or wandb. `processes` and `accelerate`: see
    training.launch.
    """

    seed: Required[int]
    log: Log
    note: Callable[[str], None]
    should_stop: Callable[[], bool]
    checkpoints: Path | None
    checkpoint_minutes: float
    pause_at: int | None
    device: str
    threads: int | None
    trust_remote_code: bool
    report_to: str
    processes: int
    accelerate: str


@dataclass(frozen=True)
class Execution:
    """A `How` with its defaults."""

    seed: int
    log: Log = lambda step: None
    note: Callable[[str], None] = lambda sentence: None
    should_stop: Callable[[], bool] = lambda: False
    checkpoints: Path | None = None
    checkpoint_minutes: float = 10
    pause_at: int | None = None
    device: str = "auto"
    threads: int | None = None
    trust_remote_code: bool = False
    report_to: str = "none"
    processes: int = 1
    accelerate: str = ""


class TrainingStopped(Exception):
    """`should_stop` said so. The work so far is in the checkpoint folder, if there is one."""


class Objective(Protocol):
    """What is trained: rows as token ids, and their loss."""

    @property
    def rows(self) -> Sequence[Any]:
        """Token ids, one item per row."""
        ...

    @property
    def logged(self) -> Sequence[str]:
        """Names of the sums that `loss` gives, "loss" among them, in the order they are logged."""
        ...

    @property
    def shortened(self) -> int:
        """How many rows were cut to the config's max_length."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """In sentences, what makes the training dearer than one of another model."""
        ...

    def lengths(self) -> list[int]:
        """Tokens of each row: rows of a like length share a batch."""
        ...

    def longest(self) -> int:
        """Most tokens that the model sees one after another."""
        ...

    def collate(self, rows: Sequence[Any]) -> Tensors: ...

    def count(self, batch: Tensors) -> int:
        """How many items (tokens, pairs) the loss of an optimiser step is the mean over."""
        ...

    def tokens(self, batch: Tensors) -> int:
        """How many tokens the cross-entropy in the loss of an optimiser step, if it has one, is the mean over."""
        ...

    def loss(self, batch: Tensors) -> tuple[torch.Tensor, Tensors]:
        """Summed loss of a batch, and sums over its items of what is logged.

        `step` [2] in the batch are the items and tokens of the whole optimiser step, over all its micro batches and
        processes; without it the batch is the step.
        """
        ...


def train(
    base: Base, objective: Callable[[Any, Any], Objective], config: TrainerConfig, out: Path, rows: int, how: Execution
) -> Path:
    """Train a copy of `base` on objective(model, tokenizer), which has so many rows, and save it in `out`.

    Raises TrainingError when a row is longer than the model's context, the loss is not finite, memory or the disk is full.
    """
    try:
        _train(base, objective, config, out, rows, how)
    finally:
        _give_back()
    return out


def _train(
    base: Base, objective: Callable[[Any, Any], Objective], config: TrainerConfig, out: Path, rows: int, how: Execution
) -> None:
    device = _local(how.device)
    with tempfile.TemporaryDirectory(prefix="synpo-lab-") as scratch:
        arguments = _arguments(
            config, how, out, how.checkpoints or Path(scratch), device, optimizer_steps(rows, config)
        )
        set_seed(arguments.seed)  # an adapter begins with random numbers
        trainee = load_trainee(base, config, device, trust_remote_code=how.trust_remote_code)
        arguments.gradient_checkpointing = _recomputes(config, trainee.model, device)
        use_threads(how.threads, bare(trainee.model).num_parameters())
        with _memory(config, arguments), _disk(out, how.checkpoints):
            task = objective(trainee.model, trainee.tokenizer)
        _check_context(task, trainee.model, config)
        if task.shortened:
            cut = f"{task.shortened:,} of {rows:,} rows were longer than max_length ({config.max_length:,} tokens)"
            how.note(f"{out.name}: {cut} and are trained on without the rest")
        for sentence in task.notes:
            how.note(f"{out.name}: {sentence}")
        trainer = LabTrainer(trainee.model, task, arguments, how.log)
        trainer.add_callback(_Control(how))
        try:
            _run(trainer, _last_complete(how.checkpoints), config, how)
        finally:
            _end_report(how.report_to)
        step, last = trainer.state.global_step, trainer.state.max_steps
        if step < last and step != how.pause_at:
            raise TrainingStopped(f"stopped after step {step} of {last}")
        with _disk(out, how.checkpoints):
            _save(trainer, trainee, out)
    if how.checkpoints and step == last and trainer.is_world_process_zero():
        shutil.rmtree(how.checkpoints, ignore_errors=True)
    trainer.accelerator.free_memory()


def _give_back() -> None:
    """Memory for the next stage: a trainer refers to itself, so that model and optimizer state outlive the last mention."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _save(trainer: "LabTrainer", trainee: Trainee, out: Path) -> None:
    """One process writes. Where the model is in shards, all take part in gathering it."""
    shards = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if shards else None
    if trainer.is_world_process_zero():
        trainee.save(out, state)
    trainer.accelerator.wait_for_everyone()


class LabTrainer(Trainer):  # type: ignore[misc]
    def __init__(self, model: Any, task: Objective, arguments: TrainingArguments, log: Log) -> None:
        super().__init__(model, arguments, train_dataset=_Rows(task.rows))
        self.remove_callback(PrinterCallback)
        if self.args.use_cpu:  # it would only collect garbage, for as long as several steps of a tiny model take
            self.accelerator.free_memory = lambda *objects: objects
        if getattr(self.accelerator.state, "fsdp_plugin", None):
            keep_outputs_exact(self.accelerator.state.fsdp_plugin)
        self.model_accepts_loss_kwargs = True  # our loss is already a mean over the whole optimiser step
        self._task, self._write = task, log
        model.forward = partial(task.loss)  # of a method, accelerate would bind the function to the model
        self._sums: Tensors = {}
        self._items, self._tokens, self._since = 0, 0, 0.0

    def get_train_dataloader(self) -> DataLoaderShard:
        micro, world = self.args.per_device_train_batch_size, self.accelerator.num_processes
        step = micro * self.args.gradient_accumulation_steps * world
        order = BucketSampler(self._task.lengths(), step, self.args.seed)
        return DataLoaderShard(
            self.train_dataset,
            batch_sampler=StepBatches(order, step, micro, self.accelerator.process_index, world),
            collate_fn=self._collate,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _collate(self, rows: list[tuple[Any, bool]]) -> Tensors:
        batch = self._task.collate([row for row, _ in rows])
        return batch if all(counts for _, counts in rows) else batch | {NOT_COUNTED: torch.ones(())}

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> int:
        counted = [batch for batch in batch_samples if NOT_COUNTED not in batch]
        mine = [sum(map(self._task.count, counted)), sum(map(self._task.tokens, counted))]
        items, tokens = map(int, self._over_processes(mine))
        self._step = torch.tensor([items, tokens], device=device)
        return items

    def _over_processes(self, values: Sequence[float]) -> Sequence[float]:
        """Their sums over all processes."""
        if self.accelerator.num_processes == 1:
            return values
        here = torch.tensor(values, dtype=torch.float64, device=self.args.device)
        summed: list[float] = self.accelerator.reduce(here, "sum").tolist()
        return summed

    def compute_loss(
        self, model: Any, inputs: Tensors, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        batch = {name: tensor for name, tensor in inputs.items() if name != NOT_COUNTED} | {"step": self._step}
        with torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16):
            total, sums = model(batch)
        self._since = self._since or time.monotonic()
        if not torch.isfinite(total):
            raise self._diverged(f"the loss is {total.item()}")
        if NOT_COUNTED in inputs:
            idle: torch.Tensor = total * 0  # the others wait for its gradients
            return idle
        for name, value in (sums | {"loss": total}).items():
            self._sums[name] = self._sums.get(name, 0.0) + value.detach()
        self._items += self._task.count(batch)
        self._tokens += int(batch["tokens"].sum())
        mean: torch.Tensor = total / num_items_in_batch
        processes = self.accelerator.num_processes
        return mean if processes == 1 else mean * processes  # their gradients are averaged

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" not in logs:  # the summary after the last step
            return
        if not math.isfinite(logs["grad_norm"]):
            raise self._diverged(f"the gradient norm is {logs['grad_norm']}")
        now = time.monotonic()
        names = self._task.logged
        items, tokens, *sums = self._over_processes(
            [self._items, self._tokens, *(float(self._sums.get(name, 0.0)) for name in names)]
        )
        logged = (
            {name: value / items for name, value in zip(names, sums, strict=True)}
            | {"step": self.state.global_step, "lr": logs["learning_rate"], "grad_norm": logs["grad_norm"]}
            | {"tokens_per_s": tokens / max(now - self._since, 1e-9)}
        )
        if self.is_world_process_zero():
            self._write(logged)
        if self.args.report_to:
            self.callback_handler.on_log(self.args, self.state, self.control, dict(logged))
        self._sums, self._items, self._tokens, self._since = {}, 0, 0, now

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # counting parameters anew at each step takes longer than a step of a tiny model

    def _diverged(self, what: str) -> TrainingError:
        kept = _last_complete(Path(self.args.output_dir))
        return TrainingError(
            f"training diverged at step {self.state.global_step + 1} of {self.state.max_steps}: {what}",
            hint=f"lower learning_rate (now {self.args.learning_rate:g}), or raise warmup_ratio"
            + (f"; {kept.name} is kept in {kept.parent}" if kept else ""),
        )


def keep_outputs_exact(fsdp: Any) -> None:
    """accelerate's FSDP2 rounds what a sharded module gives to bfloat16: the log-probs and the loss, float32, as well."""
    if fsdp.fsdp_version == 2 and fsdp.mixed_precision_policy is not None:
        fsdp.mixed_precision_policy = replace(fsdp.mixed_precision_policy, output_dtype=None)


NOT_COUNTED = "not_counted"  # marks a batch that only keeps a process in step with the others


class _Rows(torch.utils.data.Dataset[tuple[Any, bool]]):
    """Rows by number, and whether each counts: see StepBatches."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> tuple[Any, bool]:
        return (self._rows[number], True) if number >= 0 else (self._rows[~number], False)


class _Control(TrainerCallback):  # type: ignore[misc]
    """Stop when asked; save from time to time; mark a checkpoint complete when all of it is written."""

    def __init__(self, how: Execution) -> None:
        self._how = how
        self._saved = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step >= state.max_steps:
            return
        stop, due = self._decide(args, state)
        if stop:
            control.should_training_stop = True
        if self._how.checkpoints and due:
            control.should_save = True

    def _decide(self, args: Any, state: Any) -> tuple[bool, bool]:
        """Whether to stop, whether to save: the first process decides for all."""
        stop = state.is_world_process_zero and (self._how.should_stop() or state.global_step == self._how.pause_at)
        due = stop or time.monotonic() - self._saved >= self._how.checkpoint_minutes * 60
        if args.world_size == 1:
            return stop, due
        decision = torch.tensor([float(stop), float(due)], device=args.device)
        torch.distributed.broadcast(decision, src=0)
        return bool(decision[0]), bool(decision[1])

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if args.world_size > 1:
            torch.distributed.barrier()  # all have written their part
        self._saved = time.monotonic()
        if not state.is_world_process_zero:
            return
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        (folder / "COMPLETE").touch()
        for older in Path(args.output_dir).glob("checkpoint-*"):
            if older != folder:
                shutil.rmtree(older)


def optimizer_steps(rows: int, config: TrainerConfig) -> int:
    """How many steps a training on so many rows takes."""
    return math.ceil(math.ceil(rows / config.batch_size) * config.epochs)


def _arguments(
    config: TrainerConfig, how: Execution, out: Path, folder: Path, device: torch.device, steps: int
) -> TrainingArguments:
    together = _world()
    micro = config.micro_batch_size or config.batch_size // together
    if not micro or config.batch_size % (micro * together):
        among = f" x {together} processes" if together > 1 else ""
        raise TrainingError(
            f"micro_batch_size {micro or 1}{among} does not divide batch_size {config.batch_size}",
            hint=f"use a divisor of {config.batch_size}" + (f" / {together}" if together > 1 else ""),
        )
    cuda = device.type == "cuda"
    arguments = TrainingArguments(
        output_dir=str(folder),
        run_name=_reported_as(out),
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.batch_size // (micro * together),
        num_train_epochs=config.epochs,
        learning_rate=config.learning_rate,
        lr_scheduler_type="constant_with_warmup" if config.schedule == "constant" else config.schedule,
        warmup_steps=int(config.warmup_ratio * steps),  # rounded down: the first warm-up step has learning rate 0
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=how.seed % 2**32,
        bf16=cuda,
        use_cpu=device.type == "cpu",
        gradient_checkpointing_kwargs={"use_reentrant": False},
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=_reporters(how.report_to, out),
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=cuda,
    )
    if cuda and together == 1:
        _stay_on(device, arguments)
    return arguments


def _reporters(name: str, out: Path) -> list[str]:
    if name == "none":
        return []
    if find_spec(name) is None:
        raise MissingExtra(
            f"training.report_to = {name} needs the package {name}, which is not installed",
            hint=f"pip install {name}, or set training.report_to: none",
        )
    if name == "tensorboard":  # by default it would write into the checkpoints, which are removed at the end
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(out.parent / ".tensorboard" / out.name)
    return [name]


def _reported_as(out: Path) -> str:
    """RUN/MODEL for a model of a run: every run has an M_1."""
    return f"{out.parents[1].name}/{out.name}" if out.parent.name == "models" else out.name


def _end_report(name: str) -> None:
    """Weights and Biases would log the next training of this process as the same one; the others end with theirs."""
    if name == "wandb":
        importlib.import_module(name).finish()


def _world() -> int:
    """Processes that share this training, as accelerate or torchrun said."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _local(device: str) -> torch.device:
    """A GPU by its number, as torch.cuda.set_device wants it. Of several processes each has one of its own."""
    picked = pick_device(device)
    if picked.type != "cuda":
        return picked
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) if _world() > 1 else picked.index or 0)


def _recomputes(config: TrainerConfig, model: Any, device: torch.device) -> bool:
    if config.gradient_checkpointing is not None:
        return config.gradient_checkpointing
    return device.type == "cuda" and bare(model).num_parameters() > LARGE


def _check_context(task: Objective, model: Any, config: TrainerConfig) -> None:
    context = getattr(bare(model).config.get_text_config(), "max_position_embeddings", None)
    longest = task.longest()
    if context is not None and longest > context:
        raise TrainingError(
            f"a row has {longest} tokens, and the model reads {context} at most",
            hint=f"set max_length (now {config.max_length}) to {context} or less",
        )


def _stay_on(device: torch.device, arguments: TrainingArguments) -> None:
    """Train where the model is; Trainer by itself takes the first GPU, and all of them when there are several.

    accelerate is told as well: a model in 4 bits cannot be moved, and it refuses one on another GPU than its own.
    """
    torch.cuda.set_device(device)
    arguments.distributed_state.device = device
    arguments._n_gpu = 1
    arguments.__dict__["_setup_devices"] = device  # the cached property behind arguments.device


def _run(trainer: LabTrainer, checkpoint: Path | None, config: TrainerConfig, how: Execution) -> None:
    with _memory(config, trainer.args), _disk(Path(trainer.args.output_dir), how.checkpoints):
        if checkpoint and int(checkpoint.name.rpartition("-")[2]) == how.pause_at:
            trainer._load_from_checkpoint(str(checkpoint))
            trainer.state.global_step = how.pause_at
        else:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


@contextmanager
def _memory(config: TrainerConfig, arguments: TrainingArguments) -> Iterator[None]:
    """Say in words that memory ran out, and what is left to be done about it."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise _too_large(config, recomputes=arguments.gradient_checkpointing) from error


def _too_large(config: TrainerConfig, *, recomputes: bool) -> TrainingError:
    micro = config.micro_batch_size or config.batch_size
    remedies = [f"set micro_batch_size below {micro} (the result stays nearly the same)"] if micro > 1 else []
    if not recomputes:
        remedies.append("set gradient_checkpointing: true")
    if not config.lora.r:
        remedies.append("train an adapter (lora.r: 16)")
    return TrainingError(
        f"out of memory with {micro} rows per forward pass",
        hint=", or ".join([*remedies, f"lower max_length (now {config.max_length})"]),
    )


@contextmanager
def _disk(place: Path, checkpoints: Path | None) -> Iterator[None]:
    """Say in words that a disk is full. What was written in vain is removed; finished checkpoints stay."""
    try:
        yield
    except Exception as error:
        if not disk_full(error):
            raise
        for folder in checkpoints.glob("checkpoint-*") if checkpoints else []:
            if not (folder / "COMPLETE").exists():
                shutil.rmtree(folder, ignore_errors=True)
        kept = _last_complete(checkpoints)
        raise TrainingError(
            f"the disk of {place} is full",
            hint="free some space and resume: training goes on from "
            + (kept.name if kept else "its start, no checkpoint was finished"),
        ) from error


def disk_full(error: BaseException | None) -> bool:
    """Whether an error, or what led to it, is for lack of space. torch and safetensors have words of their own for it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return True
        if any(words in str(error) for words in ("No space left", "os error 28", "PytorchStreamWriter failed writing")):
            return True
        error = error.__cause__ or error.__context__
    return False


def _last_complete(checkpoints: Path | None) -> Path | None:
    """The newest checkpoint that was written to its end."""
    found = [marker.parent for marker in checkpoints.glob("checkpoint-*/COMPLETE")] if checkpoints else []
    return max(found, key=lambda folder: int(folder.name.rpartition("-")[2]), default=None)
