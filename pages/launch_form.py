"""The launch form: common keys as fields, everything as YAML, each following the other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages.components import problem
from pages.plan_told import plan_told
from pages.shell import QUIET, Lab, acting, edited, told
from synpo_lab import config, form, jobs
from synpo_lab.errors import ConfigError, LabError
from synpo_lab.home import storage_errors

START = "pocket"
SAME = "the selected run"
# Edits are taken one after the other, each from the draft the one before left: quick ones cannot overwrite one another.
IN_TURN: dict[str, Any] = {"concurrency_id": "launch form", "concurrency_limit": 1, "trigger_mode": "multiple"}


@dataclass(frozen=True, slots=True)
class LaunchForm:
    """The form's components, for a page to wire."""

    button: gr.Button
    status: gr.HTML
    text: gr.Code
    fields: list[Any]
    draft: gr.State  # the YAML as the server knows it: what is edited next starts from it, and what is launched is it

    @property
    def all(self) -> list[Any]:
        return [self.status, self.text, *self.fields, self.draft]


def launch_form(lab: Lab, picker: gr.Dropdown) -> LaunchForm:
    """Lay the form out and let fields and YAML follow each other."""
    gr.HTML(
        "<p class='lab-lead'>Choose a start, change what you like, launch. "
        "The run lives in a process of its own: close this page and it goes on.</p>"
    )
    start = gr.Dropdown(
        [*config.builtin_names(), SAME],
        value=START,
        label="Start from",
        elem_id="form-start",
        info="a built-in config, or what the selected run was given",
    )
    described = form.fields()
    written = config.load(START).to_yaml()  # filled in from the first moment: no late answer overwrites an edit
    values = form.values_of(written)
    with gr.Row(elem_classes="lab-form"):
        components = [_component(field, values[field.key]) for field in described]
    with gr.Accordion("Everything, as YAML", open=False):
        text = gr.Code(written, language="yaml", label="run.yaml", lines=18, max_lines=40, elem_id="form-yaml")
    status = gr.HTML(elem_id="form-status")
    with gr.Row():
        button = gr.Button("Start this run", variant="primary", elem_id="form-launch", scale=0, min_width=180)
        plan = gr.Button("What will it take?", elem_id="form-plan", scale=0, min_width=180)
    draft = gr.State(written)
    made = LaunchForm(button, status, text, components, draft)

    def follow_yaml(written: str) -> list[Any]:
        try:
            values = form.values_of(written)
        except ConfigError as error:
            return [problem(error.message, error.hint), written, *[gr.skip()] * len(components)]
        return [_fine(), written, *values.values()]

    @told
    def start_from(name: str, run_id: str | None) -> list[Any]:
        return filled(lab, run_id if name == SAME else None, name)

    for field, component in zip(described, components, strict=True):
        edited(component)(_follow_field(field.key), [draft, component], [status, draft, text], **QUIET, **IN_TURN)
    text.input(follow_yaml, text, [status, draft, *components], **QUIET, **IN_TURN)
    plan.click(acting(lab, plan_told), draft, status, api_visibility="private")
    start.input(start_from, [start, picker], made.all, **QUIET, **IN_TURN)
    return made


def filled(lab: Lab, run_id: str | None, name: str = START, **changes: Any) -> list[Any]:
    """Updates of `LaunchForm.all`: a run's config, or the built-in one of that name, with `changes` of its keys."""
    chosen = lab.config(run_id) if run_id else config.load(name if name != SAME else START)
    text = chosen.to_yaml()
    for key, value in changes.items():
        text = form.with_value(text, key.replace("__", "."), value)
    return ["", text, *form.values_of(text).values(), text]


def launched(lab: Lab, text: str) -> tuple[str | None, Markup]:
    """Start the run the YAML describes: its id, or what is wrong with it."""
    try:
        with storage_errors():
            wanted = form.config_of(text)
            run_id = jobs.launch(lab.home, wanted, name=wanted.title or wanted.recipe)
    except LabError as error:
        return None, problem(error.message, error.hint)
    return run_id, Markup('<p class="lab-fine">Started {}.</p>').format(run_id)


def _follow_field(key: str) -> Callable[[str, Any], list[Any]]:
    def follow(text: str, value: Any) -> list[Any]:
        try:
            if _has(text, key, value):
                return [gr.skip()] * 3
            changed = form.with_value(text, key, value)
        except ConfigError as error:
            return [problem(error.message, error.hint), gr.skip(), gr.skip()]
        return [_checked(changed), changed, changed]

    return follow


def _has(text: str, key: str, value: Any) -> bool:
    try:
        return bool(form.values_of(text)[key] == value)
    except ConfigError:
        return False


def _checked(text: str) -> Markup:
    try:
        form.config_of(text)
    except ConfigError as error:
        return problem(error.message, error.hint)
    return _fine()


def _fine() -> Markup:
    return Markup('<p class="lab-fine">This config is valid.</p>')


def _component(field: form.Field, value: Any) -> Any:
    common = {
        "value": value,
        "label": field.key,
        "info": field.meaning,
        "min_width": 260,
        "interactive": True,
        "elem_id": f"form-{field.key.replace('.', '-')}",
    }
    if field.kind == "choice":
        return gr.Dropdown(list(field.choices), **common)
    if field.kind == "switch":
        return gr.Checkbox(**common)
    if field.kind in {"text", "numbers"}:
        return gr.Textbox(**common)
    # The schema's bounds are told by `status`, with a hint; a Number that refuses them says nothing of use.
    return gr.Number(precision=0 if field.kind == "whole" else None, **common)
