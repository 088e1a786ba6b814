"""Every record type goes to disk and comes back the same."""

import math
import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from storage import StorageFault, Store, schema
from synpo_lab.records import TABLES, Note, Score

TEXT = st.one_of(
    st.text(),  # every character but surrogates
    st.sampled_from(["", "\x00", "a\x00b", "\n\r\t", "🦉", "e\u0301", "\u202eright to left", "'; DROP TABLE runs; --"]),
)
INTEGERS = st.integers(-(2**63), 2**63 - 1)
FLOATS = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0, math.inf, -math.inf, 5e-324, 1.7976931348623157e308])


def records(kind: type) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    return st.builds(kind, **{field.name: values(hints[field.name]) for field in fields(kind)}).map(_in_one_place)


def values(hint: Any) -> st.SearchStrategy[Any]:
    if typing.get_origin(hint) in {types.UnionType, typing.Union}:
        return st.one_of([st.none() if part is type(None) else values(part) for part in typing.get_args(hint)])
    if typing.get_origin(hint) is Literal:
        return st.sampled_from(typing.get_args(hint))
    known = {str: TEXT, int: INTEGERS, float: FLOATS, bool: st.booleans(), list[str]: st.lists(TEXT, max_size=4)}
    return known[hint]


def _in_one_place(record: Any) -> Any:
    return replace(record, iteration=abs(record.iteration) % 3) if hasattr(record, "iteration") else record


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    root = tmp_path_factory.mktemp("homes")
    return (root / str(i) for i in range(10**6))


@pytest.mark.parametrize("kind", TABLES.values())
@given(data=st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_records_come_back_as_they_were_written(kind: type, data: st.DataObject, homes: Iterator[Path]) -> None:
    wanted = data.draw(st.lists(records(kind), max_size=5, unique_by=schema.fingerprint))
    run = Store(next(homes), TABLES).create_run("run", "recipe: synpo", {})
    assert run.append(wanted) == len(wanted)
    assert sorted(run.read(kind), key=repr) == sorted(wanted, key=repr)
    assert run.ids(kind) == {getattr(record, kind.key) for record in wanted}


@given(note=st.builds(Note, TEXT, st.sampled_from(["tie", ""]), TEXT, TEXT, st.floats(0, 4e9)))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_notes_come_back_as_they_were_written(note: Note, homes: Iterator[Path]) -> None:
    store = Store(next(homes), TABLES)
    store.append_note(note)
    assert store.notes(Note) == [note]


def test_a_score_that_is_no_number_stays_one(tmp_path: Path) -> None:
    run = Store(tmp_path, TABLES).create_run("run", "", {})
    run.append([Score(1, "r", "rubric", "total", math.nan)])
    (score,) = run.read(Score)
    assert math.isnan(score.value)


@given(st.text(st.characters(codec="utf-8") | st.characters(categories=["Cs"])))
@example("\ud83e\udd89")
@example("\ud83e")
@example("\udd89\ud83ea")
@settings(max_examples=100)
def test_any_text_becomes_unicode_and_unicode_is_left_alone(text: str) -> None:
    whole = schema.whole_text(text)
    whole.encode("utf-8")
    if not any("\ud800" <= letter <= "\udfff" for letter in text):
        assert whole == text


def test_halves_of_a_character_are_joined_and_lone_ones_replaced() -> None:
    assert schema.whole_text("a\ud83e\udd89b") == "a🦉b"
    assert schema.whole_text("a\ud83eb\udd89") == "a\ufffdb\ufffd"


def test_lone_surrogates_in_text_lists_and_optionals_are_replaced(tmp_path: Path) -> None:
    @dataclass(frozen=True, slots=True)
    class Odd:
        key: ClassVar[str] = "name"
        name: str
        words: list[str]
        maybe: str | None

    run = Store(tmp_path, {"odd": Odd}).create_run("run", "title: '\ud800'", {"title": "\ud800"})
    run.append([Odd("a\ud800", ["b", "\udfff"], None), Odd("b", [], "\ud8ff")])
    assert list(run.read(Odd)) == [Odd("a\ufffd", ["b", "\ufffd"], None), Odd("b", [], "\ufffd")]


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (Score(2**70, "r", "s", "total", 0.5), "iteration"),
        (Score(1, None, "s", "total", 0.5), "response_id"),  # type: ignore[arg-type]
        (Score(1, "r", "s", "total", "high"), "value"),  # type: ignore[arg-type]
        (Score(1, "r", 5, "total", 0.5), "scorer"),  # type: ignore[arg-type]
    ],
)
def test_a_value_of_another_type_is_refused_by_the_name_of_its_field(tmp_path: Path, record: Score, field: str) -> None:
    run = Store(tmp_path, TABLES).create_run("run", "", {})
    with pytest.raises(StorageFault, match=f"Score.{field}"):
        run.append([record])
    assert list(run.read(Score)) == []


def test_a_field_type_that_cannot_be_stored_is_named() -> None:
    @dataclass
    class Nested:
        inner: dict[str, int]

    with pytest.raises(TypeError, match="inner"):
        schema.arrow_schema(Nested)


def test_a_schema_names_types_and_which_may_be_missing() -> None:
    @dataclass
    class Thing:
        name: Literal["a", "b"]
        words: list[str]
        size: float | None = None

    assert schema.arrow_schema(Thing) == pa.schema(
        [pa.field("name", pa.string(), False), pa.field("words", pa.list_(pa.string()), False), ("size", pa.float64())]
    )
    assert list(schema.from_batch(pa.table({"name": ["a"], "words": [["b"]]}), Thing)) == [Thing("a", ["b"])]
