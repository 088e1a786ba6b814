"""The columns held in memory say what the parts say, notice new parts, and stay within their bound."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from storage import Store, narrow, queries
from storage.database import Database
from storage.narrow import TEXTS
from storage.pair_filter import PairFilter
from storage.sources import sql_columns
from synpo_lab.records import Pair

TinyStore = Callable[..., Store]
OF_TEXT = PairFilter(where="chosen LIKE '%improved 0.1%'")


@pytest.fixture
def pairs(small_run: list[Any]) -> list[Pair]:
    return [record for record in small_run if isinstance(record, Pair)]


def held(database: Database) -> list[str]:
    return [
        row["name"]
        for row in database.rows("SELECT table_name AS name FROM duckdb_tables() WHERE schema_name = 'narrow'")
    ]


def test_the_columns_are_the_parts_own(tiny_store: TinyStore, small_run: list[Any]) -> None:
    tiny_store(small_run, run_id="other, with 'quotes'".replace("'", "-").replace(", ", "-").replace(" ", "-"))
    database = Database(tiny_store(small_run))
    columns = ", ".join(name for name in [*sql_columns(Pair), "run_id", "part", "place"] if name not in TEXTS)
    sql = f"SELECT {columns} FROM parts.pairs WHERE run_id = 'run' ORDER BY pair_id"
    assert database.pair_rows("run", sql) == database.rows(sql)
    assert len(held(database)) == 1


def test_new_parts_are_noticed_and_the_old_table_goes(
    tiny_store: TinyStore, small_run: list[Any], pairs: list[Pair]
) -> None:
    database = Database(tiny_store(small_run))
    before = sum(row.pairs for row in queries.threshold_counts(database, "run", PairFilter()))
    database.store.run("run").append([replace(pairs[0], pair_id="new", gap=9.0, iteration=2)])
    counts = queries.threshold_counts(database, "run", PairFilter(min_gap=8.0))
    assert (sum(row.pairs for row in counts), sum(row.kept for row in counts)) == (before + 1, 1)
    assert len(held(database)) == 1


def test_a_run_without_pairs_and_no_run_at_all_have_no_rows(tiny_store: TinyStore) -> None:
    database = Database(tiny_store())
    for run_id in ("run", "none", "it's"):
        assert queries.threshold_counts(database, run_id, PairFilter()) == []
        assert queries.rows_of_fate(database, run_id, PairFilter(), None).total == 0
    assert held(database) == []


def test_the_first_pairs_of_a_home_show_at_once(tiny_store: TinyStore, pairs: list[Pair]) -> None:
    database = Database(tiny_store())
    assert queries.threshold_counts(database, "run", PairFilter()) == []
    database.store.run("run").append(pairs[:3])
    assert sum(row.pairs for row in queries.threshold_counts(database, "run", PairFilter())) == 3


def test_a_condition_over_texts_is_asked_of_the_texts(
    tiny_store: TinyStore, small_run: list[Any], pairs: list[Pair]
) -> None:
    database = Database(tiny_store(small_run))
    rules = replace(OF_TEXT, min_gap=-9.0, max_repetition=None)
    kept = {pair.pair_id for pair in pairs if "improved 0.1" in pair.chosen}
    assert kept
    assert {row["pair_id"] for row in queries.rows_of_fate(database, "run", rules, None, limit=99).rows} == kept
    assert sum(row.dropped["condition"] for row in queries.threshold_counts(database, "run", rules)) == len(
        pairs
    ) - len(kept)
    assert sum(queries.histograms(database, "run", rules)["gap"].kept) == len(kept)
    other = PairFilter(min_gap=-9.0, max_repetition=None, where="rejected LIKE '%initial 0.2%'")
    kept_by_other = {pair.pair_id for pair in pairs if "initial 0.2" in pair.rejected}
    for before, after, was, will in (
        (PairFilter(min_gap=None, max_repetition=None), rules, {pair.pair_id for pair in pairs}, kept),
        (rules, other, kept, kept_by_other),
    ):
        change = queries.changed_counts(database, "run", before, after)
        assert (change.added, change.removed) == (len(will - was), len(was - will))
        rows = queries.changed_rows(database, "run", before, after, limit=99).rows
        assert {row["pair_id"] for row in rows} == will ^ was


def test_what_is_held_stays_within_its_bound(
    tiny_store: TinyStore, small_run: list[Any], pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(narrow, "MOST_ROWS", 2 * len(pairs) + 1)
    for name in ("a", "b", "c"):
        store = tiny_store(small_run, run_id=name)
    database = Database(store)
    expected = queries.threshold_counts(database, "a", PairFilter())
    for name in ("b", "c", "a", "c", "b"):
        assert queries.threshold_counts(database, name, PairFilter()) == expected
        assert len(held(database)) <= 2
    monkeypatch.setattr(narrow, "MOST_ROWS", len(pairs) - 1)
    fresh = Database(store)
    assert queries.threshold_counts(fresh, "a", PairFilter()) == expected
    assert queries.histograms(fresh, "a", PairFilter()) == queries.histograms(database, "a", PairFilter())
    assert held(fresh) == []
