"""The plan's count of a training's memory against a training: float32 on the CPU, where no copies for autocast are held."""

import subprocess
import sys
from pathlib import Path

import pytest

from synpo_lab.config import SFTConfig, TrainingConfig
from synpo_lab.planning.memory import training
from synpo_lab.planning.shapes import shape_of
from tests.tiny_model import save_tiny

TRAIN = """
import resource, sys, psutil
from pathlib import Path
from synpo_lab.config import SFTConfig
from synpo_lab.training.sft import train_sft
peaks = []
def peak(logged):  # at a step: what saving holds for a moment, while freed gradients may not be back yet, is not asked
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
def train(model, out):
    train_sft(model, [("w1 w2", "w3 w4")] * 4, SFTConfig(batch_size=2, max_length=32, epochs=1), out, seed=0,
              log=peak, should_stop=lambda: False, checkpoints=out.with_suffix(".checkpoints"), device="cpu")
small, large, out = map(Path, sys.argv[1:])
train(small, out / "small")  # what libraries load and keep is there from now on
before = psutil.Process().memory_info().rss
train(large, out / "large")
print(peaks[-1] - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
def test_weights_gradients_and_adamw_are_what_a_training_holds(tmp_path: Path) -> None:
    """16 bytes a parameter; rows are so short that activations hardly count. A quarter is left for what a step needs."""
    small = save_tiny(tmp_path / "small", words=60)
    large = save_tiny(tmp_path / "large", words=60, hidden=768, layers=6, heads=12)
    command = [sys.executable, "-c", TRAIN, str(small), str(large), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    shape = shape_of(str(large))
    parts = {part.what: part.bytes for part in training(shape, SFTConfig(), TrainingConfig(), sides=1)}
    states = parts["weights"] + parts["gradients"] + parts["optimiser"]
    assert states == 16 * shape.parameters
    assert shape.parameters > 20_000_000
    assert 0.9 < int(done.stdout.split()[-1]) / states < 1.25
