"""Lineage: how one prompt's answer evolved, from M_0 to the last policy."""

from collections.abc import Mapping
from typing import Any

import gradio as gr
import plotly.graph_objects as go
from markupsafe import Markup, escape

from pages.charts import COLOURS, DASHES, SERIES, figure_of
from pages.components import Column, address, card, empty, keyword_chips, link, pill, table
from pages.lineage_steps import VARIANT, steps_of, story
from pages.prompt_rows import topic_name
from pages.run_words import TRAINED, RunWords, words_of_run
from pages.shell import QUIET, Lab, Selection, edited, follow, heading, no_runs, told
from pages.text import beginning, count, excerpt, number, one_line, signed, visible
from storage.queries import Answer, Lineage, lineage, run_overview
from storage.queries.answers import ANSWERS
from storage.queries.stories import (
    KINDS,
    ORDERS,
    Beside,
    StoryQuery,
    beside,
    kind_of,
    pair_logps_of,
    stories,
    told_kinds,
)
from storage.queries.topics import topic_labels

LEAD = "One prompt through all iterations: what each model answered, what changed, and what came of it."
LISTED = 12
LONGEST = 20_000
ALL = "all"
LISTED_LONG = 200  # characters of a prompt in the list
DRAWN_ROLES = ("gold", "initial", "draft", "improved", "eval")


def build(lab: Lab) -> None:
    picker = heading("Lineage", LEAD)
    line = gr.HTML()
    with gr.Row(elem_classes="lab-filters"):
        search = gr.Textbox(label="Search", placeholder="in the prompt", elem_id="lineage-search", scale=3)
        kind = gr.Dropdown(
            label="Prompts", choices=_named(TRAINED.prompts), value="evaluation",
            elem_id="lineage-kind", scale=1, min_width=200,
        )  # fmt: skip
        topic = gr.Dropdown(label="Topic", choices=[ALL], value=ALL, elem_id="lineage-topic", scale=2, min_width=170)
        order = gr.Dropdown(
            label="Order", choices=_named(TRAINED.orders), value="improved",
            elem_id="lineage-order", scale=1, min_width=210,
        )  # fmt: skip
    listed = gr.HTML(elem_id="lineage-list")
    with gr.Row(elem_classes="lab-pager"):
        previous = gr.Button("← Previous", size="sm", scale=0, min_width=110, elem_id="lineage-previous")
        place = gr.HTML(elem_id="lineage-place")
        following = gr.Button("Next →", size="sm", scale=0, min_width=110, elem_id="lineage-next")
    head = gr.HTML(elem_id="lineage-head")
    chart = gr.Plot(show_label=False, container=False, elem_id="lineage-scores", visible=False)
    shown = gr.HTML(elem_id="lineage")
    with gr.Row(elem_classes="lab-pager", visible=False) as turns:
        back = gr.Button("← Earlier", size="sm", scale=0, min_width=110, elem_id="lineage-back")
        part = gr.HTML(elem_id="lineage-part")
        forth = gr.Button("Later →", size="sm", scale=0, min_width=110, elem_id="lineage-forth")
    current = gr.Textbox(visible="hidden")  # no State: the script that puts it into the address must see it
    before, after, start = gr.State(None), gr.State(None), gr.State(0)
    filters = [search, kind, topic, order]
    story_parts = [chart, shown, turns, part, back, forth, start]
    outputs = [listed, head, place, current, before, after, previous, following, *story_parts]

    @told
    def show(run_id: str | None, prompt_id: str | None, *wanted: Any) -> list[Any]:
        return _show(lab, run_id, prompt_id, _query(*wanted))

    @told
    def first(run_id: str | None, *wanted: Any) -> list[Any]:
        return _show(lab, run_id, None, _query(*wanted))

    def turned(by: int) -> Any:
        @told
        def turn(run_id: str, prompt_id: str, start: int) -> list[Any]:
            at = max(0, start + by)
            return _story(lab, run_id, prompt_id, lineage(lab.database, run_id, prompt_id, at), at)

        return turn

    def fill(chosen: Selection) -> list[Any]:
        query = _asked(lab, chosen)
        return [
            *_filter_updates(lab, chosen.run_id, query),
            *_show(lab, chosen.run_id, chosen.query.get("prompt"), query),
        ]

    follow(lab, picker, line, lambda run_id: bool(run_overview(lab.database, run_id or "")), fill, [*filters, *outputs])
    changed = gr.on(
        [edited(part) for part in filters], first, [picker, *filters], outputs, trigger_mode="always_last", **QUIET
    )
    steps = [
        button.click(show, [picker, there, *filters], outputs, trigger_mode="always_last", **QUIET)
        for button, there in ((previous, before), (following, after))
    ]
    for button, by in ((back, -ANSWERS), (forth, ANSWERS)):
        button.click(turned(by), [picker, current, start], story_parts, **QUIET)
    for done in (changed, *steps):
        done.then(None, [current, kind, order], None, js=_TO_ADDRESS, **QUIET)


