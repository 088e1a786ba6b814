"""The answers of a pair, made ready to be read side by side."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from markupsafe import Markup

from pages.components import facts
from pages.diff import as_html, word_diff
from pages.markdown import rendered
from pages.text import count, excerpt, number, visible
from storage.queries import Answer, PairDetail
from synpo_lab.config import RunConfig
from synpo_lab.rendered import ChatFormat, as_sent
from synpo_lab.templates import TEMPLATES

OTHERS = ("draft", "initial")  # what is read beside the two sides, where it is neither of them
LONGEST_REQUEST = 20_000  # characters


@dataclass(frozen=True, slots=True)
class Shown:
    """One column: an answer as the page shows it."""

    role: str
    model: str
    raw: str
    text: Markup
    tag: str = ""  # "chosen" or "rejected"
    total: str = ""
    length: int = 0  # characters
    note: Markup = field(default_factory=Markup)
    details: Markup = field(default_factory=Markup)
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def css(self) -> str:
        return f"{self.role} {self.tag}"


def columns_of(
    found: PairDetail, config: RunConfig, marked: str, longest: int, chat: ChatFormat | None = None
) -> list[Shown]:
    """Draft, rejected and chosen answer, each once. `marked` ("rejected", "draft" or ""): against which of them the
    chosen answer's differences are shown. `chat`: how the model reads a request."""
    sides = {"chosen": found.pair["chosen_id"], "rejected": found.pair["rejected_id"]}
    others = [one for one in found.answers if one.role in OTHERS and one.response_id not in sides.values()]
    draft = next((one.text for one in found.answers if one.role == "draft"), None)
    request = _Request(found, config, draft, chat)
    stored = {one.response_id: one for one in found.answers}
    pair = [
        _column(stored[key], side, request, longest) if key in stored else _text_alone(found, side, longest)
        for side, key in (("rejected", sides["rejected"]), ("chosen", sides["chosen"]))
    ]
    beside = [_column(one, "", request, longest) for one in sorted(others, key=lambda one: OTHERS.index(one.role))]
    return _marked([*beside[:1], *pair], marked)


def marked_in_order(first: Shown, second: Shown) -> list[Shown]:
    """What the second lost (in the first) and gained (in its own)."""
    found = word_diff(first.raw, second.raw)
    if found is None:
        return [first, replace(second, note=_TOO_LONG)]
    return [replace(first, text=as_html(found[0])), replace(second, text=as_html(found[1]))]


def as_markdown(side: Shown) -> Shown:
    """The answer read as Markdown; as it is, and saying so, where it is too long for that."""
    html = rendered(side.raw)
    return replace(side, note=side.note + _NO_MARKDOWN) if html is None else replace(side, text=html)


def turns_of(messages: str | None) -> list[tuple[str, str]]:
    """(role, content) of each message of a conversation; empty when there is none that can be read."""
    return [(str(turn["role"]), str(turn["content"])) for turn in _messages(messages)]


_UNTOLD = {"candidate", "eval"}  # roles that both sides of a pair have: which side it is tells more
_GIVEN = Markup('<p class="lab-none">This answer came with the data: how it was sampled is not stored.</p>')
_NO_MARKDOWN = Markup('<p class="lab-none">too long to be read as Markdown</p>')
_TOO_LONG = Markup('<p class="lab-none">too long to mark the differences word by word</p>')


def _messages(messages: str | None) -> list[dict[str, Any]]:
    try:
        read = json.loads(messages or "[]")
    except (ValueError, RecursionError):
        return []
    turns = read if isinstance(read, list) else []
    return [turn for turn in turns if isinstance(turn, dict) and {"role", "content"} <= turn.keys()]


def _column(answer: Answer, tag: str, request: "_Request", longest: int) -> Shown:
    text = excerpt(answer.text, longest)
    return Shown(
        role=tag if tag and answer.role in _UNTOLD else answer.role,
        model=answer.model,
        raw=text,
        text=Markup("{}").format(visible(text)),
        tag=tag,
        total=number(answer.scores.get("total"), 2),
        length=len(answer.text),
        note=cut_note(answer),
        details=request.of(answer),
        scores={aspect: value for aspect, value in answer.scores.items() if aspect != "total"},
    )


def _text_alone(found: PairDetail, side: str, longest: int) -> Shown:
    """An imported pair has texts and perhaps scores, and no answers of their own."""
    text = excerpt(found.pair[side], longest)
    return Shown(
        role=side,
        model="",
        raw=text,
        text=Markup("{}").format(visible(text)),
        tag=side,
        total=number(found.pair[f"{side}_score"], 2),
        length=found.pair[f"len_{side}"],
        details=_details("How it was made", _GIVEN),
    )


def _marked(columns: list[Shown], marked: str) -> list[Shown]:
    """What the chosen answer lost (in the other column) and gained (in its own)."""
    chosen = columns[-1]
    other = next((side for side in columns[:-1] if marked in {side.tag, side.role}), None)
    if not marked or other is None:
        return columns
    before, after = marked_in_order(other, chosen)
    return [before if side is other else after if side is chosen else side for side in columns]


def cut_note(answer: Answer) -> Markup:
    """That an answer did not end by itself, or is empty."""
    if answer.finish_reason == "length":
        return Markup('<p class="lab-none">cut: it reached the longest allowed answer</p>')
    if not answer.text:
        return Markup('<p class="lab-none">the model said nothing</p>')
    return Markup("")


@dataclass(frozen=True, slots=True)
class _Request:
    """What was asked of the models, and how they were sampled."""

    found: PairDetail
    config: RunConfig
    draft: str | None
    chat: ChatFormat | None

    def of(self, answer: Answer) -> Markup:
        sampling = [(name, value) for name, value in answer.sampling.items() if value is not None]
        ended = [("tokens", count(answer.n_tokens)), ("ended by", answer.finish_reason)]
        told = facts([
            ("model", visible(answer.model)), *([] if answer.finish_reason == "given" else ended),
            *((visible(str(name)), visible(str(value))) for name, value in sampling),
        ])  # fmt: skip
        given = _GIVEN if answer.finish_reason == "given" and not sampling else Markup("")
        return _details("What was sent", self._asked(answer) + told + given)

    def _asked(self, answer: Answer) -> Markup:
        messages = self._messages(answer)
        sent = as_sent(self.chat, messages) if self.chat and answer.role != "gold" else None
        request = _pre("\n\n".join(str(message["content"]) for message in messages))
        if sent is None:
            return Markup("{}").format(request)
        how = Markup('<p class="lab-none">as the model reads it, rendered with its chat template</p>')
        return how + _pre(sent)

    def _messages(self, answer: Answer) -> list[dict[str, Any]]:
        asked = self.found.pair["prompt"]
        if answer.role == "improved" and self.draft is not None:
            asked = TEMPLATES[self.config.templates].ask_to_improve(asked, self.draft)
            return [{"role": "user", "content": asked}]
        return _messages(self.found.pair["messages"]) or [{"role": "user", "content": asked}]


def _pre(text: str) -> Markup:
    return Markup('<pre dir="auto">{}</pre>').format(visible(excerpt(text, LONGEST_REQUEST)))


def _details(summary: str, body: Markup) -> Markup:
    return Markup('<details class="lab-asked"><summary>{}</summary>{}</details>').format(summary, body)
