"""The free condition of a filter: what is let through means what it says, and nothing else is let through."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import StorageFault, sources
from storage.catalogue import public_views
from storage.condition import COLUMNS, DECIDED, FUNCTIONS, alone, columns_of, condition_sql
from synpo_lab.records import Pair


def test_the_columns_are_those_of_the_public_table() -> None:
    kinds = sources.sql_columns(Pair)
    assert set(COLUMNS) == set(public_views()["pairs"].columns) - DECIDED
    assert {name: kinds[name] for name in COLUMNS} == COLUMNS


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("gap > 0.3", {"gap"}),
        ("gap > 0.3 -- said so", {"gap"}),
        ('pairs.gap > 0.3 AND "GAP" < 1', {"gap"}),
        ("gap > 1 AS good", {"gap"}),
        ("gap BETWEEN 1 AND 2 OR NOT duplicate", {"gap", "duplicate"}),
        ("prompt ILIKE '%poem%' AND chosen NOT LIKE '%$min_gap; DROP%'", {"prompt", "chosen"}),
        ("len(string_split(chosen, ' ')) < 300", {"chosen"}),
        ("CASE WHEN similarity > 0.5 THEN true ELSE iteration IN (1, 2) END", {"similarity", "iteration"}),
        ("CAST(prompt AS INTEGER) = 3", {"prompt"}),
        ("hash(pair_id) % 10 = 0", {"pair_id"}),
        ("regexp_matches(prompt, '^what') AND messages IS NULL", {"prompt", "messages"}),
        ("gap IS DISTINCT FROM 3 AND coalesce(gap, 0) > -1", {"gap"}),
        ("(" * 200 + "gap > 1" + ")" * 200, {"gap"}),
        ("true", set()),
        ("'; DROP TABLE pairs; --' = prompt", {"prompt"}),
        ("prompt = '' OR chosen = '🙂 \u202e'", {"prompt", "chosen"}),
    ],
)
def test_a_condition_is_written_again_from_what_was_understood(text: str, columns: set[str]) -> None:
    assert columns_of(text) == columns
    with alone() as connection:
        connection.execute(f"SELECT {condition_sql(text)} FROM nothing").fetchall()
    assert columns_of(condition_sql(text).removeprefix("TRY")) == columns  # what is shown can be typed in again


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("gap >", "cannot be read"),
        ("gap > 1)) OR ((1 = 1", "cannot be read"),
        ("gap > 1 /*", "cannot be read"),
        ("gap\x00 > 1", "NUL"),
        ("\ud800", "cannot be read"),
        ("gap > 1; SELECT 2", "not one condition"),
        ("gap > 1; DROP TABLE pairs", "cannot be read"),
        ("gap > 1, 2", "not one condition"),
        ("gap > 1 FROM notes", "a query"),
        ("gap > 1 WHERE true", "a query"),
        ("gap > 1 LIMIT 5", "a query"),
        ("gap > 1 USING SAMPLE 1", "a query"),
        ("DISTINCT gap > 1", "a query"),
        ("gap > 1 UNION SELECT true", "not one condition"),
        ("*", r"\* cannot be part"),
        ("COLUMNS('gap') > 1", r"\* cannot be part"),
        ("(SELECT true)", "a subquery"),
        ("gap IN (SELECT 1)", "a subquery"),
        ("EXISTS(SELECT 1 FROM read_text('/etc/passwd'))", "a subquery"),
        ("row_number() OVER () > 1", "a window function"),
        ("gap > $gap", "a parameter"),
        ("gap > ?", "a parameter"),
        ("#1 > 2", "positional"),
        ("len(list_filter([1], lambda x: x > 1)) > 0", "the function 'list_filter'"),
        ("read_text('/etc/passwd') = ''", "the function 'read_text'"),
        ("getenv('HOME') = ''", "the function 'getenv'"),
        ("len(repeat('x', 100000000000)) > 1", "the function 'repeat'"),
        ("random() > 0.5", "the function 'random'"),
        ("sum(gap) > 1", "the function 'sum'"),
        ("unnest([true])", "the function 'unnest'"),
        ("main.lower(prompt) = ''", "the function 'lower'"),
        ("prompt COLLATE nocase = 'x'", "collate"),
        ("gap::DECIMAL(10, 2) > 1", "a cast to DECIMAL"),
        ("x'ff' = prompt", "numbers, texts"),
        ("kept", "what it is asked of, or what it decides"),
        ("run_id = 'a'", "what it is asked of"),
        ("drop_reason IS NULL", "what it is asked of"),
        ("gab > 1", "no column 'gab'"),
        ("notes.gap > 1", "no column 'notes.gap'"),
        ("rowid = 1", "no column 'rowid'"),
        ("gap", "gives DOUBLE"),
        ("'true'", "gives VARCHAR"),
        ("gap + 'abc' > 1", "does not fit"),
        ("prompt ~ '('", "does not fit"),
        ("lower(gap, 1) = ''", "does not fit"),
        ("gap > 1 OR " * 200 + "true", "characters long"),
    ],
)
def test_anything_else_is_refused_with_a_hint(text: str, told: str) -> None:
    with pytest.raises(StorageFault, match=told) as caught:
        condition_sql(text)
    assert caught.value.hint


def test_every_function_allowed_is_a_pure_one_of_one_row() -> None:
    with alone() as connection:
        rows = connection.execute("SELECT function_name, function_type, stability FROM duckdb_functions()").fetchall()
    known = {}
    for name, kind, stability in rows:
        known.setdefault(name, set()).add((kind, stability))
    plain = {name for name in FUNCTIONS if re.fullmatch(r"\w+", name)} - {"if"}  # `if` is a form of CASE
    assert plain <= known.keys()
    for name in plain:
        assert {kind for kind, _ in known[name]} <= {"scalar", "macro"}, name
        assert {stability for _, stability in known[name]} <= {"CONSISTENT", None}, name


@given(st.text(max_size=40))
def test_any_text_is_taken_or_refused(text: str) -> None:
    try:
        understood = condition_sql(text)
    except StorageFault as fault:
        understood = fault.hint
    assert understood.startswith(("TRY(", "write one", "the columns", "these can", "cast to"))
