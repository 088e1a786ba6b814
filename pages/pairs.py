"""Pairs: one preference pair at a time, everything about it side by side."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages.answers import Shown, columns_of
from pages.components import address, joined, keyword_chips, pill
from pages.shell import (
    QUIET,
    Lab,
    Selection,
    edited,
    follow,
    heading,
    no_runs,
    nothing_yet,
    told,
)
from pages.text import count, excerpt, signed, visible
from storage.queries import (
    PAIR_SORTS,
    Neighbours,
    PairDetail,
    PairQuery,
    neighbours,
    pair,
    pair_at,
    pair_drop_reasons,
)
from storage.queries.one_prompt import one_prompt, pair_of_prompt

LEAD = "Each pair trains the policy to prefer the improved answer over the initial one."
KEPT = {"all": None, "kept": True, "dropped": False}
COMPARE = {"rejected and chosen": "rejected", "draft and improved": "draft", "off": ""}
LONGEST = 60_000  # characters of an answer shown


@dataclass(frozen=True, slots=True)
class Asked:
    """The filters of the page."""

    iteration: Any = "all"
    kept: str = "all"
    reason: str = "all"
    search: str = ""
    sort: str = "gap"

    @property
    def query(self) -> PairQuery:
        return PairQuery(
            iteration=None if self.iteration in {"all", None} else self.iteration,
            kept=KEPT[self.kept],
            drop_reason=None if self.reason == "all" else self.reason,
            search=self.search,
        )


def build(lab: Lab) -> None:
    picker = heading("Pairs", LEAD)
    line = gr.HTML()
    with gr.Row(elem_classes="lab-filters"):
        search = gr.Textbox(
            label="Search", placeholder="in the prompt or either answer", elem_id="pair-search", scale=3
        )
        iteration = gr.Dropdown(label="Iteration", choices=["all"], value="all", scale=1, min_width=110)
        kept = gr.Dropdown(label="Kept", choices=list(KEPT), value="all", elem_id="pair-kept", scale=1, min_width=110)
        reason = gr.Dropdown(label="Dropped for", choices=["all"], value="all", scale=1, min_width=130)
        sort = gr.Dropdown(
            label="Order",
            choices=[(words, name) for name, words in PAIR_SORTS.items()],
            value="gap",
            scale=2,
            min_width=180,
        )
    with gr.Row(elem_classes="lab-pager"):
        previous = gr.Button("← Previous", size="sm", scale=0, min_width=110, elem_id="pair-previous")
        place = gr.HTML(elem_id="pair-place")
        following = gr.Button("Next →", size="sm", scale=0, min_width=110, elem_id="pair-next")
        compare = gr.Radio(
            list(COMPARE),
            value=next(iter(COMPARE)),
            label="Mark differences between",
            elem_id="pair-compare",
            scale=0,
            min_width=380,
        )
    shown = gr.HTML(elem_id="pair")
    current = gr.Textbox(visible="hidden")  # no State: the script that puts it into the address must see it
    before, after = gr.State(None), gr.State(None)
    filters = [iteration, kept, reason, search, sort]
    outputs = [shown, place, current, before, after, previous, following]

    @told
    def show(run_id: str | None, pair_id: str | None, marked: str, *wanted: Any) -> list[Any]:
        return _show(lab, run_id, pair_id, marked, Asked(*wanted))

    @told
    def first(run_id: str | None, marked: str, *wanted: Any) -> list[Any]:
        asked = Asked(*wanted)
        return _show(lab, run_id, _first(lab, run_id, asked), marked, asked)

    def fill(chosen: Selection) -> list[Any]:
        run_id, asked = chosen.run_id, _asked(chosen)
        pair_id = _named(lab, chosen) or _first(lab, run_id, asked)
        shown = _show(lab, run_id, pair_id, next(iter(COMPARE)), asked)
        return [*_filter_updates(lab, run_id, asked), next(iter(COMPARE)), *shown]

    def has_pairs(run_id: str | None) -> bool:
        return bool(pair_drop_reasons(lab.database, run_id or ""))

    follow(lab, picker, line, has_pairs, fill, [*filters, compare, *outputs])
    changed = gr.on(
        [edited(part) for part in filters],
        first,
        [picker, compare, *filters],
        outputs,
        trigger_mode="always_last",
        **QUIET,
    )
    compare.input(show, [picker, current, compare, *filters], outputs, **QUIET)
    steps = [
        button.click(show, [picker, there, compare, *filters], outputs, **QUIET)
        for button, there in ((previous, before), (following, after))
    ]
    for done in (changed, *steps):
        done.then(None, current, None, js="(pair) => { labAddress({pair, prompt: null}); }", **QUIET)


def _asked(chosen: Selection) -> Asked:
    query = chosen.query
    return Asked(
        iteration=chosen.whole("iteration") or "all",
        kept=query.get("kept", "all") if query.get("kept") in KEPT else "all",
        reason=query.get("reason", "all"),
        search=query.get("search", ""),
        sort=query.get("sort", "gap") if query.get("sort") in PAIR_SORTS else "gap",
    )


def _named(lab: Lab, chosen: Selection) -> str | None:
    """The pair of the address: by its id, or by its prompt's."""
    if chosen.run_id is None:
        return None
    if prompt_id := chosen.query.get("prompt"):
        return pair_of_prompt(lab.database, chosen.run_id, prompt_id)
    return chosen.query.get("pair")


