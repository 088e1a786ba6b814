"""Export what a page shows: the pairs of its query, in the shape another tool reads, to a file or to the Hub."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages.shell import QUIET, Lab, acting, told
from pages.text import count, counted
from storage.export import CHAT, ExportReport, export
from storage.queries.pair_query import PairQuery
from storage.queries.pairs import conversations
from synpo_lab.publishing import publish

SHAPES = {
    "TRL preference rows (JSONL)": "trl",
    "dataset folder with a card (zip)": "datasets",
    "Parquet, every column": "parquet",
    "JSONL, every column": "jsonl",
    "CSV, every column": "csv",
    "AlpacaEval model outputs": "alpaca-eval",
    "LLM Comparator": "llm-comparator",
    "AlpacaEval model outputs of the run’s evaluation": "alpaca-eval of the evaluation",
    "LLM Comparator of the run’s evaluation": "llm-comparator of the evaluation",
}
OF_EVALUATION = " of the evaluation"
SAVE = "() => labSave('{}-file')"


def export_panel(
    lab: Lab, name: str, wanted: Callable[..., tuple[str | None, PairQuery]], inputs: Sequence[Any]
) -> None:
    """A closed accordion. `wanted(*inputs)` is the run and the query whose pairs are meant; `name` is told in its ids."""
    with gr.Accordion("Export what is shown", open=False, elem_id=f"{name}-export") as panel:
        with gr.Row(elem_classes="lab-filters"):
            shape = gr.Dropdown(list(SHAPES), value=next(iter(SHAPES)), label="As", elem_id=f"{name}-shape", scale=2)
            read = gr.Checkbox(
                label="only what the run’s trainer read", elem_id=f"{name}-read", scale=1, min_width=210,
                info="pairs it kept and sampled, among those shown",
            )  # fmt: skip
            chat = gr.Checkbox(label="texts as chat messages", elem_id=f"{name}-chat", scale=1, min_width=180)
            save = gr.Button("Download", size="sm", scale=0, min_width=130, elem_id=f"{name}-download")
        with gr.Row(elem_classes="lab-filters", visible=not lab.read_only):
            repository = gr.Textbox(
                label="Or to the Hub, as a private data set", placeholder="OWNER/NAME", elem_id=f"{name}-hub", scale=2
            )
            push = gr.Button("Upload", size="sm", scale=0, min_width=130, elem_id=f"{name}-upload")
        said = gr.HTML(elem_id=f"{name}-said", elem_classes="hide-empty")
    file = gr.DownloadButton("Save the export", visible="hidden", elem_id=f"{name}-file")

    def meant(read: bool, *values: Any) -> tuple[str | None, PairQuery]:
        run_id, query = wanted(*values)
        return run_id, replace(query, kept=True) if read else query

    @told
    def download(shape: str, read: bool, chat: bool, *values: Any) -> list[Any]:
        run_id, query = meant(read, *values)
        path, made = written(lab, run_id or "", query, SHAPES[shape], chat)
        told_rows = Markup('<p class="lab-fine">{}.</p>').format(counted(made.rows, "row"))
        return [gr.DownloadButton(value=str(path)), told_rows + _flattened(made.flattened)]

    def upload(repository: str, read: bool, chat: bool, *values: Any) -> Markup:
        run_id, query = meant(read, *values)
        made = publish(lab.database, run_id or "", repository.strip(), query=query, kept=False, chat=chat)
        told_where = '<p class="lab-fine">{} at <a href="{}" rel="noopener">{}</a>.</p>'
        return Markup(told_where).format(counted(made.rows, "row"), made.url, made.url) + _flattened(made.flattened)

    @told
    def propose(shape: str, read: bool, *values: Any) -> Any:
        """Chat messages, where prompts are conversations: as one text their turns are lost."""
        run_id, query = meant(read, *values)
        found = conversations(lab.database, run_id, query) if run_id else 0
        if not found:
            return gr.Checkbox(info="")
        is_one = "is a conversation" if found == 1 else "are conversations"
        return gr.Checkbox(value=True, info=f"{counted(found, 'prompt')} {is_one}", interactive=SHAPES[shape] in CHAT)

    shape.input(lambda shape: gr.Checkbox(interactive=SHAPES[shape] in CHAT), shape, chat, **QUIET)
    panel.expand(propose, [shape, read, *inputs], chat, **QUIET)
    heavy: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal", "concurrency_id": "export"}
    saved = save.click(download, [shape, read, chat, *inputs], [file, said], concurrency_limit=2, **heavy)
    saved.success(None, None, None, js=SAVE.format(name), **QUIET)
    push.click(acting(lab, upload), [repository, read, chat, *inputs], said, concurrency_limit=2, **heavy)


def _flattened(prompts: int) -> Markup:
    if not prompts:
        return Markup("")
    return Markup(
        '<p class="lab-fine">{} of the prompts are conversations, written as one text; '
        "“texts as chat messages” keeps their turns.</p>"
    ).format(count(prompts))


def written(lab: Lab, run_id: str, query: PairQuery, shape: str, chat: bool) -> tuple[Path, ExportReport]:
    """The export as one file for a browser, and what is in it. `shape`: a value of SHAPES."""
    folder = lab.downloads.path(run_id).parent
    format: Any = shape.removesuffix(OF_EVALUATION)
    chat = chat and format in CHAT
    of_evaluation = shape.endswith(OF_EVALUATION)
    made = export(lab.database, run_id, folder, format, False, query=query, chat=chat, evaluation=of_evaluation)
    if not made.path.is_dir():
        return made.path, made
    archive = Path(shutil.make_archive(str(folder / run_id), "zip", made.path))
    shutil.rmtree(made.path)
    return archive, made
