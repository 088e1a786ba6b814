"""SQL: ask anything about the runs, read-only."""

import re
import shlex
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages import result_chart
from pages.components import Column, card, joined, link, problem, table
from pages.result_chart import KINDS
from pages.shell import QUIET, Lab, heading, picked, selection, told
from pages.text import NOTHING, count, counted, excerpt, number, one_line, visible
from storage.catalogue import View, public_views
from storage.errors import SQLFault
from storage.examples import example_queries
from storage.result_files import FileFormat, write_result
from storage.sandbox import QueryResult
from storage.sql_text import condition_on_pairs, duckdb_script, run_of_query

LEAD = "Ask anything: one SELECT over the public tables. Nothing can be changed from here."
FETCHED, SHOWN = 1_000, 200  # rows asked for, and of these put on the page
DOWNLOADED, DOWNLOAD_SECONDS = 100_000, 60.0
LONGEST = 600  # characters of a cell
REMEMBERED = 25  # questions, in the visitor's browser
LONGEST_COMMAND = 120_000  # bytes; Linux takes 128 KiB in one word
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and newline
CLICK = "() => labSave('sql-file')"


def build(lab: Lab) -> None:
    picker = heading("SQL", LEAD)
    questions = list(example_queries())
    history = gr.BrowserState([], storage_key="synpo-lab-questions", secret="synpo-lab")
    with gr.Row(elem_classes="lab-row"):
        with gr.Column(scale=8, min_width=340):
            with gr.Row(elem_classes="lab-filters"):
                example = gr.Dropdown(
                    questions, value=questions[0], label="A question to start from", elem_id="sql-example", scale=2
                )
                earlier = gr.Dropdown([], label="Asked before, in this browser", elem_id="sql-history", scale=1)
            editor = gr.Code(language="sql", label="SQL", lines=9, max_lines=24, elem_id="sql-editor")
            with gr.Row(elem_classes="lab-pager"):
                run = gr.Button("Run", variant="primary", size="sm", scale=0, min_width=110, elem_id="sql-run")
                stop = gr.Button("Stop", size="sm", scale=0, min_width=80, elem_id="sql-stop")
                csv = gr.Button("Download CSV", size="sm", scale=0, min_width=130, elem_id="sql-csv")
                parquet = gr.Button("Download Parquet", size="sm", scale=0, min_width=150, elem_id="sql-parquet")
                rule = gr.Button("Use as filter", size="sm", scale=0, min_width=120, elem_id="sql-filter")
                gr.HTML("<p class='lab-place'>Ctrl + Enter runs it</p>")
            said = gr.HTML(elem_id="sql-said", elem_classes="hide-empty")
        with gr.Column(scale=4, min_width=300):
            gr.HTML(_schema(), elem_id="sql-schema")
    result = gr.HTML(elem_id="sql-result")
    with gr.Accordion("Chart of the result", open=False):
        with gr.Row(elem_classes="lab-filters"):
            kind = gr.Dropdown(list(KINDS), value="auto", label="Kind", elem_id="sql-kind", min_width=120)
            x = gr.Dropdown([], label="Across", elem_id="sql-x", min_width=160)
            y = gr.Dropdown([], label="Up", multiselect=True, elem_id="sql-y", min_width=220)
        chart = gr.Plot(show_label=False, container=False, elem_id="sql-chart")
    with gr.Accordion("Ask the same in a terminal", open=False):
        command = gr.Code(language="shell", label="with synpo-lab", lines=1, elem_id="sql-command")
        script = gr.Code(language="shell", label="with DuckDB alone", lines=4, max_lines=16, elem_id="sql-duckdb")
    file = gr.DownloadButton("Save the result", visible="hidden", elem_id="sql-file")
    found = gr.State(None)
    shown = [result, found, x, y, chart, command, script]

    @told
    def open_page(before: list[str], request: gr.Request) -> list[Any]:
        asked = selection(lab, request)
        sql = asked.query.get("sql") or example_queries(asked.run_id)[questions[0]]
        return [picked(lab, asked.run_id), sql, _earlier(before), *_ask(lab, sql, "auto", request)]

    def fill(question: str, run_id: str | None) -> str:
        return example_queries(run_id)[question]

    def ask(sql: str, kind: str, before: list[str], request: gr.Request) -> list[Any]:
        asked = _ask(lab, sql, kind, request)
        now = _remember(before, sql) if asked[1] is not None else before
        return [now, _earlier(now), "", *asked]

    def redraw(found: QueryResult | None, kind: str, x: str | None, y: list[str]) -> Any:
        return _chart(found, kind, x, y)

    def cancel(request: gr.Request) -> None:
        lab.console.cancel(_ticket(request))

    def use(sql: str, run_id: str | None) -> Markup:
        return _as_filter(sql, run_id)

    @told
    def save(sql: str, format: FileFormat) -> Any:
        found = lab.console.query(sql, max_rows=DOWNLOADED, time_limit=DOWNLOAD_SECONDS)
        path = lab.downloads.path(f"synpo-lab.{format}")
        return gr.DownloadButton(value=str(write_result(found, path, format)))

    lab.app.load(open_page, history, [picker, editor, earlier, *shown], **QUIET)
    gr.on([example.input, picker.input], fill, [example, picker], editor, **QUIET)
    earlier.input(lambda sql: sql, earlier, editor, **QUIET)
    asked = run.click(
        ask,
        [editor, kind, history],
        [history, earlier, said, *shown],
        api_visibility="private",
        show_progress="minimal",
        concurrency_limit=4,
        concurrency_id="sql",
    )
    asked.then(None, editor, None, js="(sql) => { labAddress({sql: sql.length < 1500 ? sql : null}); }", **QUIET)
    gr.on([kind.input, x.input, y.input], redraw, [found, kind, x, y], chart, **QUIET)
    stop.click(cancel, None, None, queue=False, **QUIET)
    rule.click(use, [editor, picker], said, **QUIET)
    for button, format in ((csv, "csv"), (parquet, "parquet")):
        saved = button.click(
            _saver(save, format),
            editor,
            file,
            api_visibility="private",
            show_progress="minimal",
            concurrency_limit=4,
            concurrency_id="sql",
        )
        saved.success(None, None, None, js=CLICK, **QUIET)


