"""The pieces pages are made of, as HTML. Whatever is formatted into them is escaped (markupsafe)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from markupsafe import Markup, escape

from pages.text import NOTHING, beginning, count, excerpt, one_line, percent, visible
from storage.state import NEEDS_WORKER
from synpo_lab.jobs import RunStatus
from synpo_lab.jobs.wording import duration, stage_name

STATE_WORDS = {
    "queued": "waiting",
    "running": "running",
    "stopping": "stopping",
    "stopped": "stopped",
    "interrupted": "interrupted",
    "failed": "failed",
    "finished": "finished",
    "imported": "imported",
}

MOST_STEPS = 12  # policies told one by one
AT_THE_END = {"finished", "imported"}
LONGEST_WORD = 200  # characters of a keyword shown


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: its heading, what a row shows in it, and whether that is a number."""

    heading: str
    cell: Callable[[Any], object]
    numeric: bool = False
    title: str = ""


def joined(parts: Iterable[object]) -> Markup:
    return Markup("").join(escape(part) for part in parts)


def link(page: str, label: object, **selection: object) -> Markup:
    """A link to a page ("" is the overview) with the selection in its address."""
    return Markup('<a href="{}">{}</a>').format(address(page, **selection), label)


def address(page: str, **selection: object) -> str:
    """Relative, so that it holds behind any proxy. None is left out."""
    chosen = {name: value for name, value in selection.items() if value is not None}
    return f"./{page}" + (f"?{urlencode(chosen)}" if chosen else "")


def table(columns: Sequence[Column], rows: Iterable[Any], *, caption: str = "", css: str = "") -> Markup:
    head = joined(
        Markup('<th scope="col" class="{}" title="{}">{}</th>').format(_align(column), column.title, column.heading)
        for column in columns
    )
    body = joined(Markup("<tr>{}</tr>").format(_cells(columns, row)) for row in rows)
    title = Markup("<caption>{}</caption>").format(caption) if caption else ""
    return Markup(
        '<div class="lab-scroll"><table class="lab-table {}">{}'
        "<thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>"
    ).format(css, title, head, body)


def _cells(columns: Sequence[Column], row: Any) -> Markup:
    return joined(
        Markup('<td class="{}" data-label="{}">{}</td>').format(_align(column), column.heading, column.cell(row))
        for column in columns
    )


def _align(column: Column) -> str:
    return "num" if column.numeric else ""


def text_cell(text: str, limit: int) -> Markup:
    """The beginning of a text, for a table."""
    return Markup('<span class="wide" dir="auto">{}</span>').format(one_line(beginning(text, limit)))


def pill(word: object, kind: str, title: str = "") -> Markup:
    return Markup('<span class="lab-pill {}" title="{}">{}</span>').format(kind, title, word)


def state_pill(state: str, message: str = "") -> Markup:
    return pill(STATE_WORDS.get(state, state), f"state {state}", message)


def card(title: object, body: object, *, note: object = "", css: str = "") -> Markup:
    head = Markup("<header><h3>{}</h3><p>{}</p></header>").format(title, note) if title else ""
    return Markup('<section class="lab-card {}">{}{}</section>').format(css, head, body)


def stacked(cards: Iterable[Markup]) -> Markup:
    """Cards one below the other; nothing when all are empty."""
    told = [one for one in cards if one]
    return Markup('<div class="lab-stack">{}</div>').format(joined(told)) if told else Markup("")


def empty(title: object, what_to_do: object) -> Markup:
    """What a page says where there is nothing to show: why, and the next action."""
    return Markup('<section class="lab-empty"><h3>{}</h3><p>{}</p></section>').format(title, what_to_do)


def problem(message: object, hint: object = "") -> Markup:
    """A mistake and how to mend it."""
    told = Markup('<p class="hint"><b>hint</b> {}</p>').format(hint) if hint else ""
    return Markup('<section class="lab-problem" role="alert"><pre>{}</pre>{}</section>').format(message, told)


def facts(pairs: Iterable[tuple[object, object]]) -> Markup:
    """Small numbers with their names."""
    items = joined(Markup("<div><dt>{}</dt><dd>{}</dd></div>").format(name, value) for name, value in pairs)
    return Markup('<dl class="lab-facts">{}</dl>').format(items)


def meter(value: float, high: float, label: str) -> Markup:
    return Markup('<meter min="0" max="{}" value="{}" aria-label="{}"></meter>').format(high, value, label)


