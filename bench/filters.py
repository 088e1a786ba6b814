"""A million pairs: what a move of a slider takes, beside pandas and datasets.filter asked the same on the same files.

    python bench/filters.py [PAIRS] [MOVES]

The texts are AlpacaEval's where ../shared/data has them, else the pocket world's; the numbers are made up. "The same
question": how many pairs of each iteration a filter keeps and drops, and the histogram of the gaps with how many of each
bin are kept. pandas reads the columns it needs from the same Parquet parts for each move; how long it takes when it has
them in memory already is printed too.
"""

import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from storage import Database, RunStore, queries, schema
from storage.parts import write_table
from storage.queries import PairFilter, PairQuery
from storage.state import set_state
from synpo_lab.config import RunConfig
from synpo_lab.home import open_store
from synpo_lab.pocket.answers import Habits, answer
from synpo_lab.pocket.tasks import FAMILIES, sample, write
from synpo_lab.records import Pair

RUN = "million"
PART_ROWS = 20_000
COLUMNS = ["iteration", "gap", "chosen_score", "len_chosen", "len_rejected", "repetition", "similarity", "duplicate"]
REAL = Path(__file__).parents[2] / "shared" / "data" / "alpaca_eval" / "outputs"
RULES = PairFilter(max_length_ratio=3.0, max_similarity=0.95, drop_duplicates=True)


