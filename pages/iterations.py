"""Iterations: watch the trainings of a run, stop and resume it, start another."""

from functools import partial
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages import charts, data_set
from pages.again import again_of, again_panel
from pages.components import Column, card, link, live_card, pill, table
from pages.filter_rules import told_rules
from pages.launch_form import IN_TURN, filled, launch_form, launched
from pages.shell import (
    POLL_SECONDS,
    QUIET,
    Lab,
    acting,
    fresh,
    heading,
    is_alive,
    moment_of,
    no_runs,
    on_load,
    picked,
    selection,
    told,
)
from pages.text import count, moment, number, one_line, percent, signed
from storage.queries import GridResult, events_page, grid_results, train_curve, variants
from synpo_lab import jobs
from synpo_lab.grid import leads
from synpo_lab.jobs import RunStatus
from synpo_lab.jobs.wording import stage_name

LEAD = "One iteration trains an improver and a policy. Each training is drawn as it goes."
LATEST = "latest"
LOG_ROWS, LOG_READ = 25, 200
EVENTS = """SELECT events.at, stage, iteration, done, total, level, message
FROM events
WHERE run_id = '{}'
ORDER BY events.at DESC"""
POINTS = 600  # of a curve
STOPPABLE, RESUMABLE = {"queued", "running"}, {"stopped", "interrupted", "failed"}
CURVES = {  # title, unit, what is drawn: field by name
    "loss": ("Loss", "loss", {"": "loss"}),
    "margin": ("Reward margin", "β (logp chosen − rejected)", {"": "reward_margin"}),
    "accuracy": ("Reward accuracy", "share of pairs", {"": "reward_accuracy"}),
    "logp": ("Log-probabilities", "nats per token", {"chosen": "logp_chosen", "rejected": "logp_rejected"}),
}


def build(lab: Lab) -> None:
    picker = heading("Iterations", LEAD)
    with gr.Tabs(elem_id="iteration-tabs") as tabs:
        with gr.Tab("Watch", id="watch"):
            live = gr.HTML(elem_id="live")
            with gr.Row(elem_classes="lab-pager", visible=not lab.read_only):
                stop = gr.Button("Stop and keep", size="sm", scale=0, min_width=130, elem_id="stop", interactive=False)
                resume = gr.Button("Resume", size="sm", scale=0, min_width=130, elem_id="resume", interactive=False)
            training = gr.Dropdown(label="Training", choices=[(LATEST, LATEST)], value=LATEST, elem_id="training")
            with gr.Row(elem_classes="lab-row lab-curves"):
                plots = [
                    gr.Plot(show_label=False, container=False, elem_id=f"curve-{name}", visible=False)
                    for name in CURVES
                ]
            grid = gr.HTML(elem_id="grid", elem_classes="hide-empty")
            log = gr.HTML(elem_id="log", elem_classes="hide-empty")
            again = again_panel()
        with gr.Tab("New run", id="new", visible=not lab.read_only):
            form = launch_form(lab, picker)
    seen = gr.State([])
    timer = gr.Timer(POLL_SECONDS, active=False)
    shown = [live, *plots, grid, log, seen, stop, resume, training, timer]

    @told
    def show(run_id: str | None, chosen: str, before: list[int]) -> list[Any]:
        return _show(lab, run_id, chosen, before)

    @told
    def open_page(request: gr.Request) -> list[Any]:
        asked = selection(lab, request)
        rules = {f"filter__{name}": value for name, value in told_rules(asked.query)[0].items()}
        values = filled(lab, asked.run_id, **rules) if rules else [gr.skip()] * len(form.all)
        wants_new = (bool(rules) or "new" in asked.query) and not lab.read_only
        tab = gr.Tabs(selected="new") if wants_new else gr.skip()
        return [picked(lab, asked.run_id), tab, *values, *show(asked.run_id, LATEST, [])]

    def act(run_id: str, chosen: str, *, action: Any) -> list[Any]:
        action(lab.home, run_id)
        return show(run_id, chosen, [])

    def start_run(text: str) -> list[Any]:
        run_id, said = launched(lab, text)
        if run_id is None:
            return [gr.skip(), gr.skip(), said, *[gr.skip()] * len(shown)]
        return [picked(lab, run_id), gr.Tabs(selected="watch"), said, *show(run_id, LATEST, [])]

    picker.change(lambda run_id: again_of(lab, run_id), picker, again, **QUIET)
    on_load(lab, open_page, [picker, tabs, *form.all, *shown])
    picker.input(lambda run_id: show(run_id, LATEST, []), picker, shown, **QUIET)
    training.input(show, [picker, training, seen], shown, **QUIET)
    timer.tick(show, [picker, training, seen], shown, **QUIET)
    stop.click(acting(lab, partial(act, action=jobs.stop)), [picker, training], shown, **QUIET)
    resume.click(
        acting(lab, partial(act, action=jobs.resume)),
        [picker, training],
        shown,
        api_visibility="private",
        show_progress="minimal",
    )
    started = form.button.click(
        acting(lab, start_run),
        form.draft,
        [picker, tabs, form.status, *shown],
        api_visibility="private",
        show_progress="minimal",
        **IN_TURN | {"trigger_mode": "once"},  # a double click starts one run
    )
    started.then(None, picker, None, js="(run) => { labAddress({run, min_gap: null, new: null}); }", **QUIET)


