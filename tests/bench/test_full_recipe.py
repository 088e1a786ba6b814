"""The bench of the full recipe at its smallest: a real run in a worker, killed and resumed."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "full_recipe.py"
ASKED = {
    "transformers": ("2", ["train generator", "score", "draft", "train policy beta=10"]),
    "vllm": ("1", ["draft", "train policy beta=10"]),  # it takes its time to start, again and again
}


@pytest.mark.slow
@pytest.mark.thorough
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("engine", ["transformers", pytest.param("vllm", marks=pytest.mark.vllm)])
def test_a_run_killed_in_the_middle_of_its_stages_ends_like_one_that_was_left_alone(engine: str) -> None:
    iterations, stages = ASKED[engine]
    how = ["--small", "--engine", engine, "--iterations", iterations]
    command = [sys.executable, str(BENCH), *how, "--kill", *stages]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=1400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"killed {len(stages)} times" in done.stdout
    assert "the same rows and weights" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is here: nothing to look for elsewhere")
def test_without_vllm_the_recipe_is_measured_where_ci_has_installed_it(tmp_path: Path) -> None:
    there = tmp_path / ".venv-vllm" / "bin" / "python"
    there.parent.mkdir(parents=True)
    there.write_text('#!/bin/sh\necho "elsewhere: $@"\n')
    there.chmod(0o755)
    (tmp_path / "bench").mkdir()
    bench = Path(shutil.copy(BENCH, tmp_path / "bench"))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(bench), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    assert "not installed" in run("--small", "--engine", "vllm").stderr  # a folder whose installation failed
    (there.parents[1] / "installed").touch()
    assert run("--small", "--kill").stdout == f"elsewhere: {bench} --small --kill\n"
