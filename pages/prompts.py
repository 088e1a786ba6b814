"""Prompts: what the generator wrote from which keywords, and what became of it."""

from typing import Any

import gradio as gr
from markupsafe import Markup

from pages.components import Column, address, card, joined, keyword_chips, link, pill, table
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
from pages.text import count, excerpt, one_line
from storage.queries import PROMPT_SORTS, attrition, keyword_counts, prompt_sources, prompts_page, run_overview
from storage.queries.page import Page, Row

PAGE_ROWS = 25
LONGEST = 500  # characters of a prompt in the table
LEAD = "What the generator G wrote from keyword lists. One keyword of each list is noise: it makes G robust."
STATUSES = {"all": None, "kept": "kept", "dropped": "dropped", "held out (evaluation)": "held-out"}
REASON = "dropped: "  # then the reason: also a choice of the status filter


def build(lab: Lab) -> None:
    picker = heading("Prompts", LEAD)
    line = gr.HTML()
    with gr.Row(elem_classes="lab-filters"):
        search = gr.Textbox(label="Search", placeholder="in text and keywords", elem_id="prompt-search", scale=3)
        iteration = gr.Dropdown(label="Iteration", choices=["all"], value="all", scale=1, min_width=110)
        status = gr.Dropdown(
            label="Status", choices=list(STATUSES), value="kept", elem_id="prompt-status", scale=1, min_width=150
        )
        family = gr.Dropdown(
            label="Family", choices=["all"], value="all", elem_id="prompt-family", scale=2, min_width=180
        )
        sort = gr.Dropdown(
            label="Order",
            choices=[(told_as, name) for name, told_as in PROMPT_SORTS.items()],
            value="written",
            scale=2,
            min_width=180,
        )
    flow = gr.HTML(elem_id="prompt-flow")
    listed = gr.HTML(elem_id="prompt-table")
    with gr.Row(elem_classes="lab-pager", visible=False) as pager:
        previous = gr.Button("← Previous", size="sm", scale=0, min_width=120)
        place = gr.HTML(elem_id="prompt-place")
        following = gr.Button("Next →", size="sm", scale=0, min_width=120)
    offset = gr.State(0)
    filters = [picker, search, iteration, status, family, sort]
    shown = [flow, listed, place, pager, offset]

    @told
    def show(run_id: str | None, *wanted: Any, start: int = 0) -> list[Any]:
        if run_id is None:
            return ["", no_runs(lab), "", gr.Row(visible=False), 0]
        search, iteration, status, family, sort = wanted
        found = prompts_page(
            lab.database, run_id, search=search, iteration=_unless_all(iteration),
            status="dropped" if status.startswith(REASON) else STATUSES[status],
            drop_reason=status.removeprefix(REASON) if status.startswith(REASON) else None,
            family=_unless_all(family), sort=sort, limit=PAGE_ROWS, offset=start,
        )  # fmt: skip
        return [
            _flow(lab, run_id),
            _table(lab, run_id, found),
            _place(found, start),
            gr.Row(visible=found.total > PAGE_ROWS),
            start,
        ]

    def step(start: int, by: int, *wanted: Any) -> list[Any]:
        return show(*wanted, start=max(0, start + by))

    def fill(chosen: Selection) -> list[Any]:
        values = _asked(chosen)
        return [*_filter_updates(lab, chosen.run_id, values), *show(chosen.run_id, *values.values())]

    follow(lab, picker, line, lambda run_id: _has_prompts(lab, run_id), fill, [*filters[1:], *shown])
    gr.on(
        [edited(part) for part in filters[1:]],
        show,
        filters,
        shown,
        trigger_mode="always_last",
        **QUIET,
    )
    previous.click(lambda start, *wanted: step(start, -PAGE_ROWS, *wanted), [offset, *filters], shown, **QUIET)
    following.click(lambda start, *wanted: step(start, PAGE_ROWS, *wanted), [offset, *filters], shown, **QUIET)


def _has_prompts(lab: Lab, run_id: str | None) -> bool:
    return prompts_page(lab.database, run_id or "", status="kept", limit=0).total > 0


def _unless_all(value: Any) -> Any:
    return None if value in {"all", None} else value


