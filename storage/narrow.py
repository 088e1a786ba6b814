"""A run's pairs without their texts, held in memory: what sliders, sorting and paging over a million pairs read.

Read from the parts when first asked for, and again when the run has other parts. The tables asked for longest ago are
let go of when all together have more than MOST_ROWS rows, about 150 bytes each. A run with more alone is never held: it
is read from its parts as ever, with the same columns.

Beside the columns of `parts.pairs` that are no texts there are a `bin_*` for each of NUMBERS, which says in which of BINS
equal bins its number lies (NULL: no finite number), and `meets`: whether a free condition over texts is true.

Of the last few searches in texts the pairs that were found are held too, by iteration and id.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

import duckdb

from storage.pair_filter import PairFilter, condition_over
from storage.parts import Stamp, stamp_of
from storage.quoting import enum, quoted

MOST_ROWS = 3_000_000
BINS = 40
TEXTS = frozenset({"prompt", "chosen", "rejected", "chosen_id", "rejected_id", "messages"})  # not held
PAIRS = "parts.pairs"
FOUND = "parts.found"
SEARCH = """(contains(lower(prompt), lower($search)) OR contains(lower(chosen), lower($search))
    OR contains(lower(rejected), lower($search)))"""
MOST_SEARCHES = 8
NUMBERS = {
    "gap": "gap",
    "chosen_score": "chosen_score",
    "length_ratio": "log2(nullif(len_chosen, 0) / nullif(len_rejected, 0))",
    "repetition": "repetition",
    "similarity": "similarity",
}

Key = tuple[str, str | None]  # a run's id, and a condition over texts as SQL


@dataclass(frozen=True, slots=True)
class Scale:
    """Where the bins of a number lie: bin i begins at low + i x width. None: no pair has that number."""

    low: float
    width: float

    def edges(self) -> list[float]:
        return [self.low + i * self.width for i in range(BINS + 1)]


@dataclass(frozen=True, slots=True)
class Narrow:
    """What to read a run's pairs from: SQL for after FROM, and the scales of its bins."""

    source: str
    scales: dict[str, Scale | None]
    stamp: Stamp
    rows: int  # held in memory; 0 when nothing is
    known: dict[Any, Any] = field(default_factory=dict, compare=False)  # answers that hold as long as this does


