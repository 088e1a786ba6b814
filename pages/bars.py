"""Small bar charts as SVG: no script, the page's own colours, a word for every bar."""

import itertools
from collections.abc import Sequence

from markupsafe import Markup

from pages.components import joined
from synpo_lab.health.report import Plot

WIDTH, HEIGHT = 320, 150
LEFT, RIGHT, TOP, BOTTOM = 8, 8, 16, 22
FEW = 6  # bars that have their names and heights written at them


def bar_chart(plot: Plot) -> Markup:
    """The plot with its title, axis names and, per bar, a tooltip. Marked bars are hatched and pointed at."""
    low, high = min(0.0, *plot.heights), max(0.0, *plot.heights)
    span = (high - low) or 1.0
    names = _names(plot)
    step = (WIDTH - LEFT - RIGHT) / len(plot.heights)

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / span

    drawn = [
        _bar(LEFT + i * step, step, y(max(value, 0.0)), y(min(value, 0.0)), f"{name}: {value:,.4g}", i in plot.marked)
        for i, (name, value) in enumerate(zip(names, plot.heights, strict=True))
    ]
    ground = Markup('<line class="ground" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>').format(
        LEFT, WIDTH - RIGHT, y(0.0), y(0.0)
    )
    figure = Markup(
        '<figure class="lab-bars"><figcaption>{}</figcaption><span class="axis">{}</span>'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}{}</svg><span class="axis x">{}</span></figure>'
    )
    told = f"{plot.title}: " + ", ".join(
        f"{name} {value:,.4g}" for name, value in zip(names, plot.heights, strict=True)
    )
    marked = " · ▲ what the check points at" if plot.marked else ""
    return figure.format(
        plot.title, plot.y, WIDTH, HEIGHT, told, joined(drawn), ground, _ticks(plot, step, y), plot.x + marked
    )


def _bar(x: float, step: float, top: float, bottom: float, told: str, marked: bool) -> Markup:
    pointer = (
        Markup('<text class="mark" x="{:.1f}" y="{}">▲</text>').format(x + step / 2, HEIGHT - BOTTOM + 8)
        if marked
        else ""
    )
    return Markup(
        '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}</title></rect>{}'
    ).format("marked" if marked else "", x + step * 0.08, top, step * 0.84, max(bottom - top, 0.0), told, pointer)


def _names(plot: Plot) -> Sequence[str]:
    """Of every bar: its label, or the two edges of its bin."""
    if len(plot.labels) == len(plot.heights):
        return plot.labels
    return [f"{left} to {right}" for left, right in itertools.pairwise(plot.labels)]


def _ticks(plot: Plot, step: float, y: object) -> Markup:
    assert callable(y)
    if len(plot.labels) == len(plot.heights) <= FEW:
        return joined(
            Markup('<text x="{0:.1f}" y="{1}">{2}</text><text class="value" x="{0:.1f}" y="{3:.1f}">{4}</text>').format(
                LEFT + (i + 0.5) * step, HEIGHT - 4, name, y(max(value, 0.0)) - 4, f"{value:,.4g}"
            )
            for i, (name, value) in enumerate(zip(plot.labels, plot.heights, strict=True))
        )
    last = len(plot.labels) - 1
    zero = plot.labels.index("0") if "0" in plot.labels else last // 2
    shown = [0, zero, last] if last < 5 * zero < 4 * last else [0, last]  # names at the ends take a fifth each
    edges = joined(
        Markup('<text class="{}" x="{:.1f}" y="{}">{}</text>').format(
            {0: "first", last: "last"}.get(i, ""), LEFT + i * step, HEIGHT - 4, plot.labels[i]
        )
        for i in shown
    )
    highest = max(plot.heights)
    return edges + Markup('<text class="first value" x="{}" y="{}">{}</text>').format(LEFT, TOP - 5, f"{highest:,.4g}")