def _asked(chosen: Selection) -> dict[str, Any]:
    """The filters, as the address has them."""
    status = chosen.query.get("status", "kept")
    return {
        "search": chosen.query.get("search", ""),
        "iteration": chosen.whole("iteration") or "all",
        "status": status if status in STATUSES or status.startswith(REASON) else "kept",
        "family": chosen.query.get("family", "all"),
        "sort": "written",
    }


def _filter_updates(lab: Lab, run_id: str | None, values: dict[str, Any]) -> list[Any]:
    rounds = [row.iteration for row in run_overview(lab.database, run_id or "") if row.prompts_generated]
    steps = [step for step in attrition(lab.database, run_id or "") if step.what == "prompts"]
    reasons = dict.fromkeys([*(REASON + step.reason for step in steps[1:]), *_told_reason(values["status"])])
    sources = [(f"source {row['source']}", row["source"]) for row in prompt_sources(lab.database, run_id or "")]
    words = [
        (f"{row['keyword']} ({row['prompts']:,})", row["keyword"])
        for row in keyword_counts(lab.database, run_id or "", limit=200)
    ]
    asked = (
        [(values["family"], values["family"])]
        if values["family"] not in {"all", *(name for _, name in sources + words)}
        else []
    )
    return [
        values["search"],
        gr.Dropdown(choices=["all", *rounds], value=values["iteration"]),
        gr.Dropdown(choices=[*STATUSES, *reasons], value=values["status"]),
        gr.Dropdown(choices=[("all", "all"), *asked, *sources, *words], value=values["family"]),
        values["sort"],
    ]


def _told_reason(status: str) -> list[str]:
    return [status] if status.startswith(REASON) else []


def _flow(lab: Lab, run_id: str) -> Markup:
    """Where prompts get lost, from those written to those kept; each step opens the rows it dropped."""
    steps = [step for step in attrition(lab.database, run_id) if step.what == "prompts"]
    if not steps:
        return Markup("")
    written, losses, kept = steps[0], steps[1:], steps[-1].left
    parts = [Markup("<li>{} <b>{}</b></li>").format("written", count(written.left))]
    for step in losses:
        opened = link("prompts", step.reason, run=run_id, status=REASON + step.reason)
        parts.append(Markup('<li class="lost">{} <b>−{}</b></li>').format(opened, count(step.dropped)))
    parts.append(Markup('<li class="left">{} <b>{}</b></li>').format("kept", count(kept)))
    return Markup('<ol class="lab-flow" aria-label="from prompts written to prompts kept">{}</ol>').format(
        joined(parts)
    )


def _table(lab: Lab, run_id: str, found: Page) -> Markup:
    if not found.total:
        return _none(lab, run_id)
    columns = [
        Column("prompt", _prompt),
        Column("keywords", lambda row: keyword_chips(row["keywords"], row["noise_keyword"])),
        Column("source", lambda row: row["source"]),
        Column("round", lambda row: row["iteration"] or "", True),
        Column("status", _status),
        Column("", lambda row: _to_pair(run_id, row)),
    ]
    return card("", table(columns, found.rows, css="stack"))


def _prompt(row: Row) -> Markup:
    return Markup('<span class="wide" dir="auto">{}</span>').format(one_line(excerpt(row["text"], LONGEST)))


def _status(row: Row) -> Markup:
    word = row["drop_reason"] or row["status"]
    return pill(word, row["status"], f"dropped: {row['drop_reason']}" if row["drop_reason"] else "")


def _to_pair(run_id: str, row: Row) -> object:
    if row["status"] != "kept":
        return ""
    return link("pairs", "pair →", run=run_id, prompt=row["prompt_id"])


def _none(lab: Lab, run_id: str) -> Markup:
    if any(step.what == "prompts" for step in attrition(lab.database, run_id)):
        clear = Markup('No prompt matches. <a href="{}">Show all of them</a>.').format(
            address("prompts", run=run_id, status="all")
        )
        return Markup('<section class="lab-empty"><h3>Nothing matches</h3><p>{}</p></section>').format(clear)
    return nothing_yet(lab.run(run_id), "prompts", "They come once the prompt generator is trained.")


def _place(found: Page, start: int) -> Markup:
    last = start + len(found.rows)
    return Markup("<p class='lab-place'>{} to {} of {}</p>").format(count(start + 1), count(last), count(found.total))
