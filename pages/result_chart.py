"""A chart of what a query gave: the visitor picks columns and a kind, or takes what suits the columns."""

import html
import itertools
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from pages.charts import figure_of
from storage.sandbox import QueryResult

KINDS = ("auto", "bars", "line", "points", "histogram")
ROWS = "row"  # in place of a column: the row's number
NUMBERS = ("INT", "DOUBLE", "FLOAT", "DECIMAL", "HUGEINT")
MOST_BARS, MOST_SERIES = 60, 6
LONGEST = 40  # characters of a label
TIMES = ("iteration", "step")  # what runs across where it is there


def is_number(kind: str) -> bool:
    """Whether a DuckDB type is drawn as a number."""
    return "[" not in kind and (kind.endswith(NUMBERS) or kind.startswith("DECIMAL"))


def axes_of(found: QueryResult) -> tuple[str, list[str]]:
    """The columns to draw when nothing is picked: time if there is one, else what names the rows; and a measurement."""
    kinds = dict(zip(found.columns, found.types, strict=True))
    numbers = [name for name, kind in kinds.items() if is_number(kind)]
    names = [name for name in kinds if name not in numbers]
    x = next((name for name in TIMES if name in numbers and len(numbers) > 1), None) or next(iter(names), None)
    if x is None:
        x = numbers[0] if len(numbers) > 1 else ROWS
    others = [name for name in numbers if name != x]
    fractions = [name for name in others if not kinds[name].endswith("INT")]
    return x, (fractions or others)[:1]


def kind_for(found: QueryResult, x: str, y: Sequence[str]) -> str:
    """What suits the columns: a histogram for one column of numbers, a line over numbers in order, else points or bars."""
    if not y or x == ROWS:
        return "histogram"
    values = _column(found, x)
    if not _numeric(found, x):
        return "bars"
    rising = all(left <= right for left, right in itertools.pairwise(values) if None not in (left, right))
    return "line" if rising and len(set(values)) == len(values) else "points"


def draw(found: QueryResult, kind: str, x: str, y: Sequence[str]) -> go.Figure:
    """The chart; at most 60 bars and 6 series, and its title says so when there is more."""
    chosen = kind_for(found, x, y) if kind == "auto" else kind
    series = list(y)[:MOST_SERIES]
    if chosen == "histogram":
        return _histogram(found, series or [x])
    return _against(found, chosen, x, series)


def _histogram(found: QueryResult, names: Sequence[str]) -> go.Figure:
    figure = figure_of(f"How {_plain(names[0])} is spread", _plain(names[0]), "rows")
    for name in names[:1]:
        figure.add_histogram(x=_column(found, name), nbinsx=40, name=name)
    return figure


def _against(found: QueryResult, kind: str, x: str, names: Sequence[str]) -> go.Figure:
    most = MOST_BARS if kind == "bars" else len(found.rows)
    cut = f", first {most} of {len(found.rows)} rows" if most < len(found.rows) else ""
    told = ", ".join(_plain(name) for name in names)
    figure = figure_of(f"{told} by {_plain(x)}{cut}", _plain(x), told if len(names) == 1 else "value")
    places = _column(found, x)[:most]
    for name in names:
        values = _column(found, name)[:most]
        if kind == "bars":
            figure.add_bar(x=["NULL" if place is None else place for place in places], y=values, name=_plain(name))
        else:
            figure.add_scatter(
                x=places, y=values, name=_plain(name), mode="lines+markers" if kind == "line" else "markers"
            )
    figure.update_layout(showlegend=len(names) > 1)
    return figure


def _numeric(found: QueryResult, name: str) -> bool:
    return name == ROWS or is_number(found.types[found.columns.index(name)])


def _column(found: QueryResult, name: str) -> list[Any]:
    if name == ROWS:
        return list(range(1, len(found.rows) + 1))
    place = found.columns.index(name)
    return [_plain(row[place]) for row in found.rows]


def _plain(value: Any) -> Any:
    """A number as it is; a text short, and escaped: plotly reads some HTML in labels."""
    if isinstance(value, str | list | dict):
        return html.escape(str(value)[:LONGEST])
    return value
