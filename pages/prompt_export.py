"""Export the prompts that the table shows, all pages of it."""

from typing import Any

import gradio as gr
from markupsafe import Markup

from pages.export_panel import SAVE
from pages.prompt_rows import Asked
from pages.shell import QUIET, Lab, told
from pages.text import counted
from storage.export.prompts import PromptFormat, export_prompts

SHAPES: dict[str, PromptFormat] = {"CSV": "csv", "JSONL": "jsonl", "Parquet": "parquet"}


def prompt_export(lab: Lab, picker: gr.Dropdown, filters: list[Any]) -> None:
    """A closed accordion. `filters`: the widgets in the order of `Asked`."""
    with gr.Accordion("Export what is shown", open=False, elem_id="prompts-export"):
        with gr.Row(elem_classes="lab-filters"):
            shape = gr.Dropdown(list(SHAPES), value="CSV", label="As", elem_id="prompts-shape", scale=0, min_width=160)
            save = gr.Button("Download", size="sm", scale=0, min_width=130, elem_id="prompts-download")
        said = gr.HTML(elem_id="prompts-said", elem_classes="hide-empty")
    file = gr.DownloadButton("Save the export", visible="hidden", elem_id="prompts-file")

    @told
    def download(shape: str, run_id: str | None, *wanted: Any) -> list[Any]:
        path = lab.downloads.path(f"{run_id}-prompts.{SHAPES[shape]}")
        rows = export_prompts(lab.database, run_id or "", path, SHAPES[shape], **Asked(*wanted).chosen())
        told_rows = Markup('<p class="lab-fine">{}.</p>').format(counted(rows, "prompt"))
        return [gr.DownloadButton(value=str(path)), told_rows]

    saved = save.click(
        download,
        [shape, picker, *filters],
        [file, said],
        api_visibility="private",
        show_progress="minimal",
        concurrency_id="export",
        concurrency_limit=2,
    )
    saved.success(None, None, None, js=SAVE.format("prompts"), **QUIET)
