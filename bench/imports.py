"""An import of a million pairs: rows a second, and the most memory that all its processes held together.

The pairs are real where ../shared/data/alpaca_eval is (two models' answers, combined and numbered so that each is new),
else the pocket world's. `imports.py ROWS` for another size.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from storage.state import NEEDS_WORKER, read_state
from synpo_lab.home import open_store
from synpo_lab.importing.launching import import_config, start_import, summary_of

ROWS = 1_000_000
REAL = Path(__file__).parents[2] / "shared" / "data" / "alpaca_eval" / "outputs"
MODELS = ("Meta-Llama-3-8B-Instruct", "Llama-3-Instruct-8B-SimPO")
LIMIT_GB = 1.5
NAME = "million"


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, home = Path(folder) / "pairs.jsonl", Path(folder) / "home"
        write_pairs(path, rows)
        began = time.monotonic()
        start_import(home, NAME, import_config([str(path)]))
        peak = follow(home)
        seconds = time.monotonic() - began
        report(home, path, seconds, peak)


def write_pairs(path: Path, rows: int) -> None:
    """TRL rows: prompt, chosen, rejected and two scores."""
    rng = random.Random(0)
    texts = list(real_texts() if REAL.exists() else pocket_texts(rng))
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            prompt, rejected, chosen = texts[number % len(texts)]
            row = {"prompt": f"{prompt} ({number})", "chosen": f"{number}. {chosen}", "rejected": rejected}
            file.write(json.dumps(row | {"score_chosen": rng.random(), "score_rejected": rng.random()}) + "\n")


def real_texts() -> Iterator[tuple[str, str, str]]:
    before, after = (json.loads((REAL / f"{model}.json").read_text()) for model in MODELS)
    return ((a["instruction"], a["output"], b["output"]) for a, b in zip(before, after, strict=True))


def pocket_texts(rng: random.Random) -> Iterator[tuple[str, str, str]]:
    from synpo_lab.pocket import data

    return ((prompt, gold[: rng.randrange(len(gold))], gold) for prompt, gold in data.seeds())


def follow(home: Path) -> int:
    """Wait for the import's end; the most bytes of memory that its processes held at one moment."""
    run, peak = open_store(home).run(NAME), 0
    while (state := read_state(run.folder)).state in NEEDS_WORKER:
        peak = max(peak, memory_of(state.pid))
        time.sleep(0.1)
    return peak


def memory_of(pid: int | None) -> int:
    try:
        worker = psutil.Process(pid) if pid else None
        return sum(one.memory_info().rss for one in [worker, *worker.children()]) if worker else 0
    except psutil.NoSuchProcess:
        return 0


def report(home: Path, path: Path, seconds: float, peak: int) -> None:
    summary = summary_of(open_store(home).run(NAME))
    if summary is None:
        sys.exit(f"the import did not end well: {read_state(home / 'runs' / NAME)}")
    sys.stdout.write(
        f"{summary.rows['pairs']:,} pairs from {path.stat().st_size / 1e9:.2f} GB of JSONL in {seconds:.0f} s: "
        f"{summary.read / seconds:,.0f} rows/s, {peak / 1e9:.2f} GB of memory at most "
        f"({'within' if peak < LIMIT_GB * 1e9 else 'ABOVE'} {LIMIT_GB} GB)\n"
    )
    if peak >= LIMIT_GB * 1e9:
        sys.exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