_TO_ADDRESS = "(prompt, kind, order) => { labAddress({prompt, kind, order}); }"


def _query(search: str, kind: str, topic: Any, order: str) -> StoryQuery:
    return StoryQuery(kind, order, search, None if topic in {ALL, None} else topic)


def _asked(lab: Lab, chosen: Selection) -> StoryQuery:
    """The list the address asks for: of the prompt's own kind where it names only a prompt, else of whatever there is."""
    query, run_id = chosen.query, chosen.run_id or ""
    named = kind_of(lab.database, run_id, query["prompt"]) if query.get("prompt") else None
    asked = query.get("kind") if query.get("kind") in KINDS else None
    order = query.get("order", "improved")
    return StoryQuery(
        kind=named or asked or _first_kind(lab, run_id),
        order=order if order in ORDERS else "improved",
        search=query.get("search"),
        topic=chosen.whole("topic"),
    )


def _first_kind(lab: Lab, run_id: str) -> str:
    return next(iter(told_kinds(lab.database, run_id)), "evaluation")


def _filter_updates(lab: Lab, run_id: str | None, query: StoryQuery) -> list[Any]:
    topics = [
        (topic_name(row["topic"], row["label"]), row["topic"]) for row in topic_labels(lab.database, run_id or "")
    ]
    chosen = ALL if query.topic is None or query.topic not in {value for _, value in topics} else query.topic
    words = words_of_run(lab, run_id)
    return [
        query.search or "",
        gr.Dropdown(choices=_named(words.prompts), value=query.kind),
        gr.Dropdown(choices=[(ALL, ALL), *topics], value=chosen),
        gr.Dropdown(choices=_named(words.orders), value=query.order),
    ]


def _named(words: Mapping[str, str]) -> list[tuple[str, str]]:
    """Choices of a drop-down."""
    return [(told, name) for name, told in words.items()]


def _show(lab: Lab, run_id: str | None, prompt_id: str | None, query: StoryQuery) -> list[Any]:
    off = gr.Button(interactive=False)
    if run_id is None:
        return [no_runs(lab), "", "", None, None, None, off, off, *_no_story()]
    around = beside(lab.database, run_id, query, prompt_id) if prompt_id else None
    start = 0 if around is None else around.position - around.position % LISTED
    page = stories(lab.database, run_id, query, limit=LISTED, offset=start, excerpt=LISTED_LONG + 1)
    words = words_of_run(lab, run_id)
    if prompt_id is None and page.rows:
        ids = [row["prompt_id"] for row in page.rows[:2]]
        prompt_id, around = ids[0], Beside(0, page.total, None, next(iter(ids[1:]), None))
    listed = _list(run_id, page.rows, prompt_id, query, words) if page.rows else _none(run_id, query, words)
    found = lineage(lab.database, run_id, prompt_id) if prompt_id else None
    if prompt_id is None or found is None or (found.prompt is None and not found.answers):
        missing = (
            empty("No such prompt", f"This run has no prompt {one_line(excerpt(prompt_id, 80))}.") if prompt_id else ""
        )
        return [listed, missing, "", None, None, None, off, off, *_no_story()]
    previous_id, next_id = (around.previous_id, around.next_id) if around else (None, None)
    return [
        listed,
        _head(run_id, prompt_id, found),
        _place(run_id, prompt_id, around, query),
        prompt_id,
        previous_id,
        next_id,
        gr.Button(interactive=previous_id is not None),
        gr.Button(interactive=next_id is not None),
        *_story(lab, run_id, prompt_id, found, 0),
    ]


def _story(lab: Lab, run_id: str, prompt_id: str, found: Lineage, start: int) -> list[Any]:
    """The answers and pairs from `start` on, and what a turn of that page leads to."""
    logps = pair_logps_of(lab.database, run_id, prompt_id, [row["pair_id"] for row in found.pairs])
    longest = max(found.n_answers, found.n_pairs)
    return [
        gr.Plot(score_chart(found, f"{run_id} {prompt_id}"), visible=_is_worth_drawing(found)),
        story(run_id, found, logps, words_of_run(lab, run_id)) or _no_answers(),
        gr.Row(visible=start > 0 or longest > ANSWERS),
        _part(found, start),
        gr.Button(interactive=start > 0),
        gr.Button(interactive=start + ANSWERS < longest),
        start,
    ]


def _no_story() -> list[Any]:
    off = gr.Button(interactive=False)
    return [gr.Plot(visible=False), "", gr.Row(visible=False), "", off, off, 0]


