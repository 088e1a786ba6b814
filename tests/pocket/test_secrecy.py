"""Training never meets the rubric's code, nor an evaluation prompt."""

import subprocess
import sys
from pathlib import Path

import pytest

import synpo_lab

PACKAGE = Path(synpo_lab.__file__).parent
TRAINERS = [
    "synpo_lab.training.sft",
    "synpo_lab.training.preference",
    "synpo_lab.training.trainer",
    "synpo_lab.stages.generate_prompts",
    "synpo_lab.stages.improve",
    "synpo_lab.stages.answer",
    "synpo_lab.recipes.synpo",
    "synpo_lab.pocket.answers",
    "synpo_lab.pocket.build",
]


@pytest.mark.slow
def test_what_trains_and_what_makes_training_data_never_loads_the_rubric() -> None:
    code = f"import sys, {', '.join(TRAINERS)}; sys.exit('synpo_lab.pocket.rubric' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_only_the_registry_of_scorers_names_the_rubric() -> None:
    naming = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if "pocket.rubric" in path.read_text(encoding="utf-8") or "import rubric" in path.read_text(encoding="utf-8")
    }
    assert naming == {"scorers/__init__.py"}
