"""A small histogram with the cut lines of its rules, as SVG: redrawn with every move of a slider."""

from collections.abc import Sequence

from markupsafe import Markup

from pages.components import joined
from pages.filter_rules import GROUPS, place, told
from pages.text import count
from storage.queries import Histogram
from synpo_lab.config import FilterConfig

WIDTH, HEIGHT = 320, 96
LEFT, RIGHT, TOP, BOTTOM = 2, 2, 14, 16


def rule_histogram(number: str, found: Histogram, rules: FilterConfig) -> Markup:
    """Pairs per bin, those the filter keeps filled and the others hatched, and a line where each rule cuts."""
    group = GROUPS[number]
    if not found.edges:
        return Markup(
            '<figure class="lab-histogram"><figcaption><b>{}</b><span>{}</span></figcaption><p>No pair has this number.</p>'
            "</figure>"
        ).format(group.title, group.unit)
    low, high, top = found.edges[0], found.edges[-1], max(found.counts, default=0) or 1
    step = (WIDTH - LEFT - RIGHT) / len(found.counts)
    bars = [
        _bar(LEFT + i * step, step, every / top, kept / top, _tooltip(number, found, i))
        for i, (every, kept) in enumerate(zip(found.counts, found.kept, strict=True))
        if every
    ]
    lines = [
        _line(LEFT + (WIDTH - LEFT - RIGHT) * (at - low) / (high - low), told(number, at), where)
        for at, where in _cuts(number, rules)
    ]
    missing = f" · {count(found.not_numbers)} pairs have none" if found.not_numbers else ""
    return Markup(
        '<figure class="lab-histogram"><figcaption><b>{}</b><span>{}{}</span></figcaption>'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}<line class="ground" x1="0" x2="{}" y1="{}" y2="{}"/>'
        '<text class="top" x="2" y="9">{} pairs</text><text x="2" y="{}">{}</text>'
        '<text x="{}" y="{}" text-anchor="end">{}</text></svg></figure>'
    ).format(
        group.title, group.unit, missing, WIDTH, HEIGHT, _label(number, found, rules), joined(bars), joined(lines), WIDTH,
        HEIGHT - BOTTOM, HEIGHT - BOTTOM, count(top), HEIGHT - 4, told(number, low), WIDTH - 2, HEIGHT - 4, told(number, high),
    )  # fmt: skip


def _bar(x: float, step: float, every: float, kept: float, tooltip: str) -> Markup:
    return Markup("<g><title>{}</title>{}{}</g>").format(
        tooltip, _rectangle("dropped", x, step, every), _rectangle("kept", x, step, kept)
    )


def _rectangle(css: str, x: float, step: float, share: float) -> Markup:
    height = (HEIGHT - TOP - BOTTOM) * share
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
        css, x, HEIGHT - BOTTOM - height, step * 0.92, height
    )


def _line(x: float, words: str, where: str) -> Markup:
    seen = min(max(x, 1.0), WIDTH - 1.0)
    anchor = "start" if seen < WIDTH / 2 else "end"
    return Markup(
        '<line class="cut" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>'
        '<text class="cut" x="{3:.1f}" y="9" text-anchor="{4}">{5} {6}</text>'
    ).format(seen, TOP - 2, HEIGHT - BOTTOM, seen + (3 if anchor == "start" else -3), anchor, where, words)


def _cuts(number: str, rules: FilterConfig) -> Sequence[tuple[float, str]]:
    """Where the rules of a number cut, and what lies on the other side of each."""
    values = [(getattr(rules, cut.rule), ">" if cut.rule.startswith("min") else "≤") for cut in GROUPS[number].cuts]
    return [
        (place(number, value), sign)
        for value, sign in values
        if value is not None and (value > 0 or number != "length_ratio")
    ]


def _tooltip(number: str, found: Histogram, i: int) -> str:
    ends = f"{told(number, found.edges[i])} to {told(number, found.edges[i + 1])}"
    return f"{ends}: {count(found.counts[i])} pairs, {count(found.kept[i])} kept"


def _label(number: str, found: Histogram, rules: FilterConfig) -> str:
    cuts = ", ".join(f"{sign} {told(number, at)}" for at, sign in _cuts(number, rules)) or "no rule"
    title = GROUPS[number].title
    return f"{title}: {count(sum(found.counts))} pairs, {count(sum(found.kept))} kept; {cuts}"