def _show(lab: Lab, run_id: str | None, chosen: str, before: list[int]) -> list[Any]:
    status = lab.run(run_id)
    if status is None:
        return [no_runs(lab), *[gr.skip()] * (len(CURVES) + 2), [], *_controls(None), gr.skip(), gr.Timer(active=False)]
    made = lab.latest(
        ("variants", status.run_id), _training_moment(status), lambda: variants(lab.database, status.run_id)
    )
    drawn, keys = fresh(_panels(lab, status, made, chosen), before)
    return [*drawn, keys, *_controls(status), _trainings(made, chosen), gr.Timer(active=is_alive(status))]


def _controls(status: RunStatus | None) -> list[Any]:
    state = status.state if status else ""
    return [gr.Button(interactive=state in STOPPABLE), gr.Button(interactive=state in RESUMABLE)]


def _panels(lab: Lab, status: RunStatus, made: list[dict[str, Any]], chosen: str) -> list[Any]:
    rates = {} if data_set.is_data_set(status) else {row.iteration: row.win_rate for row in lab.overview(status)}
    drawn = _of_training(made, chosen)
    events = events_page(lab.database, status.run_id, limit=LOG_READ)
    said = [row for row in events.rows if row["message"]][:LOG_ROWS]  # mere progress says nothing
    return [
        ((status, rates), lambda: _live(lab, status, rates)),
        *(((name, drawn), lambda name=name: _curve(lab, status.run_id, drawn, name)) for name in CURVES),
        (moment_of(status), lambda: _grid(grid_results(lab.database, status.run_id))),
        (said, lambda: _log(lab, status, said, events.total)),
    ]


def _live(lab: Lab, status: RunStatus, rates: dict[int, float | None]) -> Markup:
    if data_set.is_data_set(status):
        return data_set.set_card(lab, status, "An imported data set: nothing was trained, so there are no curves here.")
    return live_card(status, lab.is_toy(status.run_id), rates)


def _key(row: dict[str, Any]) -> str:
    return f"{row['iteration']} {row['trainee']}"


def _of_training(made: list[dict[str, Any]], chosen: str) -> list[dict[str, Any]]:
    """The members of the training that is chosen; the last one begun when that is left open."""
    wanted = _key(made[-1]) if chosen == LATEST and made else chosen
    return [row for row in made if _key(row) == wanted]