def _first(lab: Lab, run_id: str | None, asked: Asked) -> str | None:
    found = pair_at(lab.database, run_id or "", asked.query, sort=asked.sort)
    return found.pair["pair_id"] if found else None


def _filter_updates(lab: Lab, run_id: str | None, asked: Asked) -> list[Any]:
    rows = pair_drop_reasons(lab.database, run_id or "")
    rounds = list(dict.fromkeys(row["iteration"] for row in rows))
    reasons = list(dict.fromkeys(row["reason"] for row in rows if row["reason"] != "kept"))
    return [
        gr.Dropdown(choices=["all", *rounds], value=asked.iteration),
        asked.kept,
        gr.Dropdown(choices=["all", *reasons], value=asked.reason if asked.reason in reasons else "all"),
        asked.search,
        asked.sort,
    ]


def _show(lab: Lab, run_id: str | None, pair_id: str | None, marked: str, asked: Asked) -> list[Any]:
    off = gr.Button(interactive=False)
    if run_id is None:
        return [no_runs(lab), "", None, None, None, off, off]
    found = pair(lab.database, run_id, pair_id) if pair_id else None
    if found is None:
        return [_none(lab, run_id, pair_id), "", None, None, None, off, off]
    beside = neighbours(lab.database, run_id, found.pair["pair_id"], asked.query, sort=asked.sort)
    previous_id, next_id = (beside.previous_id, beside.next_id) if beside else (None, None)
    return [
        _pair(lab, run_id, found, COMPARE[marked]),
        _place(beside, run_id, found),
        found.pair["pair_id"],
        previous_id,
        next_id,
        gr.Button(interactive=previous_id is not None),
        gr.Button(interactive=next_id is not None),
    ]


def _none(lab: Lab, run_id: str, pair_id: str | None) -> Markup:
    if not pair_drop_reasons(lab.database, run_id):
        return nothing_yet(lab.run(run_id), "pairs", "They come once prompts are drafted, improved and scored.")
    told_why = Markup("This run has no pair {}.").format(pair_id) if pair_id else "No pair passes these filters."
    return Markup(
        '<section class="lab-empty"><h3>Nothing matches</h3><p>{} <a href="{}">Show the first of all</a>.</p></section>'
    ).format(told_why, address("pairs", run=run_id))


def _place(beside: Neighbours | None, run_id: str, found: PairDetail) -> Markup:
    if beside is None:
        return Markup("")
    here = address("pairs", run=run_id, pair=found.pair["pair_id"])
    place = f"{count(beside.position + 1)} of {count(beside.total)}"
    return Markup(
        '<p class="lab-place">{} · <a href="{}" id="permalink">permalink</a><span class="lab-keys"> · keys ← →</span></p>'
    ).format(place, here)


def _pair(lab: Lab, run_id: str, found: PairDetail, marked: str) -> Markup:
    row = found.pair
    asked = one_prompt(lab.database, run_id, row["prompt_id"]) or {}
    verdict = pill("kept", "kept") if row["kept"] else pill(f"dropped: {row['drop_reason']}", "dropped")
    head = Markup(
        '<div class="lab-pair-head"><p class="lab-prompt" dir="auto">{}</p>{}'
        '<p class="lab-line"><b>gap {}</b> {} <span>iteration {}</span> <span class="lab-id">{}</span></p></div>'
    ).format(
        visible(excerpt(row["prompt"], LONGEST)),
        keyword_chips(asked.get("keywords") or [], asked.get("noise_keyword")),
        signed(row["gap"]),
        verdict,
        row["iteration"],
        row["pair_id"],
    )
    shown = columns_of(found, lab.config(run_id), marked, LONGEST)
    return head + Markup('<div class="lab-sides n{}">{}</div>').format(
        len(shown), joined(_side(side) for side in shown)
    )


def _side(side: Shown) -> Markup:
    return Markup(
        '<article class="lab-side {css}">'
        "<header><b>{role}</b><span>{model}</span>{tag}<strong>{score}</strong></header>"
        '<div class="lab-text" dir="auto" tabindex="0">{text}</div>{note}{scores}{details}</article>'
    ).format(
        css=side.css,
        role=side.role,
        model=side.model,
        tag=pill(side.tag, side.tag) if side.tag else "",
        score=side.total,
        text=side.text,
        note=side.note,
        scores=_scores(side.scores),
        details=side.details,
    )


def _scores(scores: Mapping[str, float]) -> Markup:
    if not scores:
        return Markup('<p class="lab-none">not scored</p>')
    rows = joined(
        Markup('<div><dt>{}</dt><dd><meter min="0" max="1" value="{}"></meter>{}</dd></div>').format(
            aspect, value, f"{value:.2f}"
        )
        for aspect, value in scores.items()
    )
    return Markup('<dl class="lab-scores">{}</dl>').format(rows)
