"""A million pairs: what the pages take to answer, and a slider move beside pandas and datasets.filter on the same files.

    python bench/filters.py [PAIRS] [MOVES]

The texts are AlpacaEval's where ../shared/data has them, else the pocket world's; the numbers are made up. What the pages
take is timed from an event's values to the values that go back to the browser: the page's own handlers, what gradio makes
of them included, the network not. What pandas and datasets are asked: how many pairs of each iteration a filter keeps and
drops, and the histogram of the gaps with how many of each bin are kept. pandas reads the columns it needs from the same
Parquet parts for each move; how long it takes when it has them in memory already is printed too.
"""

import asyncio
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd
import pyarrow as pa
from gradio.state_holder import SessionState

from pages.lab import build
from storage import Database, RunStore, queries, schema
from storage.parts import write_table
from storage.queries import PairFilter
from storage.state import set_state
from synpo_lab.config import RunConfig
from synpo_lab.home import open_store
from synpo_lab.pocket.answers import Habits, answer
from synpo_lab.pocket.tasks import FAMILIES, sample, write
from synpo_lab.records import TABLES

RUN = "million"
PART_ROWS = 20_000
SPREAD = 0x9E3779B97F4A7C15  # odd, so no two numbers below 2^64 fall together
COLUMNS = ["iteration", "gap", "chosen_score", "len_chosen", "len_rejected", "repetition", "similarity", "duplicate"]
REAL = Path(__file__).parents[2] / "shared" / "data" / "alpaca_eval" / "outputs"
RULES: dict[str, Any] = {"max_length_ratio": 3.0, "max_similarity": 0.95, "drop_duplicates": True}
AT = {"run": RUN, "max_length_ratio": "3", "max_similarity": "0.95", "drop_duplicates": "1"}


