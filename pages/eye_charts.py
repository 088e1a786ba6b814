"""The charts of the trainer's eye and of the disagreement board."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from pages.charts import COLOURS, GREY, SERIES, figure_of
from storage.queries.eye import EyeCount

AFTER, BEFORE, WRONG = COLOURS["policy"], COLOURS["initial"], "#d0604c"
LOOKS = {  # what becomes of a pair: colour and symbol
    "right before and after": (AFTER, "circle"),
    "learned": (COLOURS["improved"], "triangle-up"),
    "unlearned": (WRONG, "x"),
    "wrong before and after": (COLOURS["draft"], "square"),
}
HEIGHT = 380


def margins(points: Sequence[Mapping[str, Any]], told: EyeCount, opens: Callable[[str], str], keep: str) -> go.Figure:
    """Margin under M_0 against margin under M_t, a point a pair, with the quadrants and the gamma line.

    `points`: pair_id, margin_0, margin, look. `opens` gives the address a pair's point leads to.
    """
    title = "Each pair before and after training"
    figure = figure_of(
        title, "margin under M₀, reward units", f"margin under M<sub>{told.policy}</sub>, reward units",
        height=HEIGHT, keep=keep,
    )  # fmt: skip
    for look, (colour, symbol) in LOOKS.items():
        some = [point for point in points if point["look"] == look]
        figure.add_scattergl(
            x=[point["margin_0"] for point in some], y=[point["margin"] for point in some], name=look, mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 6, "opacity": 0.65},
            customdata=[opens(point["pair_id"]) for point in some],
            hovertemplate=f"{look}<br>M₀ %{{x:.2f}}, M_{told.policy} %{{y:.2f}}<br>click opens it<extra></extra>",
        )  # fmt: skip
    _cross(figure)
    figure.add_hline(y=told.gamma, line={"dash": "dot", "width": 1.5, "color": COLOURS["draft"]})
    figure.add_annotation(
        text=f"γ {told.gamma:g}", x=1, xref="paper", xanchor="right", y=told.gamma, yanchor="bottom", showarrow=False
    )
    return figure


def margin_histogram(rows: Sequence[Mapping[str, Any]], told: EyeCount, keep: str) -> go.Figure:
    """How the margins are spread under M_0 (outline) and M_t (filled), with 0 and gamma. `rows`: eye_histogram."""
    figure = figure_of(
        "Margins, and the target γ", "margin = β (mean logp chosen − rejected)", "pairs", height=HEIGHT, keep=keep
    )
    x, width = [row["left"] for row in rows], [row["width"] for row in rows]
    edges = [f"{row['left']:.2f} to {row['left'] + row['width']:.2f}" for row in rows]
    figure.add_bar(
        x=x, y=[row["before"] for row in rows], width=width, offset=0, name="under M₀", customdata=edges,
        marker={"color": "rgba(139,149,161,0.35)", "line": {"color": BEFORE, "width": 1}, "pattern": {"shape": "/"}},
        hovertemplate="%{customdata}: %{y:,} pairs<extra>under M₀</extra>",
    )  # fmt: skip
    figure.add_bar(
        x=x, y=[row["after"] for row in rows], width=width, offset=0, name=f"under M<sub>{told.policy}</sub>",
        marker={"color": "rgba(79,125,243,0.55)"}, customdata=edges,
        hovertemplate="%{customdata}: %{y:,} pairs<extra>after</extra>",
    )  # fmt: skip
    for place, text, dash, anchor in ((0.0, "0", "solid", "right"), (told.gamma, f"γ {told.gamma:g}", "dot", "left")):
        figure.add_vline(x=place, line={"dash": dash, "width": 1.5, "color": COLOURS["draft"]})
        figure.add_annotation(
            text=text, x=place, y=1, yref="paper", xanchor=anchor, yanchor="top", showarrow=False, xshift=3
        )
    figure.update_layout(barmode="overlay", bargap=0)
    return figure


def drift(rows: Sequence[EyeCount], keep: str) -> go.Figure:
    """Mean log-probs of both sides by policy, M_0's dashed: reward may rise while the chosen answer gets less likely."""
    figure = figure_of("What training does to both sides", "iteration", "nats per token, mean", height=320, keep=keep)
    x = [row.policy for row in rows]
    for side, colour, symbol in (("chosen", AFTER, "circle"), ("rejected", WRONG, "x")):
        for suffix, model, dash in (("", "M_t", "solid"), ("_0", "M₀", "dot")):
            figure.add_scatter(
                x=x, y=[getattr(row, f"logp_{side}{suffix}") for row in rows], name=f"{side}, {model}",
                mode="lines+markers", line={"color": colour, "dash": dash, "width": 2},
                marker={"symbol": symbol + ("-open" if suffix else ""), "size": 8},
                hovertemplate=f"{side} under {model}, iteration %{{x}}: %{{y:.3f}}<extra></extra>",
            )  # fmt: skip
    figure.update_xaxes(dtick=1)
    return figure


def shares(rows: Sequence[EyeCount], keep: str) -> go.Figure:
    """Satisfied, short of gamma and ranked wrongly, as shares of the pairs, M_0 and each policy."""
    figure = figure_of("Satisfied, short of γ, ranked wrongly", "policy", "share of pairs", height=320, keep=keep)
    first = rows[0]
    names = ["M₀", *(f"M<sub>{row.policy}</sub>" for row in rows)]
    counts = {
        "satisfied": ([first.satisfied_0, *(row.satisfied for row in rows)], AFTER, ""),
        "short of γ": (
            [first.right_0 - first.satisfied_0, *(row.short_of_gamma for row in rows)], COLOURS["draft"], "/",
        ),
        "ranked wrongly": ([first.pairs - first.right_0, *(row.ranked_wrongly for row in rows)], WRONG, "x"),
    }  # fmt: skip
    totals = [first.pairs, *(row.pairs for row in rows)]
    for name, (values, colour, pattern) in counts.items():
        figure.add_bar(
            x=names, y=[value / total for value, total in zip(values, totals, strict=True)], name=name,
            marker={"color": colour, "pattern": {"shape": pattern, "fillmode": "overlay", "fgcolor": "#fff", "fgopacity": 0.5}},
            customdata=values,
            hovertemplate=f"%{{x}}, {name}: %{{y:.1%}}, %{{customdata:,}} pairs<extra></extra>",
        )  # fmt: skip
    figure.update_layout(barmode="stack")
    figure.update_yaxes(tickformat=".0%")
    return figure


def opinions(points: Sequence[Mapping[str, Any]], x: str, y: str, opens: Callable[[str], str], keep: str) -> go.Figure:
    """Two judges' numbers against each other. `points`: pair_id, x, y; `x`, `y`: what they measure, with units."""
    figure = figure_of("Every pair, as the two see it", x, y, height=HEIGHT + 40, keep=keep)
    for name, colour, symbol, agree in (("they agree", SERIES[0], "circle", True), ("they do not", WRONG, "x", False)):
        some = [point for point in points if point["agree"] == agree]
        figure.add_scattergl(
            x=[point["x"] for point in some], y=[point["y"] for point in some], name=name, mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 6, "opacity": 0.6},
            customdata=[opens(point["pair_id"]) for point in some],
            hovertemplate="%{x:.3g}, %{y:.3g}<br>click opens it<extra></extra>",
        )  # fmt: skip
    _cross(figure)
    return figure


def _cross(figure: go.Figure) -> None:
    """The axes through zero: they part the quadrants."""
    for line in (figure.add_hline, figure.add_vline):
        line(**{"y" if line == figure.add_hline else "x": 0, "line": {"width": 1.5, "color": GREY}})
