"""One filter: in SQL with bound values, in SQL written out, over records, over a store, and in plain Python."""

import math
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import StorageFault, Store
from storage.condition import alone
from storage.database import Database
from storage.pair_filter import NO_RULES, REASONS, PairFilter, drop_reasons, filter_sql, kept_sql, reason_code_sql
from storage.queries import PairQuery, pairs_page
from synpo_lab.config import FilterConfig
from synpo_lab.records import TABLES, Note, Pair
from tests.reference_filter import drop_reason

ODD = st.sampled_from([0.0, 0.02, 0.1, -0.5, 0.30000000000000004, 0.1234567890123456, 1e300, 5e-324])
SCORES = st.none() | ODD | st.sampled_from([math.nan, math.inf, -math.inf]) | st.floats()
SHARES = st.sampled_from([0.0, 0.5, 0.7, 1.0]) | st.floats(0, 1)
CUTS = st.none() | ODD | st.floats(-2, 2, allow_nan=False)
RATIOS = st.none() | st.sampled_from([1.0, 1.5, 0.1 + 0.2]) | st.floats(0.001, 100)
CONDITIONS = [None, None, "len_chosen < 50", "NOT duplicate OR gap > 0.1", "chosen = 'it''s $min_gap'", "gap IS NULL"]
PAIRS = st.builds(
    Pair,
    st.just(1), st.uuids().map(str), st.just("p"), st.text(max_size=3), st.just("c"), st.just("r"),
    st.sampled_from(["it's $min_gap", "x"]), st.text(max_size=3), SCORES, SCORES, SCORES, st.integers(0, 10**6),
    st.integers(0, 100), SHARES | st.just(math.nan), st.just(False), st.none(), st.none() | SHARES, st.booleans(),
)  # fmt: skip
RULES = st.builds(
    FilterConfig, min_gap=CUTS, max_gap=CUTS, min_chosen_score=CUTS, max_length_ratio=RATIOS, min_length_ratio=RATIOS,
    max_repetition=st.none() | SHARES, max_similarity=st.none() | SHARES, drop_duplicates=st.booleans(),
    verdicts=st.lists(st.sampled_from(["bad", "rejected", "tie"]), unique=True, max_size=2),
    where=st.sampled_from(CONDITIONS),
)  # fmt: skip


def as_filter(rules: FilterConfig) -> PairFilter:
    return PairFilter(**rules.model_dump())


def test_the_rules_are_those_of_the_config_with_the_same_defaults() -> None:
    assert {field.name for field in fields(PairFilter)} == set(FilterConfig.model_fields)
    assert as_filter(FilterConfig()) == PairFilter()
    assert PairFilter(where="  ") == PairFilter()


@given(st.lists(PAIRS, min_size=1, max_size=8), RULES)
def test_the_filter_means_what_it_says_in_plain_python(pairs: list[Pair], rules: FilterConfig) -> None:
    by_hand = rules.model_copy(update={"where": None, "verdicts": []})
    found = drop_reasons(pairs, as_filter(by_hand))
    assert found == [drop_reason(pair, by_hand) for pair in pairs]
    assert {reason for reason in found if reason} <= set(REASONS)


@given(st.lists(PAIRS, min_size=1, max_size=8), RULES, st.data())
def test_the_sql_that_is_shown_keeps_what_the_bound_one_keeps(
    pairs: list[Pair], rules: FilterConfig, data: st.DataObject
) -> None:
    told = as_filter(rules)
    verdicts = data.draw(st.lists(st.sampled_from(["bad", "tie", "chosen"]), min_size=len(pairs), max_size=len(pairs)))
    notes = [Note(pair.pair_id, verdict, "", "ana", 1.0) for pair, verdict in zip(pairs, verdicts, strict=True)]  # type: ignore[arg-type]
    kept = [
        pair.pair_id for pair, reason in zip(pairs, drop_reasons(pairs, told, notes), strict=True) if reason is None
    ]
    assert kept_ids(pairs, notes, kept_sql(told, "it's")) == sorted(kept)