def _trainings(made: list[dict[str, Any]], chosen: str) -> Any:
    names = {_key(row): f"{stage_name(row['trainee'], row['iteration'])}" for row in reversed(made)}
    return gr.Dropdown(
        choices=[(LATEST, LATEST), *((name, key) for key, name in names.items())],
        value=chosen if chosen in names else LATEST,
        visible=bool(names),
    )


def _training_moment(status: RunStatus) -> tuple[object, ...]:
    """What changes when a training has logged another step."""
    return (*moment_of(status), status.done if status.stage.startswith("train") else None)


def _steps(lab: Lab, run_id: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    """One training's steps, asked for again when there are more: four charts draw them."""
    which = (run_id, row["iteration"], row["trainee"], row["variant"])
    return lab.latest(which, row["logged"], lambda: train_curve(lab.database, *which, points=POINTS))


def _curve(lab: Lab, run_id: str, drawn: list[dict[str, Any]], name: str) -> Any:
    title, unit, wanted = CURVES[name]
    curves = {}
    for row in drawn:
        steps = _steps(lab, run_id, row)
        for side, field in wanted.items():
            points = [(step["step"], step[field]) for step in steps if step[field] is not None]
            curves[" ".join(filter(None, [side, row["variant"]])) or title.lower()] = points
    if not any(curves.values()):
        return gr.Plot(visible=False)
    return gr.Plot(charts.training(curves, title, unit, keep=f"{run_id} {_key(drawn[0])}"), visible=True)


def _grid(found: list[GridResult]) -> Markup:
    if not found:
        return Markup("")
    ahead = leads(found)
    columns = [
        Column("iteration", lambda one: one.iteration),
        Column("training", lambda one: one.variant or "the only one"),
        Column("mean score on the seeds", lambda one: number(one.score), True),
        Column("± s.e.", lambda one: number(one.se), True),
        Column("win rate against M₀ there", lambda one: percent(one.win_rate), True),
        Column("mean length", lambda one: number(one.mean_length, 0), True, "characters"),
        Column("answers", lambda one: count(one.n), True),
        Column("", _fate),
        Column(
            "ahead by",
            lambda one: signed(ahead.get(one.iteration)) if one.won else "",
            True,
            "of the best of the others",
        ),
    ]
    return card(
        "Which β won",
        table(columns, found),
        note="each β is trained, the best on the validation seeds becomes the policy"
        + (
            "; clearly worse ones were stopped early"
            if any(one.stopped_at and one.won is False for one in found)
            else ""
        ),
    )


def _fate(one: GridResult) -> Markup | str:
    if one.stopped_at is None:
        return pill(Markup("<span>became M<sub>{}</sub></span>").format(one.iteration), "kept") if one.won else ""
    word = "stopped at" if one.won is False else "racing, at"
    return pill(f"{word} step {count(one.stopped_at)}", "dropped" if one.won is False else "queued")


def _log(lab: Lab, status: RunStatus, rows: list[dict[str, Any]], total: int) -> Markup:
    columns = [
        Column("when", lambda row: moment(row["at"], clock=True)),
        Column("stage", lambda row: stage_name(row["stage"], row["iteration"])),
        Column("done", lambda row: f"{count(row['done'])} of {count(row['total'])}" if row["total"] else "", True),
        Column(
            "",
            lambda row: (
                "" if row["level"] == "info" else pill(row["level"], "failed" if row["level"] == "error" else "queued")
            ),
        ),
        Column("message", lambda row: Markup('<span class="wide">{}</span>').format(one_line(row["message"]))),
    ]
    printed = jobs.log_tail(lab.home / "runs" / status.run_id, LOG_ROWS)
    tail = (
        Markup("<details class='lab-asked'><summary>What the worker printed</summary><pre>{}</pre></details>").format(
            printed
        )
        if printed
        else ""
    )
    return card(
        "Log",
        table(columns, rows, css="stack log") + tail,
        note=Markup("the last {} messages; {}").format(
            count(len(rows)),
            link("sql", f"all {count(total)} events →", run=status.run_id, sql=EVENTS.format(status.run_id)),
        ),
    )
