"""Several processes sharing a training, on CPU over gloo: started by `accelerate launch`, as on GPUs."""

import fcntl
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from storage.locks import is_held
from synpo_lab.config import LoraConfig, SFTConfig, SimPOConfig
from synpo_lab.errors import MissingExtra, TrainingError
from synpo_lab.models import load_model
from synpo_lab.training import launch
from synpo_lab.training.batches import BucketSampler, StepBatches
from synpo_lab.training.preference import train_preference
from synpo_lab.training.sft import train_sft
from synpo_lab.training.trainer import Execution, TrainingStopped

Rows = list[tuple[str, str]]
Pairs = list[tuple[str, str, str]]

# 38 rows in steps of 8: the last step has 6, which two processes with micro batches of 4 cannot share evenly.
CONFIG = SFTConfig(learning_rate=3e-3, batch_size=8, micro_batch_size=4, epochs=2, max_length=64)


def steps_of(processes: int, base: Path, rows: Rows, out: Path, config: SFTConfig = CONFIG, **more: Any) -> list[Any]:
    steps: list[dict[str, Any]] = []
    train_sft(base, rows, config, out, seed=0, log=steps.append, device="cpu", processes=processes, **more)
    return steps


@pytest.mark.parametrize("rows", [1, 8, 9, 15, 16, 38])
@pytest.mark.parametrize(("micro", "world"), [(1, 1), (2, 2), (4, 2), (1, 4), (2, 1)])
def test_processes_share_every_step_whatever_the_number_of_rows(rows: int, micro: int, world: int) -> None:
    lengths = [1 + i % 5 for i in range(rows)]
    alone = list(StepBatches(BucketSampler(lengths, 8, 0), 8, 8))
    shared = [list(StepBatches(BucketSampler(lengths, 8, 0), 8, micro, rank, world)) for rank in range(world)]
    assert {len(mine) for mine in shared} == {len(StepBatches(BucketSampler(lengths, 8, 0), 8, micro, 0, world))}
    rounds = 8 // (micro * world)
    for i, step in enumerate(alone):
        mine = [row for rank in shared for batch in rank[i * rounds : (i + 1) * rounds] for row in batch]
        assert sorted(row for row in mine if row >= 0) == sorted(step)
        assert all(~row in step for row in mine if row < 0)


