"""The bench of the full recipe at its smallest: a real run in a worker, killed and resumed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "full_recipe.py"
STAGES = ["train generator", "score", "draft", "train policy beta=10"]


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.parametrize("engine", ["transformers", pytest.param("vllm", marks=pytest.mark.vllm)])
def test_a_run_killed_in_the_middle_of_its_stages_ends_like_one_that_was_left_alone(engine: str) -> None:
    command = [sys.executable, str(BENCH), "--small", "--engine", engine, "--kill", *STAGES]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"killed {len(STAGES)} times" in done.stdout
    assert "the same rows and weights" in done.stdout