def keyword_chips(
    keywords: Sequence[str], noise_keyword: str | None, opens: Callable[[str], str] | None = None
) -> Markup:
    """The keyword list; the noise marked by a dashed border and a word, not by colour alone.

    `opens`: the address a word leads to.
    """
    noise = set((noise_keyword or "").split(", "))
    return Markup('<span class="lab-chips">{}</span>').format(
        joined(
            _chip(word, word in noise, opens(word) if opens and len(word) <= LONGEST_WORD else "") for word in keywords
        )
    )


def _chip(word: str, noise: bool, opens: str) -> Markup:
    tag = Markup('a href="{}"').format(opens) if opens else Markup("span")
    css, title = ("lab-chip noise", "noise: from another text") if noise else ("lab-chip", "")
    return Markup('<{} class="{}" title="{}">{}{}</{}>').format(
        tag,
        css,
        title,
        visible(excerpt(word, LONGEST_WORD)),
        Markup("<i>noise</i>") if noise else "",
        Markup("a" if opens else "span"),
    )


def live_card(status: RunStatus, toy: bool, win_rates: Mapping[int, float | None]) -> Markup:
    """What the run is doing: state, round, stage, done of total, rate, time left. `win_rates`: by iteration."""
    name = Markup('<div class="lab-live-head">{}<b class="lab-id">{}</b><span>{}</span></div>').format(
        state_pill(status.state), status.run_id, status.title
    )
    parts = [
        name,
        _progress(status),
        live_facts(status),
        _ladder(status, win_rates),
        _message(status),
        _TOY if toy else "",
    ]
    return Markup('<section class="lab-card lab-live">{}</section>').format(joined(parts))


_TOY = Markup(
    '<p class="lab-toy"><b>Toy model.</b> About a million parameters in a world of a few hundred words, scored by a '
    "rubric. The loop is the real one: the same code aligns a large model.</p>"
)


def _ladder(status: RunStatus, win_rates: Mapping[int, float | None]) -> Markup:
    """The policies made, being made and to come, with their win rates."""
    if not status.iterations or status.iterations > MOST_STEPS:
        return Markup("")
    steps = joined(
        Markup('<li class="{}">M<sub>{}</sub><b>{}</b></li>').format(
            _step(status, t, win_rates), t, percent(win_rates.get(t))
        )
        for t in range(status.iterations + 1)
    )
    return Markup('<ol class="lab-ladder" aria-label="win rate of each policy">{}</ol>').format(steps)


def _step(status: RunStatus, t: int, win_rates: Mapping[int, float | None]) -> str:
    if win_rates.get(t) is not None:
        return "made"
    return "now" if status.state == "running" and t == (status.iteration or 0) else "ahead"


def _progress(status: RunStatus) -> Markup:
    waits = "getting ready" if status.state in NEEDS_WORKER else "before the first stage"
    stage = stage_name(status.stage, status.iteration, status.iterations) or waits
    if status.state in AT_THE_END:
        return Markup(
            '<div class="lab-stage"><b>{} rounds done</b></div><progress max="1" value="1"></progress>'
        ).format(count(status.iterations))
    counted = Markup("<span>{} of {}</span>").format(count(status.done), count(status.total)) if status.total else ""
    bar = (
        Markup('<progress max="{}" value="{}"></progress>').format(status.total, status.done)
        if status.total
        else Markup('<progress max="1" value="0"></progress>')
    )
    return Markup('<div class="lab-stage"><b>{}</b>{}</div>{}').format(stage, counted, bar)


def live_facts(status: RunStatus) -> Markup:
    """How fast, how long still, how long already."""
    rate = NOTHING if status.rate is None else f"{status.rate:,.3g}/s"
    return facts(
        [
            ("iteration", _round(status)),
            ("rate", rate),
            ("stage left", _time(status.seconds_left)),
            ("run left", _time(status.run_seconds_left)),
            ("worked", duration(status.elapsed)),
        ]
    )


def _round(status: RunStatus) -> str:
    """Which of all: the last one of a run at its end, and after the last stage of an iteration."""
    after_the_last = status.state in AT_THE_END or (status.stage and status.iteration is None)
    now = status.iterations if after_the_last else status.iteration
    return f"{count(now or 0)} of {count(status.iterations)}" if status.iterations else NOTHING


def _time(seconds: float | None) -> str:
    return NOTHING if seconds is None else duration(seconds)


def _message(status: RunStatus) -> Markup:
    if not status.message or status.state in {"running", "finished"}:
        return Markup("")
    return Markup('<pre class="lab-message {}">{}</pre>').format(status.state, status.message)
