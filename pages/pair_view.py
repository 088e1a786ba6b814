"""One pair, everything about it side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pages.answers import Shown, as_markdown, columns_of, marked_in_order, turns_of
from pages.components import joined, keyword_chips, link, pill
from pages.pair_address import Modes, pairs_link
from pages.text import NOTHING, count, excerpt, moment, number, signed, visible
from storage.queries import PairDetail, PairQuery
from storage.queries.page import Row
from synpo_lab.agreement import first_side
from synpo_lab.config import RunConfig
from synpo_lab.rendered import ChatFormat

LONGEST = 60_000  # characters of an answer shown
MOST_TURNS = 50
VERDICT_WORDS = {
    "chosen": "the chosen answer is better",
    "rejected": "the rejected answer is better",
    "tie": "a tie",
    "bad": "a bad pair",
    "": "verdict taken back",
}


@dataclass(frozen=True, slots=True)
class View:
    """What one pair is shown with."""

    run_id: str
    found: PairDetail
    config: RunConfig
    chat: ChatFormat | None
    prompt: Row  # the prompt's keywords, {} where it has none
    modes: Modes
    hidden: bool = False  # blind, and no verdict yet
    why: str = ""  # why this one is among the twenty that tell most

    @property
    def order(self) -> tuple[str, str]:
        return order_of(self.found.pair["pair_id"], self.modes)


def order_of(pair_id: str, modes: Modes) -> tuple[str, str]:
    """Which side of a pair stands first, which second."""
    first = first_side(pair_id) if modes.blind else "rejected"
    chosen_first = (first == "chosen") != modes.swap
    return ("chosen", "rejected") if chosen_first else ("rejected", "chosen")


def pair_html(view: View) -> Markup:
    sides = _sides(view)
    body = Markup(
        '<div class="lab-sides n{}" tabindex="0" role="group" aria-label="the answers, scrolled together" {}>{}</div>'
    ).format(
        len(sides),
        "" if view.hidden else Markup('data-first="{}" data-second="{}"').format(*view.order),
        joined(_side(side, view) for side in sides),
    )
    return _head(view) + body + (Markup("") if view.hidden else _notes(view.found.notes))


def _head(view: View) -> Markup:
    row = view.found.pair
    if view.hidden:
        about = Markup(
            "<p class='lab-line'><b>blind</b> which side is which, and what it scored, comes with your verdict</p>"
        )
    else:
        chips = keyword_chips(view.prompt.get("keywords") or [], view.prompt.get("noise_keyword"))
        about = (chips if view.prompt.get("keywords") else Markup("")) + _about(view)
    return Markup('<div class="lab-pair-head">{}{}</div>').format(_asked(row), about)


def _asked(row: Row) -> Markup:
    """The prompt, or the conversation it ends."""
    turns = turns_of(row["messages"])
    if len(turns) < 2:
        return Markup('<p class="lab-prompt" dir="auto">{}</p>').format(visible(excerpt(row["prompt"], LONGEST)))
    cut = Markup('<p class="lab-none">{} earlier turns are not shown</p>').format(count(len(turns) - MOST_TURNS))
    shown = joined(
        Markup('<div class="lab-turn"><b>{}</b><p dir="auto">{}</p></div>').format(
            visible(role[:40]), visible(excerpt(content, LONGEST))
        )
        for role, content in turns[-MOST_TURNS:]
    )
    return Markup('<div class="lab-prompt lab-turns">{}{}</div>').format(cut if len(turns) > MOST_TURNS else "", shown)


def _about(view: View) -> Markup:
    row, found = view.found.pair, view.found
    kept = pill("kept", "kept") if row["kept"] else pill(f"dropped: {row['drop_reason']}", "dropped")
    parts: list[object] = [
        Markup("<b>gap {}</b>").format(signed(row["gap"])) if row["gap"] is not None else Markup("<b>not scored</b>"),
        kept,
        _margin(found.logps),
        _span("length {}", signed_count(row["len_chosen"] - row["len_rejected"]), "characters, chosen - rejected"),
        _span("similarity {}", number(row["similarity"], 2), "share of words the sides have in common"),
        pill("duplicate", "dropped", "an earlier pair has the same prompt and sides") if row["duplicate"] else "",
        _span("iteration {}", row["iteration"]),
        _topic(view),
        *(_finding(view.run_id, finding) for finding in found.findings),
        Markup('<span class="lab-id">{}</span>').format(row["pair_id"]),
        link("prompts", "prompt →", run=view.run_id, prompt=row["prompt_id"]),
    ]
    why = Markup('<p class="lab-why">{}</p>').format(view.why) if view.why else Markup("")
    return why + Markup('<p class="lab-line">{}</p>').format(joined(_spaced(parts)))


def _spaced(parts: Sequence[object]) -> list[object]:
    return [Markup("{} ").format(part) for part in parts if part != ""]


def _span(words: str, value: object, title: str = "") -> Markup:
    return Markup('<span title="{}">{}</span>').format(title, words.format(value))


def signed_count(value: int) -> str:
    return f"{value:+,}".replace("-", "−")


def _margin(logps: Sequence[Row]) -> Markup:
    """The latest policy's margin against its target; nothing where none was asked."""
    last = next((row for row in reversed(logps) if row["model"] != "M_0"), None)
    if last is None:
        return Markup("")
    title = f"reward margin under {last['model']}, beta {last['beta']:g}; target gamma {last['gamma']:g}"
    return _span("margin {}", f"{signed(last['margin'], 2)} of {number(last['gamma'], 2)}", title)


