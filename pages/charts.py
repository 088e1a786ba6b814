"""The charts. One template that reads on light and on dark: no background of its own, text and grid in greys."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
import plotly.io as pio

from storage.pair_filter import REASONS

GREY, GRID = "#7d8792", "rgba(125,135,146,0.18)"
COLOURS = {
    "initial": "#8b95a1",
    "draft": "#c08a3e",
    "improved": "#2f9e8f",
    "policy": "#4f7df3",
    "kept": "#4f7df3",
    "dropped": "rgba(139,149,161,0.45)",
    "generator": "#8b95a1",
    "improver": "#2f9e8f",
}
SYMBOLS = {"initial": "circle-open", "draft": "diamond", "improved": "square", "policy": "circle"}
SERIES = ["#4f7df3", "#c08a3e", "#2f9e8f", "#b45c9c", "#8b95a1", "#d0604c"]
DASHES = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"]  # told apart without colours too
FONT = "'IBM Plex Sans', ui-sans-serif, system-ui, sans-serif"


def _axis(**more: Any) -> dict[str, Any]:
    plain = {"gridcolor": GRID, "zeroline": False, "linecolor": GRID, "ticks": "", "automargin": True}
    return plain | {"title": {"font": {"size": 12}, "standoff": 8}} | more


pio.templates["synpo"] = go.layout.Template(
    layout={
        "font": {"family": FONT, "size": 12, "color": GREY},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": SERIES,
        "margin": {"l": 52, "r": 12, "t": 64, "b": 44},
        "title": {"x": 0, "xref": "container", "xanchor": "left", "y": 0.98, "yanchor": "top", "font": {"size": 14}},
        "legend": {"orientation": "h", "x": 1, "xanchor": "right", "y": 1.02, "yanchor": "bottom"},
        "xaxis": _axis(),
        "yaxis": _axis(),
        "hoverlabel": {"font": {"family": FONT, "size": 12}},
        "bargap": 0.25,
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": SERIES[0]},
    }
)


def figure_of(title: str, x: str, y: str, *, height: int = 340, keep: str = "") -> go.Figure:
    """A chart with its title and axis names. `keep`: while it stays the same, zoom and hidden series survive a refresh."""
    figure = go.Figure(layout={"template": "synpo", "title": {"text": title}, "height": height, "uirevision": keep})
    figure.update_xaxes(title_text=x)
    figure.update_yaxes(title_text=y)
    return figure


def whole_iterations(figure: go.Figure) -> None:
    """Whole numbers on the axis of iterations; where there is one alone, plotly would show its neighbours too."""
    figure.update_xaxes(dtick=1)
    seen = {x for trace in figure.data for x in trace.x or ()}
    if len(seen) == 1:
        (only,) = seen
        figure.update_xaxes(range=[only - 0.5, only + 0.5])


def win_rate(rows: Sequence[Mapping[str, Any]], run_id: str) -> go.Figure:
    """Win rate against M_0 with its 95 % interval. `rows`: iteration, win_rate, low, high, n, ties."""
    figure = figure_of("Win rate against M₀", "iteration", "win rate", height=330, keep=run_id)
    x = [row["iteration"] for row in rows]
    told = [f"{row['n']:,} prompts, {row['ties']:,} ties" for row in rows]
    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    figure.add_scatter(x=x, y=[row["high"] for row in rows], **band)
    shade = {"fill": "tonexty", "fillcolor": "rgba(79,125,243,0.16)", "name": "95 % interval", "showlegend": True}
    figure.add_scatter(x=x, y=[row["low"] for row in rows], **(band | shade))
    figure.add_scatter(
        x=x, y=[row["win_rate"] for row in rows], name="win rate", mode="lines+markers", customdata=told,
        line={"color": COLOURS["policy"], "width": 2.5}, marker={"size": 8},
        hovertemplate="iteration %{x}: %{y:.1%}<br>%{customdata}<extra></extra>",
    )  # fmt: skip
    figure.add_hline(y=0.5, line={"dash": "dash", "width": 1.5, "color": GREY})
    figure.add_annotation(
        text="as good as M₀", x=1, xref="paper", xanchor="right", y=0.5, yanchor="top", showarrow=False
    )
    figure.update_yaxes(tickformat=".0%")
    whole_iterations(figure)
    return figure if rows else _waiting(figure, "comes with the first evaluation on held-out prompts")


def mean_scores(rows: Sequence[Any], run_id: str) -> go.Figure:
    """Mean total scores per iteration. `rows`: IterationOverview."""
    figure = figure_of("Mean scores", "iteration", "mean score", height=330, keep=run_id)
    for role in ("initial", "draft", "improved", "policy"):
        points = [(row.iteration, mean) for row in rows if (mean := getattr(row, f"mean_{role}")) is not None]
        if points:
            figure.add_scatter(
                x=[x for x, _ in points], y=[y for _, y in points], name=role, mode="lines+markers",
                line={"color": COLOURS[role]}, marker={"symbol": SYMBOLS[role], "size": 8},
                hovertemplate=f"{role}, iteration %{{x}}: %{{y:.3f}}<extra></extra>",
            )  # fmt: skip
    whole_iterations(figure)
    return figure if figure.data else _waiting(figure, "come with the first scored answers")


def _waiting(figure: go.Figure, until: str) -> go.Figure:
    """An empty chart that says when it fills."""
    figure.layout.shapes, figure.layout.annotations = (), ()
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(text=until, x=0.5, y=0.5, xref="paper", yref="paper", showarrow=False, font={"size": 14})
    return figure


def spread(edges: Sequence[float], counts: Sequence[int], title: str, unit: str, keep: str) -> go.Figure:
    """How a number of the pairs is spread. `edges`: of the bins, one more than `counts`."""
    figure = figure_of(title, unit, "pairs", height=330, keep=keep)
    if not sum(counts):
        return _waiting(figure, "no pair has this number")
    width = edges[1] - edges[0]
    figure.add_bar(
        x=[(low + high) / 2 for low, high in itertools.pairwise(edges)], y=counts, width=width * 0.96,
        marker_color=COLOURS["kept"], customdata=[f"{low:.3g} to {high:.3g}" for low, high in itertools.pairwise(edges)],
        hovertemplate="%{customdata}: %{y:,} pairs<extra></extra>", showlegend=False,
    )  # fmt: skip
    return figure


def kept_and_dropped(rows: Sequence[Any], keep: str) -> go.Figure:
    """Stacked bars per iteration: kept, then what each rule drops. `rows`: ThresholdCount."""
    figure = figure_of("Kept and dropped", "iteration", "pairs", height=340, keep=keep)
    x = [row.iteration for row in rows]
    figure.add_bar(x=x, y=[row.kept for row in rows], name="kept", marker={"color": COLOURS["kept"]})
    # No patterns: plotly draws them by the page's address, which changes with every move of a filter.
    shades = itertools.cycle(["rgba(139,149,161,0.6)", "rgba(139,149,161,0.3)"])
    for reason, shade in zip(REASONS, shades, strict=False):
        lost = [row.dropped.get(reason, 0) for row in rows]
        if any(lost):
            figure.add_bar(
                x=x, y=lost, name=f"dropped: {reason}", text=[reason if n else "" for n in lost], textposition="inside",
                marker={"color": shade, "line": {"color": GREY, "width": 1}},
            )  # fmt: skip
    figure.update_layout(barmode="stack")
    figure.update_traces(hovertemplate="iteration %{x}: %{y:,} pairs<extra>%{fullData.name}</extra>")
    figure.update_xaxes(dtick=1)
    return figure


def training(curves: Mapping[str, Sequence[tuple[int, float]]], title: str, unit: str, keep: str) -> go.Figure:
    """One quantity of each training over its steps. `curves`: (step, value) points by name."""
    figure = figure_of(title, "optimiser step", unit, height=270, keep=keep)
    for place, (name, points) in enumerate(curves.items()):
        figure.add_scatter(
            x=[x for x, _ in points], y=[y for _, y in points], name=name, mode="lines", showlegend=len(curves) > 1,
            line={"color": SERIES[place % len(SERIES)], "dash": DASHES[place % len(DASHES)], "width": 2},
            hovertemplate="step %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    return figure