@pytest.mark.slow
def test_two_processes_take_the_steps_of_one(base: Path, tmp_path: Path, rows: Rows) -> None:
    rows = rows[:38]
    one, two = (steps_of(n, base, rows, tmp_path / f"by {n}") for n in (1, 2))
    assert len(one) == len(two) == 10
    for name in ("step", "loss", "grad_norm", "lr"):
        assert [step[name] for step in two] == pytest.approx([step[name] for step in one], rel=1e-5)
    a, b = (load_model(tmp_path / f"by {n}", device="cpu").state_dict() for n in (1, 2))
    for name, tensor in a.items():
        torch.testing.assert_close(b[name], tensor, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.thorough
def test_two_processes_share_a_cross_entropy_over_unequal_answers(base: Path, tmp_path: Path, pairs: Pairs) -> None:
    config = SimPOConfig(kind="orpo", learning_rate=1e-2, batch_size=8, micro_batch_size=2, max_length=64)
    made = {}
    for n in (1, 2):
        steps: list[dict[str, Any]] = []
        train_preference(
            base,
            pairs[:22],
            config,
            tmp_path / f"by {n}",
            beta=0.1,
            seed=0,
            log=steps.append,
            device="cpu",
            processes=n,
        )
        made[n] = [step["loss"] for step in steps]
    assert made[2] == pytest.approx(made[1], rel=1e-4)


@pytest.mark.slow
@pytest.mark.thorough
def test_two_processes_share_a_dpo_training_of_an_adapter_and_its_reference(
    base: Path, tmp_path: Path, pairs: Pairs
) -> None:
    config = SimPOConfig(
        kind="dpo", learning_rate=1e-2, batch_size=8, max_length=64, epochs=1, lora=LoraConfig(r=4, alpha=8)
    )
    made = {}
    for n in (1, 2):
        steps: list[dict[str, Any]] = []
        train_preference(
            base, pairs[:22], config, tmp_path / f"by {n}", beta=0.1, seed=0, log=steps.append, device="cpu",
            processes=n, reference=tmp_path / f"reference {n}.safetensors",
        )  # fmt: skip
        made[n] = steps
    for name in ("loss", "reward_margin", "reward_accuracy", "logp_chosen"):
        assert [s[name] for s in made[2]] == pytest.approx([s[name] for s in made[1]], rel=1e-4, abs=1e-5)
    assert (tmp_path / "by 2" / "adapter_model.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.thorough
def test_shared_trainings_stop_and_go_on_with_the_same_curve(base: Path, tmp_path: Path, rows: Rows) -> None:
    whole = steps_of(1, base, rows, tmp_path / "whole")
    first: list[dict[str, Any]] = []
    with pytest.raises(TrainingStopped, match="of 10"):
        train_sft(
            base, rows, CONFIG.model_copy(update={"epochs": 200.0}), tmp_path / "part", seed=0, device="cpu",
            processes=2, checkpoints=tmp_path / "never", log=first.append, should_stop=lambda: bool(first),
        )  # fmt: skip
    assert 0 < len(first) < 1000
    assert not (tmp_path / "part").exists()
    paused = steps_of(2, base, rows, tmp_path / "paused", checkpoints=tmp_path / "checkpoints", pause_at=7)
    rest = steps_of(2, base, rows, tmp_path / "part", checkpoints=tmp_path / "checkpoints")
    assert [step["step"] for step in paused + rest] == list(range(1, 11))
    assert [s["loss"] for s in paused + rest] == pytest.approx([s["loss"] for s in whole], rel=1e-5)


@pytest.mark.slow
def test_what_one_of_them_complains_of_is_raised_here(base: Path, tmp_path: Path, rows: Rows) -> None:
    wild = CONFIG.model_copy(update={"learning_rate": 1e30, "warmup_ratio": 0.0})
    with pytest.raises(TrainingError, match="diverged at step") as caught:
        steps_of(2, base, rows, tmp_path / "out", wild)
    assert "lower learning_rate" in caught.value.hint
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.thorough
def test_they_end_when_whoever_started_them_is_killed(base: Path, tmp_path: Path) -> None:
    """Until then the checkpoints are theirs: the lock on them is held."""
    checkpoints = tmp_path / "checkpoints"
    script = (
        "import sys; from pathlib import Path; from synpo_lab.config import SFTConfig\n"
        "from synpo_lab.training.sft import train_sft\n"
        "train_sft(sys.argv[1], [('w1', 'w2')] * 64, SFTConfig(epochs=100000, batch_size=8, max_length=64),\n"
        "          Path(sys.argv[2]), seed=0, log=lambda step: print(step['step'], flush=True), device='cpu', processes=2,\n"
        "          checkpoints=Path(sys.argv[3]))\n"
    )
    command = [sys.executable, "-c", script, str(base), str(tmp_path / "out"), str(checkpoints)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=os.getcwd()) as starter:
        assert starter.stdout is not None
        starter.stdout.readline()  # a step was taken
        family = psutil.Process(starter.pid).children(recursive=True)
        assert len(family) >= 3  # accelerate and two that train
        for process in family:
            process.suspend()
        starter.kill()
        starter.wait()
        assert is_held(checkpoints / launch.LOCK)
        for process in family:
            process.resume()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    assert not is_held(checkpoints / launch.LOCK)
    assert list(checkpoints.glob("checkpoint-*/COMPLETE"))


def test_a_training_waits_for_the_processes_of_a_killed_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints = tmp_path / "checkpoints"
    how, stopped = (
        Execution(seed=0, checkpoints=checkpoints),
        Execution(0, checkpoints=checkpoints, should_stop=lambda: True),
    )
    checkpoints.mkdir()
    (checkpoints / launch.LOCK).write_text("4711")
    with (checkpoints / launch.LOCK).open() as theirs:
        fcntl.flock(theirs, fcntl.LOCK_EX)
        with pytest.raises(TrainingStopped), launch._sole(stopped):
            pass
        with monkeypatch.context() as impatient:
            impatient.setattr(launch, "ORPHAN_SECONDS", 0.0)
            with pytest.raises(TrainingError, match="still train into") as caught, launch._sole(how):
                pass
        assert "kill -9 -- -4711" in caught.value.hint
        threading.Timer(0.3, lambda: (shutil.rmtree(checkpoints), theirs.close())).start()
        with launch._sole(how):
            assert is_held(checkpoints / launch.LOCK)
    with launch._sole(Execution(seed=0)) as none:
        assert none is None


def test_a_full_disk_before_the_start_is_told(base: Path, tmp_path: Path, rows: Rows, monkeypatch: Any) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(TrainingError, match="No space left on device") as caught:
        steps_of(2, base, rows, tmp_path / "out")
    assert "TMPDIR" in caught.value.hint


def test_a_loaded_model_cannot_be_shared(loaded: Any, tmp_path: Path, rows: Rows) -> None:
    with pytest.raises(TrainingError, match="cannot share a loaded model"):
        train_sft(loaded, rows, CONFIG, tmp_path / "out", seed=0, processes=2)


def test_shipped_configs_are_found_and_others_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "distributed_type: FSDP" in launch._config_file("fsdp").read_text()
    with pytest.raises(TrainingError, match="no accelerate config") as caught:
        launch._config_file(str(tmp_path / "mine.yaml"))
    assert "fsdp or zero2" in caught.value.hint
    monkeypatch.setattr(launch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="deepspeed"):
        launch._config_file("zero2")


@pytest.mark.slow
@pytest.mark.thorough
def test_sharded_weights_get_the_gradients_of_whole_ones() -> None:
    """FSDP2 over two processes: accelerate starts it on GPUs only, so here what shards the model is called by itself."""
    script = Path(__file__).with_name("sharded.py")
    ran = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)],
        capture_output=True, text=True, timeout=300, env=os.environ | {"PYTHONPATH": os.getcwd()}, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert ran.stdout.count("the same") == 6  # two processes; a tied head, one of its own, one with a soft cap
    assert ran.stdout.count("not rounded") == 2


def test_waiting_for_steps_is_not_reading_half_of_one(tmp_path: Path) -> None:
    file = tmp_path / "steps.jsonl"
    steps = launch._steps(file)
    assert next(steps) is None
    with file.open("w") as written:
        for text, expected in (('{"step": 1}\n{"st', {"step": 1}), ("", None), ('ep": 2}\n', {"step": 2}), ("", None)):
            written.write(text)
            written.flush()
            assert next(steps) == expected