def kept_ids(pairs: list[Pair], notes: list[Note], sql: str) -> list[str]:
    import pyarrow as pa

    from storage import schema

    rows = pa.Table.from_batches([schema.to_batch(pairs, Pair)])
    with alone() as connection:
        connection.register("notes", pa.Table.from_batches([schema.to_batch(notes, Note)]))
        connection.register("pairs", rows.append_column("run_id", pa.array(["it's"] * len(rows))))
        return sorted(pair_id for (pair_id,) in connection.execute(sql).fetchall())


@given(RULES)
def test_a_filter_says_which_columns_it_looks_at(rules: FilterConfig) -> None:
    told = as_filter(rules)
    with alone() as connection:
        connection.execute("CREATE TABLE notes (pair_id VARCHAR, verdict VARCHAR)")
        columns = ", ".join(sorted(told.columns())) or "gap"
        sql = f"SELECT {filter_sql(told, 'a_')} FROM (SELECT {columns} FROM nothing)"
        connection.execute(sql, told.bound("a_")).fetchall()


@given(st.lists(PAIRS, min_size=1, max_size=8), RULES)
def test_a_reason_as_a_number_is_its_place_among_the_reasons(pairs: list[Pair], rules: FilterConfig) -> None:
    import pyarrow as pa

    from storage import schema

    told = as_filter(rules.model_copy(update={"verdicts": []}))
    with alone() as connection:
        connection.register("pairs", pa.Table.from_batches([schema.to_batch(pairs, Pair)]))
        sql = f"SELECT {filter_sql(told)}, {reason_code_sql(told)} FROM pairs"
        for reason, code in connection.execute(sql, told.bound()).fetchall():
            assert reason == (None if code is None else REASONS[int(code)])


def test_no_rules_keep_everything_and_say_so_in_sql() -> None:
    pair = Pair(1, "i", "p", "", "c", "r", "", "", None, None, None, 0, 0, 1.0, False, None)
    assert drop_reasons([pair], NO_RULES) == [None]
    assert NO_RULES.columns() == frozenset()
    for none in (NO_RULES, replace(NO_RULES, verdicts=())):
        assert kept_sql(none, "a") == "SELECT pair_id\nFROM pairs\nWHERE run_id = 'a'"


def test_a_condition_that_is_none_is_refused_before_anything_runs() -> None:
    with pytest.raises(StorageFault, match="cannot be part of a condition"):
        filter_sql(PairFilter(where="(SELECT true)"))


@pytest.fixture
def opened(tmp_path: Any, small_run: list[Any]) -> Iterator[Database]:
    store = Store(tmp_path / "lab", TABLES)
    store.create_run("run", "recipe: synpo\n", {}).append(small_run)
    database = Database(store)
    yield database
    database.close()


@pytest.mark.parametrize("verdicts", [(), ("bad",), ("bad", "tie")])
def test_a_store_is_filtered_as_its_records_are(
    opened: Database, small_run: list[Any], verdicts: tuple[str, ...]
) -> None:
    pairs = [record for record in small_run if isinstance(record, Pair)]
    for i, pair in enumerate(pairs[::3]):
        opened.store.append_note(Note(pair.pair_id, ("bad", "tie", "chosen")[i % 3], "", "ana", float(i)))  # type: ignore[arg-type]
    rules = replace(PairFilter(min_gap=0.1, where="chosen LIKE '%improved%'"), verdicts=verdicts)
    kept = {
        pair.pair_id
        for pair, reason in zip(pairs, drop_reasons(pairs, rules, opened.store.notes(Note)), strict=True)
        if reason is None
    }
    page = pairs_page(opened, "run", PairQuery(rules=rules), limit=500)
    assert {row["pair_id"] for row in page.rows} == kept
    assert {row["pair_id"] for row in opened.rows(kept_sql(rules, "run"))} == kept
