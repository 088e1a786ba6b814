"""Prompts: what the generator wrote from which keywords, what became of it, and what it is about."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages import prompt_diversity as diversity
from pages import prompt_rows as rows
from pages.components import empty, problem
from pages.prompt_export import prompt_export
from pages.prompt_map import prompt_map
from pages.prompt_rows import ALL, Asked, asked_of, chosen_address
from pages.prompt_topics import topics_panel
from pages.shell import QUIET, Lab, Selection, acting, edited, follow, heading, is_alive, no_runs, selection, told
from pages.text import count
from storage.queries import PROMPT_SORTS, prompts_page, run_overview
from storage.queries.topics import map_points, topic_sizes
from synpo_lab.errors import LabError
from synpo_lab.jobs.mapping import TopicState, find_topics, topic_state
from synpo_lab.jobs.wording import duration

LEAD = (
    "What is asked. In a run the generator G writes it from keyword lists, in each of which one keyword is noise: that "
    "makes G robust."
)
TABS = {"table": "Table", "topics": "Topics", "map": "Map", "diversity": "Diversity"}
ON_MAP = 2_000  # prompts drawn
POLL_SECONDS = 1.0
WORKING = "working: "
NO_TOPICS = "Topics come at the end of a run. To find them now, press “Find topics” above."


@dataclass(frozen=True, slots=True)
class Filters:
    """The widgets over the table, in the order of `Asked`."""

    search: gr.Textbox
    iteration: gr.Dropdown
    status: gr.Dropdown
    topic: gr.Dropdown
    keyword: gr.Dropdown
    source: gr.Dropdown
    sort: gr.Dropdown

    @property
    def all(self) -> list[Any]:
        return [self.search, self.iteration, self.status, self.topic, self.keyword, self.source, self.sort]


def build(lab: Lab) -> None:
    picker = heading("Prompts", LEAD)
    line = gr.HTML()
    with gr.Row(elem_classes="lab-pager"):
        topics_told = gr.HTML(elem_id="topics-told")
        find = gr.Button(
            "Find topics", size="sm", scale=0, min_width=120, elem_id="find-topics", visible=not lab.read_only
        )
    tab = gr.State("table")
    with gr.Tabs(elem_id="prompt-tabs") as tabs:
        with gr.Tab(TABS["table"], id="table") as table_tab:
            filled = _table_tab(lab, picker, line)
        with gr.Tab(TABS["topics"], id="topics") as topics_tab:
            topics = gr.HTML(elem_id="prompt-topics")
        with gr.Tab(TABS["map"], id="map") as map_tab:
            with gr.Row(elem_classes="lab-filters"):
                only = gr.Dropdown(label="Round", choices=[ALL], value=ALL, elem_id="map-round", scale=0, min_width=160)
            drawing = gr.HTML(elem_id="prompt-map")
        with gr.Tab(TABS["diversity"], id="diversity") as diversity_tab:
            panels = diversity.diversity_panels()
    parts = {"table": [], "topics": [topics], "map": [only, drawing], "diversity": panels.all}
    drawers: dict[str, Callable[[str | None], list[Any]]] = {
        "table": lambda run_id: [],
        "topics": lambda run_id: [_topics(lab, run_id)],
        "map": lambda run_id: [_rounds(lab, run_id), _map(lab, run_id, ALL)],
        "diversity": lambda run_id: diversity.drawn(lab, run_id),
    }
    lazy = [widget for name in TABS for widget in parts[name]]
    timer = gr.Timer(POLL_SECONDS, active=False)
    seen = gr.State("")  # how far the topics were at the last look
    chosen = gr.State(None)  # the run the address asked for, before the picker has it

    def draw(run_id: str | None, name: str) -> list[Any]:
        """The tab that is looked at; the others are drawn when they are opened."""
        return [
            value
            for other in TABS
            for value in (drawers[other](run_id) if other == name else [gr.skip()] * len(parts[other]))
        ]

    def open_tab(run_id: str | None, asked: str | None, *, name: str) -> list[Any]:
        run_id = run_id or asked
        # Before the page is filled it is not known of which run; `open_page` is followed by drawing the open tab.
        return [name, *(drawers[name](run_id) if run_id else [gr.skip()] * len(parts[name]))]

    @told
    def pick(run_id: str | None, name: str) -> list[Any]:
        return [*_found(lab, run_id), *draw(run_id, name)]

    @told
    def open_page(request: gr.Request) -> list[Any]:
        asked = selection(lab, request)
        name = asked.query.get("tab")
        opened = [gr.Tabs(selected=name), name] if name in TABS else [gr.skip(), gr.skip()]
        return [*opened, asked.run_id, *_found(lab, asked.run_id)]

    def start(run_id: str | None, asked: str) -> list[Any]:
        run_id = run_id or asked
        find_topics(lab.home, run_id)
        told_now, button, _, _ = _found(lab, run_id)
        return [told_now, button, gr.Timer(active=True), ""]

    @told
    def tick(run_id: str | None, name: str, before: str, *wanted: Any) -> list[Any]:
        """While topics are found, say so; once they are there, draw what shows them."""
        found, nothing = _found(lab, run_id), [gr.skip()] * (len(lazy) + len(filled.outputs))
        if found[-1] == before:
            return [gr.skip(), gr.skip(), *found[2:], *nothing]
        if found[-1].startswith(WORKING):
            return [*found, *nothing]
        return [*found, *draw(run_id, name), *filled.refreshed(run_id, Asked(*wanted))]

    state = [topics_told, find, timer, seen]
    loaded = lab.app.load(open_page, None, [tabs, tab, chosen, *state], **QUIET)
    drawn = loaded.then(told(draw), [chosen, tab], lazy, **QUIET)
    drawn.then(None, None, None, js=f"() => labTab({json.dumps(TABS)})", **QUIET)
    picker.input(pick, [picker, tab], [*state, *lazy], **QUIET)
    for name, widget in zip(TABS, (table_tab, topics_tab, map_tab, diversity_tab), strict=True):
        opened = widget.select(told(partial(open_tab, name=name)), [picker, chosen], [tab, *parts[name]], **QUIET)
        address = "null" if name == "table" else repr(name)
        opened.then(None, tab, None, js=f"() => {{ labAddress({{tab: {address}}}); }}", **QUIET)
    only.input(told(lambda run_id, chosen: _map(lab, run_id, chosen)), [picker, only], drawing, **QUIET)
    find.click(acting(lab, start), [picker, chosen], state, **QUIET)
    timer.tick(tick, [picker, tab, seen, *filled.inputs], [*state, *lazy, *filled.outputs], **QUIET)


@dataclass(frozen=True, slots=True)
class TableTab:
    """What the rest of the page needs of the table: to draw it again when topics have come."""

    inputs: list[Any]  # the filters
    outputs: list[Any]
    refreshed: Callable[[str | None, Asked], list[Any]]


def _table_tab(lab: Lab, picker: gr.Dropdown, line: gr.HTML) -> TableTab:
    filters = _filters()
    flow = gr.HTML(elem_id="prompt-flow")
    listed = gr.HTML(elem_id="prompt-table")
    with gr.Row(elem_classes="lab-pager", visible=False) as pager:
        previous = gr.Button("← Previous", size="sm", scale=0, min_width=120)
        place = gr.HTML(elem_id="prompt-place")
        following = gr.Button("Next →", size="sm", scale=0, min_width=120)
    prompt_export(lab, picker, filters.all)
    offset = gr.State(0)
    chosen_now = gr.JSON(visible="hidden")  # what the address is to say; a State is unknown to scripts
    shown = [flow, listed, place, pager, offset]

    @told
    def show(run_id: str | None, *wanted: Any, start: int = 0) -> list[Any]:
        return [*_rows(lab, run_id, Asked(*wanted), start), chosen_address(run_id, Asked(*wanted))]

    def step(start: int, *wanted: Any, by: int) -> list[Any]:
        return show(*wanted, start=max(0, start + by))

    def refreshed(run_id: str | None, asked: Asked) -> list[Any]:
        return [*rows.filter_updates(lab, run_id, asked), *_rows(lab, run_id, asked, 0)]

    def fill(chosen: Selection) -> list[Any]:
        return refreshed(chosen.run_id, asked_of(chosen))

    follow(lab, picker, line, lambda run_id: _has_prompts(lab, run_id), fill, [*filters.all, *shown])
    changed = gr.on(
        [edited(part) for part in filters.all],
        show,
        [picker, *filters.all],
        [*shown, chosen_now],
        trigger_mode="always_last",
        **QUIET,
    )
    changed.then(None, chosen_now, None, js=_TO_ADDRESS, **QUIET)
    for button, by in ((previous, -rows.PAGE_ROWS), (following, rows.PAGE_ROWS)):
        button.click(partial(step, by=by), [offset, picker, *filters.all], [*shown, chosen_now], **QUIET)
    return TableTab(filters.all, [*filters.all, *shown], refreshed)


_TO_ADDRESS = """(chosen) => {
    const none = {search: null, iteration: null, status: null, topic: null, keyword: null, source: null, sort: null};
    labAddress({...none, ...chosen});
}"""


def _filters() -> Filters:
    with gr.Row(elem_classes="lab-filters"):
        search = gr.Textbox(label="Search", placeholder="in text and keywords", elem_id="prompt-search", scale=3)
        iteration = gr.Dropdown(label="Iteration", choices=[ALL], value=ALL, scale=1, min_width=100)
        status = gr.Dropdown(
            label="Status", choices=list(rows.STATUSES), value="kept", elem_id="prompt-status", scale=1, min_width=140
        )
        topic = gr.Dropdown(label="Topic", choices=[ALL], value=ALL, elem_id="prompt-topic", scale=2, min_width=170)
        keyword = gr.Dropdown(
            label="Keyword", choices=[(rows.ANY_KEYWORD, "")], value="", elem_id="prompt-keyword", scale=1, min_width=150,
            allow_custom_value=True,
        )  # fmt: skip
        source = gr.Dropdown(label="Source", choices=[ALL], value=ALL, elem_id="prompt-source", scale=1, min_width=130)
        sort = gr.Dropdown(
            label="Order",
            choices=[(told_as, name) for name, told_as in PROMPT_SORTS.items()],
            value="written",
            elem_id="prompt-sort",
            scale=2,
            min_width=170,
        )
    return Filters(search, iteration, status, topic, keyword, source, sort)


def _rows(lab: Lab, run_id: str | None, asked: Asked, start: int) -> list[Any]:
    if run_id is None:
        return ["", no_runs(lab), "", gr.Row(visible=False), 0]
    return rows.shown(lab, run_id, asked, start)


def _has_prompts(lab: Lab, run_id: str | None) -> bool:
    return prompts_page(lab.database, run_id or "", status="kept", limit=0).total > 0


def _found(lab: Lab, run_id: str | None) -> list[Any]:
    """How far the topics are: told, the button, the timer, and all of it in a word to compare with the next time."""
    try:
        state = topic_state(lab.home, run_id) if run_id else TopicState(False, None)
    except LabError as error:
        return [Markup('<p class="lab-place">{}</p>').format(error.message), gr.Button(), gr.Timer(active=False), "?"]
    ready = bool(run_id) and not state.working
    button = gr.Button("Find topics again" if state.made else "Find topics", interactive=ready)
    going = state.working or is_alive(lab.run(run_id))
    return [
        _told(state),
        button,
        gr.Timer(active=going),
        f"{WORKING if state.working else ''}{state.made} {state.problem}",
    ]


def _told(state: TopicState) -> Markup:
    if state.working:
        return Markup('<p class="lab-place">finding topics …</p>')
    if state.problem:
        return problem(f"no topics: {state.problem}")
    if state.made is None:
        return Markup('<p class="lab-place">no topics yet</p>')
    made = state.made
    return Markup('<p class="lab-place">{} topics of {} prompts and seeds, by {}, found in {}{}</p>').format(
        count(made["topics"]),
        count(made["prompts"]),
        made["embeddings"],
        duration(made["seconds"]),
        f"; {made['cut']}" if made.get("cut") else "",
    )


def _topics(lab: Lab, run_id: str | None) -> Markup:
    return (topics_panel(lab, run_id) if run_id else Markup("")) or empty("No topics yet", NO_TOPICS)


def _rounds(lab: Lab, run_id: str | None) -> Any:
    rounds = [row.iteration for row in run_overview(lab.database, run_id or "") if row.prompts_kept]
    return gr.Dropdown(choices=[ALL, *rounds], value=ALL)


def _map(lab: Lab, run_id: str | None, iteration: Any) -> Markup:
    topics = topic_sizes(lab.database, run_id) if run_id else []
    if run_id is None or not topics:
        return empty("No map yet", NO_TOPICS)
    wanted = None if iteration in {ALL, None} else int(iteration)
    points = map_points(lab.database, run_id, iteration=wanted, limit=ON_MAP)
    total = sum(topic.prompts + topic.seeds + topic.evaluation for topic in topics)
    return prompt_map(run_id, points, topics, total if wanted is None else len(points))
