"""A result's chart: the right columns, the right kind, every value in its place, nothing a visitor's data can break."""

import pytest

from pages.result_chart import ROWS, axes_of, draw, kind_for
from storage.sandbox import QueryResult


def result(**columns: list[object]) -> QueryResult:
    kinds = {int: "BIGINT", float: "DOUBLE", str: "VARCHAR", bool: "BOOLEAN", list: "DOUBLE[]"}
    types = [kinds[type(next(value for value in values if value is not None))] for values in columns.values()]
    rows = [list(row) for row in zip(*columns.values(), strict=True)]
    return QueryResult(list(columns), types, rows, 0.1, False)


@pytest.mark.parametrize(
    ("found", "x", "y", "kind"),
    [
        (result(iteration=[1, 2, 3], wins=[0.5, 0.6, 0.7]), "iteration", ["wins"], "line"),
        (result(gap=[0.4, 0.1], length=[10, 20]), "gap", ["length"], "points"),
        (result(policy=["a", "b"], n=[9, 9], iteration=[1, 2], wins=[0.5, 0.6]), "iteration", ["wins"], "line"),
        (result(reason=["gap", "length"], pairs=[3, 4]), "reason", ["pairs"], "bars"),
        (result(gap=[0.4, 0.1]), ROWS, ["gap"], "histogram"),
        (result(word=["a", "b"]), "word", [], "histogram"),
        (result(vector=[[0.1], [0.2]], n=[1, 2]), "vector", ["n"], "bars"),
    ],
)
def test_columns_and_kind_suit_the_result(found: QueryResult, x: str, y: list[str], kind: str) -> None:
    assert axes_of(found) == (x, y)
    assert kind_for(found, x, y) == kind
    drawn = draw(found, "auto", x, y)
    assert drawn.layout.title.text
    assert drawn.layout.xaxis.title.text
    assert drawn.layout.yaxis.title.text
    assert len(drawn.data) == 1


def test_every_value_is_drawn_in_its_place() -> None:
    drawn = draw(result(t=[1, 2, 3], a=[0.5, None, 0.7], b=[1, 2, 3]), "points", "t", ["a", "b"])
    assert [list(trace.y) for trace in drawn.data] == [[0.5, None, 0.7], [1, 2, 3]]
    assert all(list(trace.x) == [1, 2, 3] for trace in drawn.data)
    assert drawn.layout.showlegend


def test_many_bars_are_cut_and_the_title_says_so() -> None:
    drawn = draw(result(word=[f"w{i}" for i in range(100)], n=list(range(100))), "auto", "word", ["n"])
    assert len(drawn.data[0].x) == 60
    assert "first 60 of 100 rows" in drawn.layout.title.text


def test_text_of_the_data_is_no_markup_in_a_label() -> None:
    drawn = draw(result(word=["<a href='javascript:x'>y</a>"], n=[1]), "bars", "word", ["n"])
    assert "<" not in drawn.data[0].x[0]