def _topic(view: View) -> Markup:
    topic = view.found.topic
    if topic is None:
        return Markup("")
    label = visible(excerpt(topic["label"] or f"topic {topic['topic']}", 60))
    return pairs_link(label, view.run_id, PairQuery(topic=topic["topic"]))


def _finding(run_id: str, finding: Row) -> Markup:
    opens = pairs_link(visible(finding["kind"]), run_id, PairQuery(finding=finding["kind"]))
    return pill(opens, "warn", visible(excerpt(finding["detail"], 200)))


def _sides(view: View) -> list[Shown]:
    modes = view.modes
    marked = "" if modes.diff == "off" or view.hidden else modes.diff
    columns = columns_of(view.found, view.config, marked, LONGEST, view.chat)
    pair = {column.tag: column for column in columns if column.tag}
    first, second = (pair[side] for side in view.order)
    if view.hidden:
        first, second = marked_in_order(first, second) if modes.diff != "off" else (first, second)
        first, second = _hidden(first, 1), _hidden(second, 2)
    beside = [] if modes.sides == "two" or modes.blind else [column for column in columns if not column.tag]
    sides = [*beside, first, second]
    return [as_markdown(side) for side in sides] if modes.markdown else sides


def _hidden(side: Shown, place: int) -> Shown:
    """The text and nothing that tells which side it is."""
    return Shown(role=f"answer {place}", model="", raw=side.raw, text=side.text, note=side.note, length=side.length)


def _side(side: Shown, view: View) -> Markup:
    return Markup(
        '<article class="lab-side {css}">'
        "<header><b>{role}</b><span>{model}</span>{tag}<strong>{score}</strong></header>"
        '<div class="lab-text" dir="auto">{text}</div>{note}<p class="lab-none">{length} characters</p>{scores}{details}'
        "</article>"
    ).format(
        css=side.css.strip(),
        role=side.role,
        model=visible(side.model),
        tag=pill(side.tag, side.tag) if side.tag and side.tag != side.role else "",
        score="" if side.total == NOTHING else side.total,
        text=side.text,
        note=side.note,
        length=count(side.length),
        scores="" if view.hidden else _scores(side.scores),
        details=side.details,
    )


def _scores(scores: Mapping[str, float]) -> Markup:
    if not scores:
        return Markup("")
    rows = joined(
        Markup("<div><dt>{}</dt><dd>{}{}</dd></div>").format(visible(aspect), _bar(value), number(value, 2))
        for aspect, value in scores.items()
    )
    return Markup('<dl class="lab-scores">{}</dl>').format(rows)


def _bar(value: float) -> Markup:
    """For scores between 0 and 1; a reward has no ends to draw between."""
    return Markup('<meter min="0" max="1" value="{}"></meter>').format(value) if 0 <= value <= 1 else Markup("")


def _notes(notes: Sequence[Row]) -> Markup:
    """What readers said, the latest first."""
    if not notes:
        return Markup("")
    lines = joined(
        Markup("<li><b>{}</b>: {} <span>{}</span></li>").format(
            visible(note["author"][:80]), _said(note), moment(note["at"])
        )
        for note in notes
    )
    return Markup('<ul class="lab-notes" aria-label="what readers said">{}</ul>').format(lines)


def _said(note: Row) -> Markup:
    """A verdict, words, or both. Who wrote words alone may never have given a verdict."""
    words = Markup("<q dir='auto'>{}</q>").format(visible(note["text"])) if note["text"] else ""
    verdict = VERDICT_WORDS.get(note["verdict"], "") if note["verdict"] or not words else ""
    return Markup(" · ").join(filter(None, [verdict, words]))
