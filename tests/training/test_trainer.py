import os
import random
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from torch.cuda._utils import _get_device_index
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from synpo_lab import models
from synpo_lab.config import LoraConfig, SFTConfig
from synpo_lab.errors import MissingExtra, ModelError, TrainingError
from synpo_lab.training import trainer
from synpo_lab.training.batches import BucketSampler
from synpo_lab.training.logps import AnswerLogps
from synpo_lab.training.sft import SFT, train_sft
from synpo_lab.training.trainer import LabTrainer, TrainingStopped, _run, _too_large
from synpo_lab.training.weights import _without_dropout
from tests.tiny_model import tiny_llama

Rows = list[tuple[str, str]]

CONFIG = SFTConfig(learning_rate=3e-3, batch_size=8, epochs=3, max_length=64)


def after(steps: int) -> Callable[[], bool]:
    asked = iter(range(1, 1000))
    return lambda: next(asked) >= steps


def losses(base: Any, rows: Rows, out: Path, **more: Any) -> list[float]:
    steps: list[dict[str, Any]] = []
    try:
        train_sft(base, rows, more.pop("config", CONFIG), out, seed=0, log=steps.append, device="cpu", **more)
    except TrainingStopped:
        assert not out.exists()
    return [step["loss"] for step in steps]


@pytest.mark.parametrize("stop", [3, 5, 7])
@pytest.mark.parametrize("micro", [None, 4])
def test_a_stopped_training_goes_on_with_the_same_curve(
    base: Path, tmp_path: Path, rows: Rows, stop: int, micro: int | None
) -> None:
    """40 rows in batches of 8: 5 steps an epoch, so the stops are inside an epoch, at its end, and in the second."""
    config = CONFIG.model_copy(update={"micro_batch_size": micro})
    whole = losses(base, rows, tmp_path / "whole", config=config)
    checkpoints = tmp_path / "checkpoints"
    first = losses(base, rows, tmp_path / "part", config=config, should_stop=after(stop), checkpoints=checkpoints)
    assert [folder.name for folder in checkpoints.iterdir()] == [f"checkpoint-{stop}"]
    rest = losses(base, rows, tmp_path / "part", config=config, checkpoints=checkpoints)
    assert len(whole) == 15
    assert first + rest == whole
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "part")]
    assert weights[0] == weights[1]
    assert not checkpoints.exists()


def test_a_checkpoint_that_was_cut_off_is_passed_over(base: Path, tmp_path: Path, rows: Rows) -> None:
    checkpoints = tmp_path / "checkpoints"
    first = losses(base, rows, tmp_path / "out", should_stop=after(4), checkpoints=checkpoints)
    torn = checkpoints / "checkpoint-9"
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    rest = losses(base, rows, tmp_path / "out", checkpoints=checkpoints)
    assert len(first + rest) == 15


def test_checkpoints_are_saved_from_time_to_time_and_only_the_newest_is_kept(
    base: Path, tmp_path: Path, rows: Rows
) -> None:
    checkpoints = tmp_path / "checkpoints"
    seen: list[list[str]] = []

    def look() -> bool:
        seen.append(sorted(folder.name for folder in checkpoints.glob("checkpoint-*")))
        return False

    losses(base, rows, tmp_path / "out", should_stop=look, checkpoints=checkpoints, checkpoint_minutes=0)
    assert seen[:4] == [[], ["checkpoint-1"], ["checkpoint-2"], ["checkpoint-3"]]


def test_a_short_training_writes_no_checkpoint(base: Path, tmp_path: Path, rows: Rows) -> None:
    checkpoints = tmp_path / "checkpoints"
    found: list[Path] = []

    def look() -> bool:
        found.extend(checkpoints.rglob("*.safetensors"))
        return False

    losses(base, rows, tmp_path / "out", should_stop=look, checkpoints=checkpoints)
    assert found == []


def test_stopping_without_a_checkpoint_folder_keeps_nothing(base: Path, tmp_path: Path, rows: Rows) -> None:
    with pytest.raises(TrainingStopped, match="step 2 of 15"):
        train_sft(base, rows, CONFIG, tmp_path / "out", seed=0, should_stop=after(2), device="cpu")
    assert {path.name for path in tmp_path.iterdir()} == {"M_0"}


def test_a_loss_that_is_not_finite_is_an_error_with_a_hint(base: Path, tmp_path: Path, rows: Rows) -> None:
    wild = CONFIG.model_copy(update={"learning_rate": 1e30, "warmup_ratio": 0.0})
    with pytest.raises(TrainingError, match="diverged at step") as caught:
        train_sft(base, rows, wild, tmp_path / "out", seed=0, device="cpu")
    assert "lower learning_rate (now 1e+30)" in caught.value.hint
    assert not (tmp_path / "out").exists()


