"""A generation stage through the store: scripted engine, 10,000 and 100,000 prompts, each in a process of its own.

Prints rows per second written and the peak memory of both. The prompts are made as they are asked for and the answers go
to Parquet as they come, so neither is held; what does grow is what a resume needs (one hash per row and its id).
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from storage import Store
from synpo_lab.config import SamplingConfig
from synpo_lab.engines.scripted_engine import ScriptedEngine
from synpo_lab.records import TABLES
from synpo_lab.stages.answer import Question, answer

SMALL, LARGE = 10_000, 100_000


def main() -> None:
    small, large = measured(SMALL), measured(LARGE)
    growth = large["peak_mib"] / small["peak_mib"] - 1
    sys.stdout.write(
        f"{LARGE} prompts: {large['rows_per_s']:.0f} rows/s written ({large['rows_per_cpu_s']:.0f} per CPU second, "
        f"which other work on the machine does not disturb); peak memory {large['peak_mib']:.0f} MiB, "
        f"{growth:+.1%} over {SMALL} prompts ({small['peak_mib']:.0f} MiB)\n"
    )


def measured(rows: int) -> dict[str, float]:
    """The stage in a fresh process: a peak is a process's own."""
    command = [sys.executable, __file__, str(rows)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(told.stdout)
    return found


def stage(rows: int) -> dict[str, float]:
    sampling = SamplingConfig(temperature=0.7, max_new_tokens=256)
    engine = ScriptedEngine("M_0", lambda prompt, draw: f"{prompt} {draw} " * 10)
    with tempfile.TemporaryDirectory() as folder:
        run = Store(Path(folder), TABLES).create_run("r", "recipe: synpo\n", {})
        began, worked = time.perf_counter(), time.process_time()
        made = answer(engine, questions(rows), role="draft", iteration=1, sampling=sampling, seed=0)
        written = run.append(made)
        seconds, cpu = time.perf_counter() - began, time.process_time() - worked
    assert written == rows
    return {"rows_per_s": rows / seconds, "rows_per_cpu_s": rows / cpu, "peak_mib": peak_mib()}


def questions(rows: int) -> Iterator[Question]:
    for i in range(rows):
        yield Question(f"{i:016x}", f"prompt number {i}: write about the number {i} in a few words")


def peak_mib() -> float:
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):
        return float(memory.peak_wset) / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.stdout.write(json.dumps(stage(int(sys.argv[1]))))
    else:
        main()
