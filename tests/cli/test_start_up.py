"""The command line starts without the heavy libraries."""

import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = "{'torch', 'gradio', 'transformers', 'trl', 'datasets', 'pandas', 'plotly'}"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["run", "--help"], ["status"], ["config", "--schema"], ["query", "SELECT 1"]],
    ids=" ".join,
)
def test_it_starts_without_the_heavy_libraries(arguments: list[str], tmp_path: Path) -> None:
    script = (
        "import sys; from synpo_lab.cli import main\n"
        f"try: main({arguments!r})\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"heavy = {HEAVY} & set(sys.modules); assert not heavy, heavy"
    )
    environment = {"SYNPO_LAB_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_python_m_synpo_lab_cli_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "synpo_lab.cli", "--help"], capture_output=True, text=True, check=True)
    assert "synpo-lab" in done.stdout