def test_running_out_of_memory_names_the_setting_to_lower(
    base: Path, tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(SFT, "loss", full)
    with pytest.raises(TrainingError, match="8 rows per forward") as caught:
        train_sft(base, rows, CONFIG, tmp_path / "out", seed=0, device="cpu")
    assert "micro_batch_size" in caught.value.hint


def test_a_training_in_bfloat16_learns(base: Path, tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, where accelerate wraps the model's forward; asked for bfloat16, it does so on a CPU too."""
    real, wrapped = trainer._arguments, []

    def in_bfloat16(*asked: Any) -> Any:
        arguments = real(*asked)
        arguments.bf16, arguments.mixed_precision = True, "bf16"
        return arguments

    def run(trained: LabTrainer, *rest: Any) -> None:
        _run(trained, *rest)
        wrapped.append(trained.accelerator.native_amp)

    monkeypatch.setattr(trainer, "_arguments", in_bfloat16)
    monkeypatch.setattr(trainer, "_run", run)
    found = losses(base, rows, tmp_path / "out", config=CONFIG.model_copy(update={"epochs": 6}))
    assert wrapped == [True]
    assert found[-1] < found[0] / 2


def test_nothing_of_a_training_is_left_in_memory(
    base: Path, tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The optimizer's state and the model itself; on a GPU the next stage wants their place."""
    left: list[weakref.ref[Any]] = []

    def run(trained: LabTrainer, *rest: Any) -> None:
        _run(trained, *rest)
        optimizer = trained.optimizer.optimizer
        left.extend(map(weakref.ref, (trained.model, optimizer, next(iter(optimizer.state.values()))["exp_avg"])))

    monkeypatch.setattr(trainer, "_run", run)
    losses(base, rows, tmp_path / "out")
    assert [kept() is None for kept in left] == [True] * 3


def test_running_out_of_memory_before_the_first_step_is_told_as_well(
    base: Path, tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(AnswerLogps, "_agrees", full)
    with pytest.raises(TrainingError, match="out of memory"):
        train_sft(base, rows, CONFIG, tmp_path / "out", seed=0, device="cpu")
    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(ModelError, match=f"the model {base} does not fit in the free memory of cpu"):
        train_sft(base, rows, CONFIG, tmp_path / "out", seed=0, device="cpu")


def test_out_of_memory_names_every_remedy_that_is_left() -> None:
    config = CONFIG.model_copy(update={"micro_batch_size": 1, "lora": LoraConfig(r=4)})
    assert _too_large(config, recomputes=False).hint == "set gradient_checkpointing: true, or lower max_length (now 64)"
    hint = _too_large(CONFIG, recomputes=True).hint
    assert "lora.r" in hint
    assert "gradient_checkpointing" not in hint


def test_a_loss_that_turns_bad_leaves_the_last_checkpoint(
    base: Path, tmp_path: Path, rows: Rows, monkeypatch: Any
) -> None:
    real, calls = SFT.loss, iter(range(1, 100))

    def loss(self: Any, batch: Any) -> Any:
        total, sums = real(self, batch)
        return total * (float("nan") if next(calls) == 6 else 1), sums

    checkpoints = tmp_path / "checkpoints"
    monkeypatch.setattr(SFT, "loss", loss)
    with pytest.raises(TrainingError, match="diverged at step 6 of 15: the loss is nan") as caught:
        losses(base, rows, tmp_path / "out", checkpoints=checkpoints, checkpoint_minutes=0)
    assert "checkpoint-5 is kept" in caught.value.hint
    assert (checkpoints / "checkpoint-5" / "COMPLETE").exists()


@pytest.mark.parametrize(
    "error",
    [
        OSError(28, "No space left on device"),
        RuntimeError("[enforce fail] PytorchStreamWriter failed writing file data/0: file write failed"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_said_and_costs_no_finished_checkpoint(
    base: Path, tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    real, checkpoints = LabTrainer._save_optimizer_and_scheduler, tmp_path / "checkpoints"

    def full(self: Any, folder: str) -> None:
        if self.state.global_step == 3:
            raise error
        real(self, folder)

    monkeypatch.setattr(LabTrainer, "_save_optimizer_and_scheduler", full)
    with pytest.raises(TrainingError, match=f"the disk of {checkpoints} is full") as caught:
        losses(base, rows, tmp_path / "out", checkpoints=checkpoints, checkpoint_minutes=0)
    assert caught.value.hint == "free some space and resume: training goes on from checkpoint-2"
    assert [folder.name for folder in checkpoints.iterdir()] == ["checkpoint-2"]
    monkeypatch.undo()
    rest = losses(base, rows, tmp_path / "out", checkpoints=checkpoints)
    assert rest == losses(base, rows, tmp_path / "whole")[2:]


def test_a_full_disk_at_the_end_keeps_the_work(
    base: Path, tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models, "_flush", full)
    with pytest.raises(TrainingError, match="is full"):
        losses(base, rows, tmp_path / "out", checkpoints=tmp_path / "checkpoints", checkpoint_minutes=0)
    assert {path.name for path in tmp_path.iterdir()} == {"M_0", "checkpoints"}


def test_rows_longer_than_the_context_are_refused_before_the_first_step(base: Path, tmp_path: Path) -> None:
    rows = [("w1 " * 300, "w2")]
    with pytest.raises(TrainingError, match="a row has 305 tokens, and the model reads 256 at most") as caught:
        losses(base, rows, tmp_path / "out", config=CONFIG.model_copy(update={"max_length": 2048}))
    assert caught.value.hint == "set max_length (now 2048) to 256 or less"
    assert losses(base, rows, tmp_path / "out", config=CONFIG.model_copy(update={"max_length": 256}))


def test_rows_that_are_cut_are_counted_aloud(base: Path, tmp_path: Path, rows: Rows) -> None:
    told: list[str] = []
    losses(base, rows, tmp_path / "out", note=told.append)
    assert told == []
    losses(base, [*rows, ("w1 " * 80, "w1")], tmp_path / "out", note=told.append)
    cut = "1 of 41 rows were longer than max_length (64 tokens) and are trained on without the rest"
    assert told == [f"out: {cut}"]


def test_a_reporter_that_is_not_installed_is_a_missing_extra(
    base: Path, tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="needs the package wandb") as caught:
        losses(base, rows, tmp_path / "out", report_to="wandb")
    assert "pip install wandb" in caught.value.hint


def test_steps_are_reported_where_that_is_asked_for_and_nowhere_else(
    base: Path, tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers' own reporters are callbacks; this one stands in for them in its table."""
    told: list[dict[str, float]] = []

    class Reporter(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            told.append(logs)

    monkeypatch.setattr(trainer, "find_spec", lambda name: object())
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "tensorboard", Reporter)
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "unset")  # and back to what it was at the end
    losses(base, rows, tmp_path / "quiet")
    assert told == []
    found = losses(base, rows, tmp_path / "models" / "M_1", report_to="tensorboard")
    assert [logs["loss"] for logs in told] == found
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "models" / ".tensorboard" / "M_1")


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_each_training_is_reported_under_its_runs_name_and_its_report_ends_with_it(
    base: Path, tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """As wandb's own callback does, this one begins a report only where none is going on."""
    reports: list[dict[str, Any]] = []

    class Wandb(ModuleType):
        going_on = False

        def finish(self) -> None:
            self.going_on = False

    class Reporter(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if not wandb.going_on:
                reports.append({"name": args.run_name, "losses": []})
            wandb.going_on = True

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            reports[-1]["losses"].append(logs["loss"])
            if ends == "badly":
                raise OSError("no report today")

    wandb = Wandb("wandb")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(trainer, "find_spec", lambda name: object())
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "wandb", Reporter)
    outs = [tmp_path / "runs" / name / "models" / "M_1" for name in ("monday", "tuesday")] + [tmp_path / "alone"]
    for out in outs:
        with nullcontext() if ends == "well" else pytest.raises(OSError, match="today"):
            losses(base, rows, out, report_to="wandb")
    assert [report["name"] for report in reports] == ["monday/M_1", "tuesday/M_1", "alone"]
    assert [len(report["losses"]) for report in reports] == [15 if ends == "well" else 1] * 3
    assert not wandb.going_on


def test_a_micro_batch_must_divide_the_batch(base: Path, tmp_path: Path, rows: Rows) -> None:
    with pytest.raises(TrainingError, match="3 does not divide batch_size 8"):
        train_sft(base, rows, CONFIG.model_copy(update={"micro_batch_size": 3}), tmp_path / "out", seed=0, device="cpu")


@pytest.mark.parametrize(("schedule", "last"), [("constant", 3e-3), ("linear", 0.0), ("cosine", 0.0)])
def test_the_learning_rate_rises_then_follows_its_schedule(
    base: Path, tmp_path: Path, rows: Rows, schedule: str, last: float
) -> None:
    steps: list[dict[str, Any]] = []
    config = CONFIG.model_copy(update={"schedule": schedule, "warmup_ratio": 0.2})
    train_sft(base, rows, config, tmp_path / "out", seed=0, log=steps.append, device="cpu")
    rates = [step["lr"] for step in steps]
    assert rates[:4] == pytest.approx([0, 1e-3, 2e-3, 3e-3])
    assert rates[-1] == pytest.approx(last, abs=3e-4)


def test_gradients_are_clipped_after_their_norm_is_logged(base: Path, tmp_path: Path, rows: Rows) -> None:
    steps: list[dict[str, Any]] = []
    config = CONFIG.model_copy(update={"max_grad_norm": 1e-9, "warmup_ratio": 0.0})
    train_sft(base, rows, config, tmp_path / "out", seed=0, log=steps.append, device="cpu")
    assert all(step["grad_norm"] > 0.1 for step in steps)


def test_dropout_is_off_in_training() -> None:
    model = tiny_llama(32, attention_dropout=0.9)
    model.model.embed_tokens = torch.nn.Sequential(model.model.embed_tokens, torch.nn.Dropout(0.9))
    _without_dropout(model)
    ids = torch.arange(6, 20).unsqueeze(0)
    model.train()
    assert torch.equal(model(ids).logits, model(ids).logits)


def test_the_process_needs_no_network_and_no_progress_bars(
    base: Path, tmp_path: Path, rows: Rows, capfd: pytest.CaptureFixture[str]
) -> None:
    losses(base, rows, tmp_path / "out")
    assert capfd.readouterr() == ("", "")


@given(st.lists(st.integers(1, 90), max_size=200), st.integers(1, 9), st.integers(0, 5), st.integers(0, 2**31))
def test_an_epoch_is_a_permutation_that_follows_from_seed_and_epoch(
    lengths: list[int], batch_size: int, epoch: int, seed: int
) -> None:
    orders = []
    for _ in range(2):
        sampler = BucketSampler(lengths, batch_size, seed)
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert sorted(orders[0]) == list(range(len(lengths)))
    assert orders[0] == orders[1]


def test_batches_hold_rows_of_a_like_length_in_a_random_order() -> None:
    rng = random.Random(0)
    lengths = [rng.randint(10, 80) for _ in range(640)]
    sampler = BucketSampler(lengths, 16, seed=0)
    order = list(sampler)
    batches = [[lengths[i] for i in order[k : k + 16]] for k in range(0, 640, 16)]
    padding = 1 - sum(lengths) / sum(len(batch) * max(batch) for batch in batches)
    assert padding < 0.1
    tops = [max(batch) for batch in batches]
    assert tops not in (sorted(tops), sorted(tops, reverse=True))
    sampler.set_epoch(1)
    assert list(sampler) != order


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A machine with two, as far as the choice of one goes; which was chosen, in order.

    torch.cuda.set_device takes no device without an index; `_get_device_index` is how it says so, with a GPU or not.
    """
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: chosen.append(_get_device_index(device)))
    yield chosen
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize(("asked", "given"), [("auto", 0), ("cuda", 0), ("cuda:1", 1)])
def test_a_training_on_a_gpu_names_it_by_its_number(
    two_gpus: list[int], tmp_path: Path, asked: str, given: int
) -> None:
    device = trainer._local(asked)
    arguments = trainer._arguments(CONFIG, trainer.Execution(seed=0), tmp_path / "out", tmp_path, device, 5)
    assert two_gpus[-1] == given
    assert (arguments.device, arguments.n_gpu) == (torch.device("cuda", given), 1)


@pytest.mark.parametrize("asked", ["cuda", "cuda:1"])
@pytest.mark.usefixtures("two_gpus")
def test_a_model_in_four_bits_is_trained_on_the_gpu_that_holds_it(tmp_path: Path, asked: str) -> None:
    """accelerate refuses it where it believes to be on another one."""
    device = trainer._local(asked)
    trainer._arguments(CONFIG, trainer.Execution(seed=0), tmp_path / "out", tmp_path, device, 5)
    model = tiny_llama(32)
    model.is_loaded_in_4bit, model.hf_device_map = True, {"": device}
    accelerator = Accelerator()
    assert accelerator.prepare_model(model) is model
    assert accelerator.device == device


def test_of_several_processes_each_has_a_gpu_of_its_own(two_gpus: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert trainer._local("cuda") == torch.device("cuda", 1)
    assert two_gpus == []  # accelerate chooses it in each process
