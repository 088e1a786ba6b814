"""What is read out of a SELECT says the same as the SELECT."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

from storage import Database, Store
from storage.errors import SQLFault
from storage.sql_text import condition_on_pairs, duckdb_script, run_of_query, tables_of

TinyStore = Callable[..., Store]


@pytest.fixture
def database(tiny_store: TinyStore, small_run: list[Any]) -> Iterator[Database]:
    opened = Database(tiny_store(small_run, run_id="one; --'"[:3]))
    yield opened
    opened.close()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM pairs WHERE gap > 0.3",
        "SELECT p.pair_id FROM pairs AS p WHERE p.gap > 0.1 AND p.len_chosen < 2 * p.len_rejected ORDER BY 1",
        "FROM pairs WHERE kept OR drop_reason = 'gap'",
        "SELECT count(*) FROM pairs WHERE run_id = 'one' AND chosen ILIKE '%improved 0.1%' AND iteration IN (1, 2);",
        "SELECT * FROM pairs WHERE CASE WHEN gap > 0 THEN repetition < 0.5 ELSE NOT kept END",
    ],
)
def test_a_querys_condition_keeps_the_rows_the_query_keeps(database: Database, sql: str) -> None:
    condition = condition_on_pairs(sql)
    where = sql.rstrip(";").partition("WHERE ")[2].partition(" ORDER")[0].replace("p.", "")
    asked = database.rows(f"SELECT pair_id FROM pairs WHERE {where} ORDER BY 1")
    assert database.rows(f"SELECT pair_id FROM pairs WHERE {condition} ORDER BY 1") == asked
    assert asked
    assert "run_id" not in condition
    assert "p." not in condition


@pytest.mark.parametrize(
    ("sql", "what"),
    [
        ("SELECT 1", "only a query over the table pairs"),
        ("SELECT * FROM prompts WHERE iteration = 1", "only a query over the table pairs"),
        ("SELECT * FROM pairs JOIN scores USING (run_id) WHERE gap > 0", "only a query over the table pairs"),
        ("SELECT * FROM pairs", "no condition"),
        ("SELECT * FROM pairs WHERE run_id = 'x'", "no condition"),
        ("SELECT iteration, count(*) FROM pairs WHERE gap > 0 GROUP BY 1", "groups"),
        ("SELECT * FROM pairs WHERE gap > 0 QUALIFY row_number() OVER () < 3", "groups"),
        ("SELECT * FROM pairs WHERE gap > 0 ORDER BY gap LIMIT 3", "LIMIT or OFFSET cannot"),
        ("SELECT * FROM pairs WHERE gap > 0 OFFSET 3", "LIMIT or OFFSET cannot"),
        ("SELECT DISTINCT ON (prompt_id) * FROM pairs WHERE gap > 0", "DISTINCT cannot"),
        ("WITH pairs AS (SELECT * FROM pairs WHERE kept) SELECT * FROM pairs WHERE gap > 0", "a WITH"),
        ("SELECT * FROM pairs WHERE gap > 0 USING SAMPLE 3", "a sample"),
        ("SELECT * FROM pairs TABLESAMPLE 3 WHERE gap > 0", "a sample"),
        ("SELECT * FROM pairs AS p(gap, iteration) WHERE gap = 1", "renamed columns"),
        ("SELECT * FROM pairs WHERE gap > 0; SELECT 1", "not one SELECT"),
        ("DELETE FROM pairs", "SELECT"),
        ("WHERE", "syntax error"),
        ("", "not one SELECT"),
    ],
)
def test_a_query_that_makes_no_filter_is_refused_with_a_hint(sql: str, what: str) -> None:
    with pytest.raises(SQLFault, match=what) as fault:
        condition_on_pairs(sql)
    assert fault.value.hint


def test_the_run_a_query_names_is_taken_from_it() -> None:
    assert run_of_query("SELECT * FROM pairs AS p WHERE gap > 0 AND 'one' = p.run_id") == "one"
    assert run_of_query("SELECT * FROM pairs WHERE gap > 0") is None
    with pytest.raises(SQLFault, match="two runs"):
        run_of_query("SELECT * FROM pairs WHERE run_id = 'one' AND run_id = 'two' AND gap > 0")


def test_a_run_that_is_not_named_by_its_id_stays_in_the_condition() -> None:
    assert "run_id" in condition_on_pairs("SELECT * FROM pairs WHERE gap > 0 AND run_id = lower('ONE')")


def test_tables_are_found_wherever_they_stand() -> None:
    sql = "WITH a AS (SELECT * FROM Scores) SELECT * FROM a JOIN pairs ON true WHERE x IN (SELECT 1 FROM runs)"
    assert tables_of(sql) == {"scores", "pairs", "runs"}
    assert tables_of("SELECT 1") == set()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT count(*), sum(gap) FROM pairs WHERE kept",
        "SELECT run_id, recipe, state FROM runs ORDER BY 1",
        "SELECT r.run_id, count(*) FROM runs AS r JOIN prompts USING (run_id) GROUP BY 1 ORDER BY 1;",
        "SELECT message FROM events",
        "SELECT 7",
    ],
)
def test_the_script_asks_the_same_of_the_files_alone(
    database: Database, sql: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = duckdb_script(database.store, database.run_rows(), sql)
    monkeypatch.chdir(database.store.home)
    with duckdb.connect() as plain:
        found = plain.execute(text).fetchall()
    assert found == [tuple(row.values()) for row in database.rows(sql.rstrip(";"))]
    assert str(tmp_path) not in text
    assert os.sep + "lab" not in text


def test_the_script_makes_only_the_views_it_needs(database: Database) -> None:
    text = duckdb_script(database.store, database.run_rows(), "SELECT * FROM scores")
    assert "CREATE OR REPLACE VIEW scores" in text
    assert "pairs" not in text
    assert "INSERT" not in text