def main(pairs: int = 1_000_000, moves: int = 100) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = open_store(Path(folder)).create_run(RUN, RunConfig().to_yaml(), {"recipe": "synpo"})
        texts = _texts()
        for number in range(pairs // PART_ROWS):
            _write_part(run, number, texts)
        set_state(run.folder, "finished")
        _say(f"{pairs:,} pairs, {sum(p.stat().st_size for p in _parts(run)) / 1e6:,.0f} MB of Parquet, {moves} moves")
        ours = _ours(Path(folder), moves)
        theirs = _pandas(run, max(3, moves // 20))
        slowest = _datasets(run, Path(folder) / "cache")
        _say(f"pandas / ours {theirs / ours:.1f} (target 5), datasets.filter / ours {slowest / ours:.0f} (target 50)")
        _others(Path(folder), moves)


class Visitor:
    """A browser without the browser: opens a page of the lab and sends its events, one after the other."""

    def __init__(self, home: Path) -> None:
        self._app = build(home, read_only=True)
        self._loop = asyncio.new_event_loop()
        self.values: dict[int, Any] = {}

    def open(self, page: str, **query: str) -> float:
        """Seconds until a page is filled."""
        self._session = SessionState(self._app)
        (load,) = (fn for fn in self._app.fns.values() if fn.page == page and ("load" in {on for _, on in fn.targets}))
        return self._send(load, query)

    def say(self, name: str, event: str, value: Any = None) -> float:
        """Seconds until an event of the component of that elem_id is answered; it has the value from now on."""
        (key,) = (key for key, block in self._app.blocks.items() if getattr(block, "elem_id", None) == name)
        (fn,) = (fn for fn in self._app.fns.values() if (key, event) in fn.targets and fn.outputs and fn.fn is not None)
        if value is not None:
            self.values[key] = value
        return self._send(fn, {})

    def _send(self, fn: Any, query: dict[str, str]) -> float:
        inputs = [self.values.get(block._id, getattr(block, "value", None)) for block in fn.inputs]
        request = gr.Request(query_params=query)
        began = time.perf_counter()
        told = self._loop.run_until_complete(self._app.process_api(fn, inputs, state=self._session, request=request))
        taken = time.perf_counter() - began
        for block, value in zip(fn.outputs, told["data"], strict=True):
            if isinstance(value, dict) and value.get("__type__") == "update":
                self.values |= {block._id: value["value"]} if "value" in value else {}
            else:
                self.values[block._id] = value
        return taken


def _ours(home: Path, moves: int) -> float:
    """Median seconds of a move: numbers and histograms as the page's handler sends them."""
    visitor = Visitor(home)
    _say(
        f"the filter page, opened first, which reads the numbers into memory: {visitor.open('thresholds', **AT):.2f} s"
    )
    taken = [visitor.say("cut", "input", rules.min_gap) for rules in _random_rules(moves)]
    return _told("a move of a slider: numbers, counts, five histograms, SQL, YAML", taken, target=150)


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


def _others(home: Path, moves: int) -> None:
    """What follows a move, and what else is asked of pages over that many pairs."""
    some, draw = max(5, moves // 5), random.Random(1)
    _say(f"the pairs page, opened first (target 2 s): {Visitor(home).open('pairs', **AT):.2f} s")
    visitor, database = Visitor(home), Database(open_store(home, read_only=True))
    visitor.open("thresholds", **AT)
    own, filters = PairFilter(**RULES), list(_random_rules(some))
    follows: dict[str, Callable[[PairFilter], object]] = {
        "the difference of two filters, with its rows": lambda r: queries.changed_rows(database, RUN, own, r, limit=15),
        "what the kept pairs are like": lambda r: queries.effects(database, RUN, r),
        "where prompts and pairs are lost": lambda r: queries.attrition(database, RUN),
    }
    for name, ask in follows.items():
        _told(f"after a move: {name}", [_timed(partial(ask, rules)) for rules in filters])
    _told("the filter page: a page of rows", [visitor.say("filter-fate", "input", "kept") for _ in range(some)], 200)
    ids = [row["pair_id"] for row in database.pair_rows(RUN, "SELECT pair_id FROM parts.pairs USING SAMPLE 200")]
    visitor.open("pairs", **AT)
    _told("the pairs page: next", [visitor.say("pair-next", "click") for _ in range(some)], 200)
    sorts = ["gap-up", "gap"] * (some // 2)
    _told("the pairs page: sorted by gap", [visitor.say("pair-sort", "input", sort) for sort in sorts], 200)
    _told("the pairs page: a permalink", [visitor.open("pairs", **AT, pair=draw.choice(ids)) for _ in range(some)], 200)
    visitor.open("pairs", **AT, view="list")
    _told("the pairs page as a list: next", [visitor.say("pair-next", "click") for _ in range(some)], 200)


def _random_rules(moves: int) -> Iterator[PairFilter]:
    draw = random.Random(0)
    return (PairFilter(**RULES, min_gap=round(draw.uniform(-0.5, 0.9), 3)) for _ in range(moves))


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
    """One part of each table an import fills: random numbers, and texts cut to 400 characters, each made its own by the
    pair's id."""
    draw = np.random.default_rng(number)
    ids = [f"{(number * PART_ROWS + i) * SPREAD % 2**64:016x}" for i in range(PART_ROWS)]  # as hashes: in no order
    picked = [texts[i] for i in draw.integers(0, len(texts), PART_ROWS)]
    prompt, chosen, rejected = (
        [f"{text[side][:400]} {i}" for text, i in zip(picked, ids, strict=True)] for side in range(3)
    )
    gap, score = draw.normal(0.1, 0.3, PART_ROWS), draw.random(PART_ROWS)
    prompt_ids, sides = [f"p{i}" for i in ids], [f"{side}{i}" for i in ids for side in "cr"]
    pairs = {
        "pair_id": ids, "prompt_id": prompt_ids, "prompt": prompt, "chosen": chosen, "rejected": rejected,
        "chosen_id": sides[::2], "rejected_id": sides[1::2],
        "chosen_score": score, "rejected_score": score - gap, "gap": gap,
        "len_chosen": draw.integers(10, 3000, PART_ROWS), "len_rejected": draw.integers(10, 3000, PART_ROWS),
        "repetition": draw.random(PART_ROWS) ** 3, "kept": gap > 0.02,
        "drop_reason": [None if g > 0.02 else "gap" for g in gap], "similarity": draw.random(PART_ROWS),
        "duplicate": draw.random(PART_ROWS) < 0.01, "messages": [None] * PART_ROWS,
    }  # fmt: skip
    prompts = {
        "prompt_id": prompt_ids, "text": prompt, "keywords": [[]] * PART_ROWS, "noise_keyword": [None] * PART_ROWS,
        "source": ["import"] * PART_ROWS, "status": ["kept"] * PART_ROWS, "drop_reason": [None] * PART_ROWS,
    }  # fmt: skip
    both = 2 * PART_ROWS
    responses = {
        "response_id": sides, "prompt_id": np.repeat(prompt_ids, 2), "role": ["candidate"] * both,
        "model": ["a", "b"] * PART_ROWS, "n_tokens": np.zeros(both, int), "finish_reason": ["given"] * both,
        "text": [text for two in zip(chosen, rejected, strict=True) for text in two], "sampling": ["{}"] * both,
    }  # fmt: skip
    scores = {
        "response_id": sides, "scorer": ["imported"] * both, "aspect": ["total"] * both,
        "value": np.column_stack([score, score - gap]).ravel(),
    }  # fmt: skip
    topic = draw.integers(0, 30, PART_ROWS)
    topics = {
        "prompt_id": prompt_ids, "topic": topic, "label": [f"topic {t}" for t in topic],
        **{name: draw.random(PART_ROWS) for name in ("x", "y", "novelty", "overlap", "similarity")},
        "nearest_seed": [None] * PART_ROWS, "nearest_evaluation": [None] * PART_ROWS, "kind": ["written"] * PART_ROWS,
    }  # fmt: skip
    tables = {"pairs": pairs, "prompts": prompts, "responses": responses, "scores": scores, "topics": topics}
    for name, values in tables.items():
        _write_table(run, name, number, values)


def _write_table(run: RunStore, name: str, number: int, values: dict[str, Any]) -> None:
    columns, iteration = schema.arrow_schema(TABLES[name]), 1 + number % 4
    rows = len(next(iter(values.values())))
    whole = values | {"iteration": np.full(rows, iteration)}
    folder = run.folder / name / f"iteration={iteration}"
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({column.name: pa.array(whole[column.name], column.type) for column in columns}, schema=columns)
    write_table(table, folder / f"part-{time.time_ns():020d}-{number:08x}.parquet")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
