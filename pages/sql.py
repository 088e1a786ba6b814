"""SQL: ask anything about the runs, read-only."""

import secrets
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages.components import Column, card, joined, problem, table
from pages.shell import QUIET, Lab, heading, on_load, picked, selection, told
from pages.text import NOTHING, count, excerpt, number, visible
from storage.catalogue import View, public_views
from storage.errors import SQLFault
from storage.examples import example_queries
from storage.result_files import FileFormat, write_result
from storage.sandbox import QueryResult

LEAD = "Ask anything: one SELECT over the public tables. Nothing can be changed from here."
FETCHED, SHOWN = 1_000, 200  # rows asked for, and of these put on the page
DOWNLOADED, DOWNLOAD_SECONDS = 100_000, 60.0
LONGEST = 600  # characters of a cell
NUMERIC = ("INT", "DOUBLE", "FLOAT", "DECIMAL")
CLICK = "() => labSave('sql-file')"


def build(lab: Lab) -> None:
    picker = heading("SQL", LEAD)
    questions = list(example_queries())
    with gr.Row(elem_classes="lab-row"):
        with gr.Column(scale=8, min_width=340):
            example = gr.Dropdown(
                questions, value=questions[0], label="A question to start from", elem_id="sql-example"
            )
            editor = gr.Code(language="sql", label="SQL", lines=9, max_lines=24, elem_id="sql-editor")
            with gr.Row(elem_classes="lab-pager"):
                run = gr.Button("Run", variant="primary", size="sm", scale=0, min_width=110, elem_id="sql-run")
                stop = gr.Button("Stop", size="sm", scale=0, min_width=80, elem_id="sql-stop")
                csv = gr.Button("Download CSV", size="sm", scale=0, min_width=130, elem_id="sql-csv")
                parquet = gr.Button("Download Parquet", size="sm", scale=0, min_width=150, elem_id="sql-parquet")
                gr.HTML("<p class='lab-place'>Ctrl + Enter runs it</p>")
        with gr.Column(scale=4, min_width=300):
            gr.HTML(_schema(), elem_id="sql-schema")
    result = gr.HTML(elem_id="sql-result")
    file = gr.DownloadButton("Save the result", visible="hidden", elem_id="sql-file")

    @told
    def open_page(request: gr.Request) -> list[Any]:
        asked = selection(lab, request)
        sql = asked.query.get("sql") or example_queries(asked.run_id)[questions[0]]
        return [picked(lab, asked.run_id), sql, _answer(lab, sql, request)]

    def fill(question: str, run_id: str | None) -> str:
        return example_queries(run_id)[question]

    def ask(sql: str, request: gr.Request) -> Markup:
        return _answer(lab, sql, request)

    def cancel(request: gr.Request) -> None:
        lab.console.cancel(_ticket(request))

    @told
    def save(sql: str, format: FileFormat) -> Any:
        found = lab.console.query(sql, max_rows=DOWNLOADED, time_limit=DOWNLOAD_SECONDS)
        path = lab.downloads / secrets.token_hex(8) / f"synpo-lab.{format}"
        return gr.DownloadButton(value=str(write_result(found, path, format)))

    on_load(lab, open_page, [picker, editor, result])
    gr.on([example.input, picker.input], fill, [example, picker], editor, **QUIET)
    asked = run.click(
        ask,
        editor,
        result,
        api_visibility="private",
        show_progress="minimal",
        concurrency_limit=4,
        concurrency_id="sql",
    )
    asked.then(None, editor, None, js="(sql) => { labAddress({sql: sql.length < 1500 ? sql : null}); }", **QUIET)
    stop.click(cancel, None, None, queue=False, **QUIET)
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


def _answer(lab: Lab, sql: str, request: gr.Request) -> Markup:
    if not sql.strip():
        return problem("There is no question yet.", "choose one above, or write a SELECT")
    try:
        return _table(lab.console.query(sql, max_rows=FETCHED, ticket=_ticket(request)))
    except SQLFault as fault:
        return problem(visible(fault.message), fault.hint)


def _table(found: QueryResult) -> Markup:
    columns = [
        Column(name, _cell_at(place), kind.endswith(NUMERIC) or kind.startswith("DECIMAL"), kind)
        for place, (name, kind) in enumerate(zip(found.columns, found.types, strict=True))
    ]
    told_rows = f"{count(len(found.rows))} rows" + (", and there are more" if found.truncated else "")
    told_shown = f", the first {SHOWN} shown" if len(found.rows) > SHOWN else ""
    note = Markup('<span id="sql-note">{}{}, in {} s{}</span>').format(
        told_rows, told_shown, number(found.elapsed), _truncated(found)
    )
    return card("Result", table(columns, found.rows[:SHOWN], css="sql"), note=note)


def _truncated(found: QueryResult) -> str:
    return f"; a download has up to {count(DOWNLOADED)} rows" if found.truncated else ""


def _cell_at(place: int) -> Any:
    def cell(row: list[Any]) -> Markup:
        value = row[place]
        if value is None:
            return Markup('<span class="null">{}</span>').format(NOTHING)
        return Markup('<span class="wide" dir="auto">{}</span>').format(visible(excerpt(str(value), LONGEST)))

    return cell


def _schema() -> Markup:
    tables = joined(_view(view) for view in public_views().values())
    return card("Tables", tables, note="every run’s rows; run_id tells them apart", css="schema")


def _view(view: View) -> Markup:
    columns = joined(Markup("<dt>{}</dt><dd>{}</dd>").format(name, meaning) for name, meaning in view.columns.items())
    return Markup("<details><summary><b>{}</b> <span>{}</span></summary><dl>{}</dl></details>").format(
        view.name, view.question, columns
    )