def main(pairs: int = 1_000_000, moves: int = 100) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = open_store(Path(folder)).create_run(RUN, RunConfig().to_yaml(), {"recipe": "synpo"})
        texts = _texts()
        for number in range(pairs // PART_ROWS):
            _write_part(run, number, texts)
        set_state(run.folder, "finished")
        database = Database(open_store(Path(folder)))
        _say(f"{pairs:,} pairs, {sum(p.stat().st_size for p in _parts(run)) / 1e6:,.0f} MB of Parquet, {moves} moves")
        ours = _ours(database, moves)
        theirs = _pandas(run, max(3, moves // 20))
        slowest = _datasets(run, Path(folder) / "cache")
        _say(f"pandas / ours {theirs / ours:.1f} (target 5), datasets.filter / ours {slowest / ours:.0f} (target 50)")
        _others(database, moves)


def _ours(database: Database, moves: int) -> float:
    """Median seconds of a move: numbers and histograms as the page asks for them."""
    began = time.perf_counter()
    _move(database, RULES)
    _say(f"first look, which reads the numbers into memory: {(time.perf_counter() - began) * 1000:,.0f} ms")
    taken = [_timed(partial(_move, database, rules)) for rules in _random_rules(moves)]
    return _told("a move of a slider: numbers and five histograms", taken, target=150)


def _move(database: Database, rules: PairFilter) -> tuple[object, object]:
    return queries.threshold_counts(database, RUN, rules), queries.histograms(database, RUN, rules)


def _pandas(run: RunStore, moves: int) -> float:
    rules = list(_random_rules(moves))
    taken = [_timed(partial(_read_and_ask, run, r)) for r in rules]
    held = pd.concat(_frames(run), ignore_index=True)
    _told(
        "pandas, columns in memory already: numbers and one histogram",
        [_timed(partial(_ask_frame, held, r)) for r in rules],
    )
    return _told("pandas, reading the Parquet columns: numbers and one histogram", taken)


def _read_and_ask(run: RunStore, rules: PairFilter) -> object:
    return _ask_frame(pd.concat(_frames(run), ignore_index=True), rules)


def _frames(run: RunStore) -> Iterator[pd.DataFrame]:
    return (pd.read_parquet(path, columns=COLUMNS, partitioning=None) for path in _parts(run))


def _ask_frame(frame: pd.DataFrame, rules: PairFilter) -> object:
    reason = np.select(
        [
            frame["gap"].isna(),
            frame["gap"] <= rules.min_gap,
            frame["len_chosen"] > (rules.max_length_ratio or 0) * frame["len_rejected"],
            frame["repetition"] > rules.max_repetition,
            frame["similarity"] > rules.max_similarity,
            frame["duplicate"],
        ],
        ["no score", "gap", "length", "repetition", "similarity", "duplicate"],
        default="kept",
    )
    counts = frame.groupby([frame["iteration"], reason]).size()
    edges = np.histogram_bin_edges(frame["gap"], bins=40)
    return counts, np.histogram(frame["gap"], edges), np.histogram(frame["gap"][reason == "kept"], edges)


def _datasets(run: RunStore, cache: Path) -> float:
    """Seconds of `datasets.filter` with the same rules; without its cache, as every move is another filter."""
    import datasets

    datasets.disable_progress_bars()
    datasets.disable_caching()
    files = {"train": [str(path) for path in _parts(run)]}
    whole = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(cache))
    rules = next(_random_rules(1))

    def keeps(gap: float, long: int, short: int, repetition: float, similarity: float, duplicate: bool) -> bool:
        return (
            gap > (rules.min_gap or 0)
            and long <= (rules.max_length_ratio or 0) * short
            and repetition <= (rules.max_repetition or 1)
            and similarity <= (rules.max_similarity or 1)
            and not duplicate
        )

    asked = ["gap", "len_chosen", "len_rejected", "repetition", "similarity", "duplicate"]
    row_by_row = [_timed(lambda: whole.filter(lambda row: keeps(*(row[name] for name in asked))))]
    handed = [_timed(lambda: whole.filter(keeps, input_columns=asked))]
    _told("datasets.filter, given only the columns it needs: kept rows", handed)
    return _told("datasets.filter, a function of the row: kept rows", row_by_row)


def _others(database: Database, moves: int) -> None:
    """What else the page asks, and paging, which the pairs page does."""
    some = max(5, moves // 5)
    ids = [row["pair_id"] for row in database.pair_rows(RUN, "SELECT pair_id FROM parts.pairs LIMIT 2000")]
    draw = random.Random(1)
    asked: dict[str, Callable[[PairFilter], object]] = {
        "the difference of two filters, counted": lambda r: queries.changed_counts(database, RUN, RULES, r),
        "the same, with a page of its rows": lambda r: queries.changed_rows(database, RUN, RULES, r, limit=15),
        "what the kept pairs are like": lambda r: queries.effects(database, RUN, r),
        "a page of pairs by gap": lambda r: queries.pairs_page(
            database, RUN, PairQuery(), offset=draw.randrange(1000) * 20
        ),
        "a permalink: the pair": lambda r: queries.pair(database, RUN, draw.choice(ids)),
        "a permalink: its place among all": lambda r: queries.neighbours(database, RUN, draw.choice(ids), PairQuery()),
    }
    for name, ask in asked.items():
        ask(RULES)
        _told(name, [_timed(partial(ask, r)) for r in _random_rules(some)], target=200)


def _random_rules(moves: int) -> Iterator[PairFilter]:
    draw = random.Random(0)
    return (replace(RULES, min_gap=round(draw.uniform(-0.5, 0.9), 3)) for _ in range(moves))


def _timed(ask: Callable[[], object]) -> float:
    began = time.perf_counter()
    ask()
    return time.perf_counter() - began


def _told(what: str, taken: list[float], target: float | None = None) -> float:
    middle, slow = statistics.median(taken), sorted(taken)[int(0.95 * (len(taken) - 1) + 0.5)]
    aim = f"  (target {target:g} at the 95th percentile)" if target else ""
    _say(f"{what:66} median {middle * 1000:8,.0f} ms   95th percentile {slow * 1000:8,.0f} ms{aim}")
    return middle


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _parts(run: RunStore) -> list[Path]:
    return sorted((run.folder / "pairs").glob("*/part-*.parquet"))


def _texts() -> list[tuple[str, str, str]]:
    """Prompt, one answer, another."""
    files = sorted(REAL.glob("*.json"))
    if len(files) > 1:
        one, other = (json.loads(path.read_text(encoding="utf-8")) for path in files[:2])
        return [(a["instruction"], a["output"], b["output"]) for a, b in zip(one, other, strict=False)]
    draw = random.Random(0)
    tasks = [sample(draw, FAMILIES[i % len(FAMILIES)]) for i in range(800)]
    good, bad = Habits(0, 0, 0, 0, 0), Habits(0.5, 0.5, 0.5, 0.2, 0.2)
    return [(write(task, draw), answer(task, good, draw), answer(task, bad, draw)) for task in tasks]


def _write_part(run: RunStore, number: int, texts: list[tuple[str, str, str]]) -> None:
    """One part of random numbers with texts cut to 400 characters, each made its own by the pair's id."""
    draw = np.random.default_rng(number)
    ids = [f"{number * PART_ROWS + i:016x}" for i in range(PART_ROWS)]
    picked = [texts[i] for i in draw.integers(0, len(texts), PART_ROWS)]
    gap, score = draw.normal(0.1, 0.3, PART_ROWS), draw.random(PART_ROWS)
    values = {
        "iteration": np.full(PART_ROWS, 1 + number % 4), "pair_id": ids, "prompt_id": [f"p{i}" for i in ids],
        "prompt": [f"{text[0][:400]} {i}" for text, i in zip(picked, ids, strict=True)],
        "chosen_id": [f"c{i}" for i in ids], "rejected_id": [f"r{i}" for i in ids],
        "chosen": [f"{text[1][:400]} {i}" for text, i in zip(picked, ids, strict=True)],
        "rejected": [f"{text[2][:400]} {i}" for text, i in zip(picked, ids, strict=True)],
        "chosen_score": score, "rejected_score": score - gap, "gap": gap,
        "len_chosen": draw.integers(10, 3000, PART_ROWS), "len_rejected": draw.integers(10, 3000, PART_ROWS),
        "repetition": draw.random(PART_ROWS) ** 3, "kept": gap > 0.02,
        "drop_reason": [None if g > 0.02 else "gap" for g in gap], "similarity": draw.random(PART_ROWS),
        "duplicate": draw.random(PART_ROWS) < 0.01, "messages": [None] * PART_ROWS,
    }  # fmt: skip
    columns = schema.arrow_schema(Pair)
    folder = run.folder / "pairs" / f"iteration={1 + number % 4}"
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({column.name: pa.array(values[column.name], column.type) for column in columns}, schema=columns)
    write_table(table, folder / f"part-{time.time_ns():020d}-{number:08x}.parquet")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
