"""Data: preference data made elsewhere, looked at, imported, and opened in the other pages."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages.components import Column, card, empty, facts, joined, link, pill, problem, state_pill, table
from pages.data_set import places, summary
from pages.shell import (
    POLL_SECONDS,
    QUIET,
    Lab,
    acting,
    edited,
    heading,
    is_alive,
    on_load,
    picked,
    selection,
    told,
)
from pages.text import count, excerpt, moment, one_line, visible
from synpo_lab import jobs
from synpo_lab.errors import LabError
from synpo_lab.home import on_a_space, storage_errors
from synpo_lab.importing import FORMATS, Look, look
from synpo_lab.importing.columns import listed
from synpo_lab.importing.launching import (
    RECIPE,
    default_name,
    delete_import,
    import_config,
    mapping_of,
    start_import,
)
from synpo_lab.importing.summary import Summary
from synpo_lab.jobs import RunStatus
from synpo_lab.jobs.wording import pace

LEAD = "Preference data made elsewhere: look at a file, see what would be refused and why, and open the rest in every page."
AUTO = "told by the file"
LOOKED_AT = 20_000  # rows a look from a page reads, unless every row is asked for
LONGEST = 400  # characters of a text in an example
REFUSALS = 60  # refused rows told one by one
CONFIRM = "(name) => name && confirm(`Delete ${name} and everything imported with it?`) ? name : null"


def build(lab: Lab) -> None:
    picker = heading("Data", LEAD)
    guard = partial(acting, lab)
    uploads_only = lab.read_only or on_a_space()
    with gr.Row(elem_classes="lab-row"):
        with gr.Column(scale=5, min_width=340):
            path = gr.Textbox(
                label="File, folder or hub:OWNER/NAME",
                placeholder="/data/pairs.jsonl",
                elem_id="data-path",
                visible=not uploads_only,
            )
            second = gr.Textbox(
                label="Second file",
                placeholder="answers of another model",
                info="two files of answers make pairs: the first rejected, the second chosen",
                elem_id="data-second",
                visible=not uploads_only,
            )
            upload = gr.File(
                label="or files from your computer, in that order",
                file_count="multiple",
                height=120,
                elem_id="data-upload",
            )
            with gr.Row(elem_classes="lab-filters"):
                format = gr.Dropdown(
                    [(AUTO, "auto"), *((f"{one.name}: {one.title}", one.name) for one in FORMATS.values())],
                    value="auto",
                    label="Format",
                    elem_id="data-format",
                    min_width=180,
                )
                columns = gr.Textbox(
                    label="Columns", placeholder="prompt=question, chosen=best", elem_id="data-columns", min_width=180
                )
                name = gr.Textbox(label="Name", placeholder="the file’s", elem_id="data-name", min_width=140)
            with gr.Row(elem_classes="lab-pager"):
                looked = gr.Button("Look", size="md", scale=0, min_width=120, elem_id="data-look")
                every = gr.Checkbox(
                    label="at every row",
                    elem_id="data-every",
                    scale=0,
                    min_width=130,
                    container=False,
                    visible=not uploads_only,
                )
                start = gr.Button(
                    "Import", variant="primary", size="md", scale=0, min_width=120, elem_id="data-import",
                    interactive=False, visible=not lab.read_only,
                )  # fmt: skip
        with gr.Column(scale=7, min_width=340):
            report = gr.HTML(_how_to(uploads_only), elem_id="data-report")
    sets = gr.HTML(elem_id="data-sets")
    with gr.Row(elem_classes="lab-pager", visible=not lab.read_only):
        which = gr.Dropdown(
            label="Data set",
            choices=[],
            elem_id="data-which",
            scale=0,
            min_width=240,
            container=False,
            interactive=True,
        )
        stop = gr.Button("Stop its import", size="sm", scale=0, min_width=130, elem_id="data-stop")
        delete = gr.Button("Delete it", size="sm", scale=0, min_width=110, elem_id="data-delete")
    timer = gr.Timer(POLL_SECONDS, active=False)
    fields = [path, second, upload, format, columns]
    shown = [sets, which, timer]

    def paths_of(path: str, second: str, upload: Sequence[str] | None) -> list[str]:
        typed = [] if uploads_only else [text.strip() for text in (path, second) if text and text.strip()]
        return typed or list(upload or [])

    @told
    def open_page(request: gr.Request) -> list[Any]:
        return [picked(lab, selection(lab, request).run_id), *_list(lab)]

    def look_at(path: str, second: str, upload: Any, format: str, columns: str, name: str, every: bool) -> list[Any]:
        paths = paths_of(path, second, upload)
        at_most = None if every and not uploads_only else LOOKED_AT
        if not paths:
            return [problem("There is no file yet.", "give a path or upload one"), gr.Button(interactive=False), name]
        try:
            with storage_errors():
                found = look(paths, format, mapping_of(columns), at_most=at_most)
                found.check()
        except LabError as error:
            return [wrong(error, upload), gr.Button(interactive=False), name]
        return [_look(found), gr.Button(interactive=True), name or default_name(paths)]

    @guard
    def start_it(path: str, second: str, upload: Any, format: str, columns: str, name: str) -> list[Any]:
        try:
            with storage_errors():
                config = import_config(paths_of(path, second, upload), format, mapping_of(columns))
                added = start_import(lab.home, name.strip(), config)
        except LabError as error:
            return [wrong(error, upload), gr.Button(), gr.Dropdown(), *_list(lab)]
        said = _started(name) if added else _same(name)
        return [said, gr.Button(interactive=False), picked(lab, name.strip()), *_list(lab, name.strip())]

    def not_looked_at() -> Any:
        return gr.Button(interactive=False)

    @guard
    def stop_it(name: str | None) -> list[Any]:
        if name:
            jobs.stop(lab.home, name, wait=10.0, kill=True)
        return _list(lab, name)

    @guard
    def delete_it(name: str | None) -> list[Any]:
        if not name:  # it was not confirmed
            return [gr.skip()] * (1 + len(shown))
        delete_import(lab.home, name)
        return [picked(lab, next((status.run_id for status in lab.runs()), None)), *_list(lab)]

    on_load(lab, open_page, [picker, *shown])
    timer.tick(lambda chosen: _list(lab, chosen), which, shown, **QUIET)
    gr.on([edited(field) for field in (path, second, format, columns)], not_looked_at, None, start, **QUIET)
    gr.on([upload.upload, upload.clear], not_looked_at, None, start, **QUIET)
    looked.click(
        look_at,
        [*fields, name, every],
        [report, start, name],
        api_visibility="private",
        concurrency_limit=2,
        concurrency_id="look",
    )
    started = start.click(
        start_it,
        [*fields, name],
        [report, start, picker, *shown],
        api_visibility="private",
        show_progress="minimal",
        trigger_mode="once",
    )
    started.then(None, picker, None, js="(run) => { labAddress({run}); }", **QUIET)
    stop.click(stop_it, which, shown, **QUIET)
    delete.click(delete_it, which, [picker, *shown], js=CONFIRM, **QUIET)


def wrong(error: LabError, uploaded: Sequence[str] | None) -> Markup:
    """The mistake in words; of an uploaded file the name, not where the server put it."""
    message = error.message
    for path in uploaded or []:
        message = message.replace(path, Path(path).name)
    return problem(visible(message), visible(error.hint))


def _how_to(uploads_only: bool) -> Markup:
    shapes = joined(
        Markup("<li><span><b>{}</b> {}</span></li>").format(one.name, one.title.partition(": ")[2] or one.title)
        for one in FORMATS.values()
    )
    note = "uploads only: this lab is open to others" if uploads_only else "nothing is written by a look"
    return card("What can be read", Markup('<ol class="lab-steps">{}</ol>').format(shapes), note=note) + Markup(
        '<p class="lab-none">JSONL, JSON, CSV, Parquet, Arrow, gzipped or not; a folder of them; a saved <code>datasets</code>'
        " folder; hub:OWNER/NAME.</p>"
    )


def _look(found: Look) -> Markup:
    told = found.told()
    columns = [
        (what, Markup('<span class="lab-id">{}</span>').format(visible(name))) for what, name in told["columns"].items()
    ]
    unused = (
        Markup('<p class="lab-none">not used: {}</p>').format(visible(listed(told["unused"])))
        if told["unused"]
        else Markup("")
    )
    notes = joined(Markup('<p class="lab-none">{}</p>').format(visible(note)) for note in told["notes"])
    read_as = visible(told["read_as"])
    examples = joined(_example(number, example) for number, example in enumerate(told["examples"], start=1))
    return joined(
        [
            card(
                told["title"],
                joined([_verdict(told["sentence"]), _refused(told["refused"], told["refusals"])]),
                note=read_as,
            ),
            card("Columns", joined([facts(columns), unused, notes]), note="what is taken, and from which column"),
            card("Examples", examples, note="the first rows, as they would be stored"),
        ]
    )


def _verdict(sentence: str) -> Markup:
    return Markup('<p class="lab-cut">{}</p>').format(sentence)


def _example(number: int, example: Mapping[str, Any]) -> Markup:
    rows = joined(
        Markup('<div class="lab-answer"><span>{}</span><p dir="auto">{}</p></div>').format(
            what, visible(excerpt(str(text), LONGEST))
        )
        for what, text in example.items()
    )
    return Markup('<section class="lab-example"><h4>row {}</h4>{}</section>').format(number, rows)


def _refused(reasons: Mapping[str, int], rows: Sequence[Mapping[str, Any]]) -> Markup:
    """How many rows are refused for what, and the first of them with their lines."""
    if not reasons:
        return Markup("")
    counted = table(
        [
            Column("refused for", lambda item: visible(item[0])),
            Column("rows", lambda item: count(item[1]), True),
        ],
        reasons.items(),
    )
    listed = table(
        [
            Column("where", lambda row: Markup('<span class="lab-id">{}</span>').format(visible(row["place"]))),
            Column("why", lambda row: Markup('<span class="wide">{}</span>').format(one_line(row["why"]))),
        ],
        rows[:REFUSALS],
        css="stack",
    )
    told = f"the first {count(min(len(rows), REFUSALS))} refused rows"
    return counted + Markup('<details class="lab-asked"><summary>{}</summary>{}</details>').format(told, listed)


def _started(name: str) -> Markup:
    return card(
        "Importing",
        Markup(
            "<p>{} is read in a process of its own: you can leave this page. Its rows show all at once, at the end.</p>"
        ).format(name),
    )


def _same(name: str) -> Markup:
    return card(
        "Nothing to add",
        Markup("<p>{} holds exactly this already: {}.</p>").format(name, link("pairs", "look at its pairs", run=name)),
    )


def _list(lab: Lab, chosen: str | None = None) -> list[Any]:
    """The imported data sets, the choice among them, and whether to look again soon."""
    imports = [status for status in lab.runs() if status.recipe == RECIPE]
    names = [status.run_id for status in imports]
    value = chosen if chosen in names else next(iter(names), None)
    return [
        _sets(lab, imports),
        gr.Dropdown(choices=names, value=value),
        gr.Timer(active=any(is_alive(status) for status in imports)),
    ]


def _sets(lab: Lab, imports: Sequence[RunStatus]) -> Markup:
    if not imports:
        return empty(
            "No data set here yet", "What you import is listed here, with links to its pairs, prompts and filter."
        )
    rows = [(status, summary(lab, status)) for status in imports]
    columns = [
        Column(
            "data set",
            lambda row: link("", Markup('<span class="lab-id">{}</span>').format(row[0].run_id), run=row[0].run_id),
        ),
        Column("state", lambda row: _state(row[0])),
        Column("from", lambda row: visible(row[0].title)),
        Column("format", lambda row: row[1].format if row[1] else ""),
        Column("pairs", lambda row: _made(row, "pairs"), True),
        Column("prompts", lambda row: _made(row, "prompts"), True),
        Column("duplicates", lambda row: count(row[1].duplicates) if row[1] else "", True, "pairs that came before"),
        Column("refused", lambda row: count(sum(row[1].refused.values())) if row[1] else "", True, "rows"),
        Column("made", lambda row: moment(row[0].created_at)),
        Column("open", lambda row: Markup("<span>{}</span>").format(places(row[0].run_id)) if row[1] else ""),
    ]
    refused = joined(_refusals_of(status, made) for status, made in rows if made and made.refused)
    return card(
        "Imported data sets", table(columns, rows, css="stack") + refused, note=f"{len(imports):,} in this lab home"
    )


def _state(status: RunStatus) -> Markup:
    told = pace(status) if is_alive(status) else status.message if status.state not in {"imported", "finished"} else ""
    bar = (
        Markup('<progress max="{}" value="{}" aria-label="rows read"></progress>').format(status.total, status.done)
        if is_alive(status) and status.total and status.done is not None
        else Markup("")
    )
    return joined([state_pill(status.state), Markup(" <span>{}</span>").format(visible(told)) if told else "", bar])


def _made(row: tuple[RunStatus, Summary | None], what: str) -> str:
    return count(row[1].rows.get(what, 0)) if row[1] else ""


def _refusals_of(status: RunStatus, made: Summary) -> Markup:
    rows = [{"place": one.place, "why": one.why} for one in made.listed]
    head = Markup("<h4>{} {}</h4>").format(pill(f"{sum(made.refused.values()):,} refused", "dropped"), status.run_id)
    return head + _refused(made.refused, rows)
