"""How to run exactly this again without the page: a command line and a YAML file, to be copied."""

from typing import Any

import gradio as gr
from markupsafe import Markup

from pages.shell import Lab
from synpo_lab.again import command, fork_command
from synpo_lab.config import RunConfig
from synpo_lab.errors import LabError
from synpo_lab.jobs.watching import Parent

SAVED = Markup(
    "<p class='lab-lead'>One line, with every key that differs from what it starts from: a built-in config, or the run "
    "it was forked from. Or, for one that is no fork, save the YAML as run.yaml and run <code>synpo-lab run run.yaml</code>.</p>"
)
FORKED = (
    "# It goes on from iteration {0.iteration} of {0.run_id}: run from this alone, it would start from the beginning.\n"
)


def again_panel() -> list[Any]:
    """The panel's parts, empty; `again_of` fills them in this order."""
    with gr.Accordion("Run exactly this again, without the page", open=False, elem_id="again") as panel:
        gr.HTML(SAVED)
        line = gr.Code(
            language="shell", label="command", interactive=False, elem_id="again-line", wrap_lines=True, lines=2,
            max_lines=8,
        )  # fmt: skip
        text = gr.Code(language="yaml", label="run.yaml", interactive=False, max_lines=18, elem_id="again-yaml")
    return [panel, line, text]


def again_of(lab: Lab, run_id: str | None) -> list[Any]:
    """What the parts of the panel show for a run."""
    config = _config(lab, run_id)
    if config is None:
        return [gr.Accordion(visible=False), None, None]
    run = lab.run(run_id)
    if run is not None and run.parent is not None:
        return [
            gr.Accordion(visible=True),
            _fork(lab, run.parent, config),
            FORKED.format(run.parent) + config.to_yaml(),
        ]
    return [gr.Accordion(visible=True), command(config, name=run_id or ""), config.to_yaml()]


def _fork(lab: Lab, parent: Parent, config: RunConfig) -> str:
    before = _config(lab, parent.run_id)
    if before is None:
        return f"# it was forked from {parent.run_id}, whose config is no longer in this lab home"
    return fork_command(parent.run_id, parent.iteration, before, config)


def _config(lab: Lab, run_id: str | None) -> RunConfig | None:
    if lab.run(run_id) is None or run_id is None:
        return None
    try:
        return lab.config(run_id)
    except LabError:
        return None