class NarrowPairs:
    """The tables held for one connection. Safe to ask from several threads."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, runs_folder: Path) -> None:
        self._connection = connection
        self._runs = runs_folder
        self._held: OrderedDict[Key, Narrow] = OrderedDict()
        self._found: OrderedDict[tuple[str, str], tuple[str, Stamp]] = OrderedDict()
        self._made = 0
        self._lock = threading.Lock()

    def of(self, run_id: str, rules: PairFilter | None = None) -> Narrow:
        """The run's pairs, with `meets` for the condition of `rules` where it is one over texts."""
        key = (run_id, over_texts(rules) if rules else None)
        stamp = stamp_of(self._runs / run_id, "pairs")
        with self._lock:
            held = self._held.get(key)
            if held is None or held.stamp != stamp:
                held = self._load(key, stamp)
            self._held.move_to_end(key)
            return held

    def found(self, run_id: str, search: str) -> str:
        """The table of (iteration, pair_id) of the pairs of a run that have a text somewhere, whatever the case."""
        key, stamp = (run_id, search), stamp_of(self._runs / run_id, "pairs")
        with self._lock:
            held = self._found.get(key)
            if held is None or held[1] != stamp:
                self._found[key] = held = (self._look(run_id, search), stamp)
            self._found.move_to_end(key)
            return held[0]

    def _look(self, run_id: str, search: str) -> str:
        with self._connection.cursor() as cursor:
            while len(self._found) >= MOST_SEARCHES:
                cursor.execute(f"DROP TABLE {self._found.popitem(last=False)[1][0]}")
            self._made += 1
            table = f"narrow.found_{self._made}"
            cursor.execute("CREATE SCHEMA IF NOT EXISTS narrow")
            cursor.execute(f"CREATE TABLE {table} AS {_FOUND}", {"run_id": run_id, "search": search})
            return table

    def forget(self) -> None:
        """Let go of everything."""
        with self._lock, self._connection.cursor() as cursor:
            for key in list(self._held):
                self._drop(cursor, key)
            for table, _ in self._found.values():
                cursor.execute(f"DROP TABLE {table}")
            self._found.clear()

    def _load(self, key: Key, stamp: Stamp) -> Narrow:
        with self._connection.cursor() as cursor:
            self._drop(cursor, key)
            rows, *ends = cursor.execute(_BOUNDS, {"run_id": key[0]}).fetchall()[0]
            scales = {name: _scale(*ends[2 * i : 2 * i + 2]) for i, name in enumerate(NUMBERS)}
            selected = _select(key, scales)
            if not 0 < rows <= MOST_ROWS:
                source, rows = f"({selected})", 0
            else:
                self._make_room(cursor, rows)
                source = self._fill(cursor, key[0], selected)
            self._held[key] = Narrow(source, scales, stamp, rows)
            return self._held[key]

    def _fill(self, cursor: duckdb.DuckDBPyConnection, run_id: str, selected: str) -> str:
        self._made += 1
        table = f"narrow.pairs_{self._made}"
        parts = [part for (part,) in cursor.execute(_PARTS, {"run_id": run_id}).fetchall()]
        # As one name out of few, a run's id and a part's path weigh one or two bytes a row.
        few = f"CAST(run_id AS {enum([run_id])}) AS run_id, CAST(part AS {enum(parts)}) AS part"
        small = "CAST(place AS INTEGER) AS place"
        cursor.execute("CREATE SCHEMA IF NOT EXISTS narrow")
        cursor.execute(f"CREATE TABLE {table} AS SELECT * REPLACE ({few}, {small}) FROM ({selected})")
        return table

    def _make_room(self, cursor: duckdb.DuckDBPyConnection, rows: int) -> None:
        while self._held and rows + sum(held.rows for held in self._held.values()) > MOST_ROWS:
            self._drop(cursor, next(iter(self._held)))

    def _drop(self, cursor: duckdb.DuckDBPyConnection, key: Key) -> None:
        held = self._held.pop(key, None)
        if held is not None and held.rows:
            cursor.execute(f"DROP TABLE {held.source}")


def over_texts(rules: PairFilter) -> str | None:
    """The condition of a filter as SQL, if it reads what is not held."""
    named, sql = condition_over(rules)
    return sql if named & TEXTS else None


def _ends(number: str) -> str:
    return f"min({number}) FILTER (isfinite({number})), max({number}) FILTER (isfinite({number}))"


_BOUNDS = f"SELECT count(*), {', '.join(map(_ends, NUMBERS.values()))} FROM {PAIRS} WHERE run_id = $run_id"
_FOUND = f"SELECT iteration, pair_id FROM {PAIRS} WHERE run_id = $run_id AND {SEARCH}"
_PARTS = f"SELECT DISTINCT part FROM {PAIRS} WHERE run_id = $run_id ORDER BY part"


def _scale(low: float | None, high: float | None) -> Scale | None:
    if low is None or high is None or not isfinite(high - low):
        return None
    return Scale(low, (high - low) / BINS or 1 / BINS)


def _select(key: Key, scales: dict[str, Scale | None]) -> str:
    run_id, condition = key
    bins = (f"{_bin(NUMBERS[name], scale)} AS bin_{name}" for name, scale in scales.items())
    return f"""
SELECT * EXCLUDE ({", ".join(sorted(TEXTS))}) REPLACE (coalesce(duplicate, false) AS duplicate),
    {", ".join(bins)}, {f"{condition} IS TRUE" if condition else "true"} AS meets
FROM {PAIRS}
WHERE run_id = {quoted(run_id)}"""


def _bin(number: str, scale: Scale | None) -> str:
    """The division may land one bin beside the one between whose edges the number lies: those are what is shown."""
    if scale is None:
        return "CAST(NULL AS UTINYINT)"
    low, width = f"CAST('{scale.low!r}' AS DOUBLE)", f"CAST('{scale.width!r}' AS DOUBLE)"
    guess = f"floor(({number} - {low}) / {width})"
    return f"""CAST(CASE WHEN isfinite({number}) THEN greatest(0, least({BINS - 1}, {guess} + CASE
        WHEN {number} < {low} + {guess} * {width} THEN -1
        WHEN {number} >= {low} + ({guess} + 1) * {width} THEN 1
        ELSE 0
    END)) END AS UTINYINT)"""