def _saver(save: Any, format: str) -> Any:
    return lambda sql: save(sql, format)


def _ticket(request: gr.Request) -> str:
    return str(request.session_hash)


def _ask(lab: Lab, sql: str, kind: str, request: gr.Request) -> list[Any]:
    """The table, what was found, the chart's axes and the chart, and the same question as commands."""
    if not sql.strip():
        return _nothing(problem("There is no question yet.", "choose one above, or write a SELECT"))
    try:
        found = lab.console.query(sql, max_rows=FETCHED, ticket=_ticket(request))
    except SQLFault as fault:
        return _nothing(problem(visible(fault.message), fault.hint))
    x, y = result_chart.axes_of(found)
    across, up = [*found.columns, result_chart.ROWS], list(dict.fromkeys(found.columns))
    axes = [gr.Dropdown(choices=across, value=x), gr.Dropdown(choices=up, value=y)]
    return [_table(found), found, *axes, _chart(found, kind, x, y), *_commands(lab, sql)]


def _nothing(said: Markup) -> list[Any]:
    return [said, None, gr.Dropdown(choices=[], value=None), gr.Dropdown(choices=[], value=[]), None, "", ""]


def _chart(found: QueryResult | None, kind: str, x: str | None, y: list[str]) -> Any:
    return None if found is None or not found.rows or x is None else result_chart.draw(found, kind, x, y)


def _commands(lab: Lab, sql: str) -> list[str]:
    """The question for a terminal. Addresses carry questions of strangers: all of one stays inside one quoted word."""
    home = "LAB_HOME" if lab.read_only else str(lab.home)
    asked = sql.strip().replace("\r\n", "\n")
    if CONTROL.search(asked):
        return ["# the question holds control characters, which a terminal would obey"] * 2
    script = shlex.quote(duckdb_script(lab.store, lab.database.run_rows(), asked))
    alone = f"cd {shlex.quote(home)} && duckdb -c {script}"
    too_long = len(alone.encode()) > LONGEST_COMMAND
    return [
        f"synpo-lab query --home {shlex.quote(home)} {shlex.quote(asked)}",
        "# with the rows of `runs` it is longer than a command may be; ask with synpo-lab" if too_long else alone,
    ]


def _as_filter(sql: str, run_id: str | None) -> Markup:
    try:
        condition, named = condition_on_pairs(sql), run_of_query(sql)
    except SQLFault as fault:
        return problem(visible(fault.message), fault.hint)
    to_filter = link("thresholds", "Open it in the filter", run=named or run_id, where=condition)
    told_as = '<p class="lab-fine">As a rule{}: keep pairs where <code>{}</code>. {}.</p>'
    of_run = f" of {excerpt(named, LONGEST)}" if named else ""
    return Markup(told_as).format(visible(of_run), visible(excerpt(condition, LONGEST)), to_filter)


def _remember(before: list[str], sql: str) -> list[str]:
    return [sql, *(one for one in before or [] if one != sql)][:REMEMBERED]


def _earlier(before: list[str]) -> Any:
    return gr.Dropdown(choices=[(excerpt(one_line(sql), 80), sql) for sql in before or []], value=None)


def _table(found: QueryResult) -> Markup:
    run = found.columns.index("run_id") if "run_id" in found.columns else None
    columns = [
        Column(name, _cell_at(place, name, run), result_chart.is_number(kind), kind)
        for place, (name, kind) in enumerate(zip(found.columns, found.types, strict=True))
    ]
    told_rows = counted(len(found.rows), "row") + (", and there are more" if found.truncated else "")
    told_shown = f", the first {SHOWN} shown" if len(found.rows) > SHOWN else ""
    note = Markup('<span id="sql-note">{}{}, in {} s{}</span>').format(
        told_rows, told_shown, number(found.elapsed), _truncated(found)
    )
    return card("Result", table(columns, found.rows[:SHOWN], css="sql"), note=note)


def _truncated(found: QueryResult) -> str:
    return f"; a download has up to {count(DOWNLOADED)} rows" if found.truncated else ""


def _cell_at(place: int, name: str, run: int | None) -> Any:
    """How a column's values are shown. `run`: the place of the column that says whose row it is; ids are in many runs."""

    def cell(row: list[Any]) -> Markup:
        value = row[place]
        if name == "pair_id" and isinstance(value, str):
            return link("pairs", visible(excerpt(value, LONGEST)), run=None if run is None else row[run], pair=value)
        if value is None:
            return Markup('<span class="null">{}</span>').format(NOTHING)
        return Markup('<span class="wide" dir="auto">{}</span>').format(visible(excerpt(str(value), LONGEST)))

    return cell


def _schema() -> Markup:
    tables = joined(_view(view) for view in public_views().values())
    return card("Tables", tables, note="every run’s rows; run_id tells them apart", css="schema")


def _view(view: View) -> Markup:
    columns = joined(Markup("<dt>{}</dt><dd>{}</dd>").format(name, meaning) for name, meaning in view.columns.items())
    look = link("sql", "first rows", sql=f"SELECT * FROM {view.name} LIMIT 20")
    return Markup("<details><summary><b>{}</b> <span>{}</span></summary><p>{}</p><dl>{}</dl></details>").format(
        view.name, view.question, look, columns
    )