def _part(found: Lineage, start: int) -> Markup:
    """Which answers and pairs are shown; the chart is of these too."""
    told = [
        f"{what} {count(start + 1)} to {count(start + len(rows))} of {count(total)}"
        for what, rows, total in (("answers", found.answers, found.n_answers), ("pairs", found.pairs, found.n_pairs))
        if rows
    ]
    return Markup('<p class="lab-place">{}</p>').format(" · ".join(told))


def _list(run_id: str, rows: list[dict[str, Any]], prompt_id: str | None, query: StoryQuery, words: RunWords) -> Markup:
    first, last = words.ends[query.kind]

    def prompt(row: dict[str, Any]) -> Markup:
        here = address(
            "lineage", run=run_id, prompt=row["prompt_id"], kind=query.kind, order=query.order, topic=query.topic
        )
        text = one_line(beginning(row["text"], LISTED_LONG)) or "(empty)"
        current = "true" if row["prompt_id"] == prompt_id else "false"
        return Markup('<a class="wide" dir="auto" href="{}" aria-current="{}">{}</a>').format(here, current, text)

    columns = [
        Column("prompt", prompt),
        Column(first, lambda row: number(row["first"], 2), True, "score"),
        Column(last, lambda row: number(row["last"], 2), True, "score"),
        Column("change", lambda row: signed(row["change"], 2), True),
        Column("rounds", lambda row: count(row["rounds"]), True),
    ]
    note = f"{words.prompts[query.kind]}, {words.answered[query.kind]}"
    return card(words.orders[query.order].capitalize(), table(columns, rows, css="stories"), note=note)


def _none(run_id: str, query: StoryQuery, words: RunWords) -> Markup:
    everything = link("lineage", "Show all", run=run_id, kind=query.kind)
    return empty(
        "No prompt here",
        Markup("None of the {} with scored answers match. {}.").format(words.prompts[query.kind], everything),
    )


def _no_answers() -> Markup:
    return empty("No answers to this prompt", "It was written and not answered: dropped prompts are not.")


def _place(run_id: str, prompt_id: str, around: Beside | None, query: StoryQuery) -> Markup:
    here = address("lineage", run=run_id, prompt=prompt_id)
    place = f"{count(around.position + 1)} of {count(around.total)} · " if around else ""
    return Markup('<p class="lab-place">{}<a href="{}" id="lineage-permalink">permalink</a></p>').format(place, here)


def _head(run_id: str, prompt_id: str, found: Lineage) -> Markup:
    row = found.prompt or {}
    status = row.get("status", "")
    reason = f"dropped: {row['drop_reason']}" if row.get("drop_reason") else status
    return Markup(
        '<div class="lab-pair-head"><p class="lab-prompt" dir="auto">{}</p>{}'
        '<p class="lab-line">{} <span>{}</span> <span>{}</span> <span class="lab-id">{}</span></p></div>'
    ).format(
        visible(excerpt(row.get("text", ""), LONGEST)) or Markup('<i class="lab-none">an empty prompt</i>'),
        keyword_chips(
            row.get("keywords") or [],
            row.get("noise_keyword"),
            lambda word: address("prompts", run=run_id, keyword=word),
        ),
        pill(reason, status) if reason else "",
        row.get("source", ""),
        f"round {row['iteration']}" if row.get("iteration") else "",
        prompt_id,
    )


def _is_worth_drawing(found: Lineage) -> bool:
    scored = [step.answer for step in steps_of(found.answers) if "total" in step.answer.scores]
    return len({answer.iteration for answer in scored}) > 1


def score_chart(found: Lineage, keep: str) -> go.Figure:
    """Scores of the prompt's answers over the iterations, by role; of several answers, all."""
    figure = figure_of("Score of this prompt's answers", "iteration", "total score", height=260, keep=keep)
    for place, role in enumerate(DRAWN_ROLES):
        answers = [answer for answer in found.answers if _drawn(answer, role)]
        if answers:
            name = TRAINED.roles.get(role, role)
            figure.add_scatter(
                x=[answer.iteration for answer in answers], y=[answer.scores["total"] for answer in answers], name=name,
                # plotly reads some HTML in labels
                customdata=[f"{escape(answer.model)}, {len(answer.text):,} characters" for answer in answers],
                mode="lines+markers", marker={"symbol": place, "size": 9},
                line={"color": COLOURS.get(name, SERIES[place]), "dash": DASHES[place]},
                hovertemplate=f"{name}, iteration %{{x}}: %{{y:.3f}}<br>%{{customdata}}<extra></extra>",
            )  # fmt: skip
    figure.update_xaxes(dtick=1)
    return figure


def _drawn(answer: Answer, role: str) -> bool:
    return answer.role == role and VARIANT not in answer.model and "total" in answer.scores
