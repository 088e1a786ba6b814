"""The answers of a pair, made ready to be read side by side."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from markupsafe import Markup

from pages.components import facts
from pages.diff import as_html, word_diff
from pages.text import count, excerpt, number, visible
from storage.queries import Answer, PairDetail
from synpo_lab.config import RunConfig
from synpo_lab.templates import TEMPLATES

ORDER = ("draft", "initial", "improved", "candidate", "gold")


@dataclass(frozen=True, slots=True)
class Shown:
    """One column: an answer as the page shows it."""

    role: str
    model: str
    raw: str
    text: Markup
    tag: str = ""  # "chosen" or "rejected"
    total: str = ""
    note: Markup = field(default_factory=Markup)
    details: Markup = field(default_factory=Markup)
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def css(self) -> str:
        return f"{self.role} {self.tag}"


def columns_of(found: PairDetail, config: RunConfig, marked: str, longest: int) -> list[Shown]:
    """Draft, rejected and chosen answer, each once. `marked` ("rejected", "draft" or ""): against which of them the
    chosen answer's differences are shown."""
    sides = {"chosen": found.pair["chosen_id"], "rejected": found.pair["rejected_id"]}
    wanted = [
        answer
        for answer in found.answers
        if answer.response_id in sides.values() or answer.role in {"draft", "initial"}
    ]
    wanted = sorted(wanted, key=lambda answer: (answer.response_id == sides["chosen"], ORDER.index(answer.role)))
    draft = next((answer.text for answer in wanted if answer.role == "draft"), None)
    columns = [_column(answer, sides, _request(answer, found, config, draft), longest) for answer in wanted]
    return _marked(columns or _texts_alone(found, longest), marked)


def _column(answer: Answer, sides: Mapping[str, str], details: Markup, longest: int) -> Shown:
    tag = next((side for side, response_id in sides.items() if response_id == answer.response_id), "")
    text = excerpt(answer.text, longest)
    return Shown(
        role=answer.role,
        model=answer.model,
        raw=text,
        text=Markup("{}").format(visible(text)),
        tag=tag,
        total=number(answer.scores.get("total"), 2),
        note=_cut_note(answer),
        details=details,
        scores={aspect: value for aspect, value in answer.scores.items() if aspect != "total"},
    )


def _texts_alone(found: PairDetail, longest: int) -> list[Shown]:
    """An imported pair has texts and scores, and no answers of their own."""
    return [
        Shown(
            role=side,
            model="",
            raw=found.pair[side],
            text=Markup("{}").format(visible(excerpt(found.pair[side], longest))),
            tag=side,
            total=number(found.pair[f"{side}_score"], 2),
        )
        for side in ("rejected", "chosen")
    ]


def _marked(columns: list[Shown], marked: str) -> list[Shown]:
    """What the chosen answer lost (in the other column) and gained (in its own)."""
    other = next((side for side in columns if marked in {side.tag, side.role}), None)
    chosen = next((side for side in columns if side.tag == "chosen"), None)
    if not marked or other is None or chosen is None or other is chosen:
        return columns
    found = word_diff(other.raw, chosen.raw)
    if found is None:
        too_long = Markup('<p class="lab-none">too long to mark the differences word by word</p>')
        return [replace(side, note=too_long) if side is chosen else side for side in columns]
    texts = {id(other): as_html(found[0]), id(chosen): as_html(found[1])}
    return [replace(side, text=texts.get(id(side), side.text)) for side in columns]


def _cut_note(answer: Answer) -> Markup:
    if answer.finish_reason == "length":
        return Markup('<p class="lab-none">cut: it reached the longest allowed answer</p>')
    if not answer.text:
        return Markup('<p class="lab-none">the model said nothing</p>')
    return Markup("")


def _request(answer: Answer, found: PairDetail, config: RunConfig, draft: str | None) -> Markup:
    """What was asked of the model, and how it was sampled."""
    asked = found.pair["prompt"]
    if answer.role == "improved" and draft is not None:
        asked = TEMPLATES[config.templates].ask_to_improve(asked, draft)
    sampling = [(name, value) for name, value in answer.sampling.items() if value is not None]
    told = facts([("tokens", count(answer.n_tokens)), ("ended by", answer.finish_reason), *sampling])
    return Markup(
        '<details class="lab-asked"><summary>What was sent</summary><pre dir="auto">{}</pre>{}</details>'
    ).format(visible(excerpt(asked, 20_000)), told)
