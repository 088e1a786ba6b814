"""Compare: what did one run change against another?"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import gradio as gr
import plotly.graph_objects as go
from markupsafe import Markup

from pages import charts
from pages.again import again_of, again_panel
from pages.components import Column, card, empty, facts, link, table
from pages.data_set import is_data_set
from pages.forks import fork_told
from pages.shell import (
    POLL_SECONDS,
    QUIET,
    Lab,
    Selection,
    heading,
    is_alive,
    moment_of,
    no_runs,
    on_load,
    picked,
    run_label,
    selection,
    told,
)
from pages.text import NOTHING, count, excerpt, number, one_line, percent, signed, visible
from storage.queries import GridResult, IterationOverview, grid_results
from storage.queries.comparison import Change, paired_changes, shared
from synpo_lab.again import Difference, differences
from synpo_lab.errors import LabError
from synpo_lab.jobs import RunStatus
from synpo_lab.report import around, interval

LEAD = "What did run B change against run A, and what came of it? A is picked above, B below."
LONGEST = 300  # characters of a config value shown
Rows = dict[int, IterationOverview]
_ONE_RUN = empty("One run alone", "Pick another run as B: a fork of this one, a baseline, another seed.")
_ONE_DATA_SET = empty("One data set alone", "Pick what to hold it against as B: another data set, or a run.")
_NO_TRAINING = card(
    "What was changed",
    Markup(
        "<p class='lab-none'>An imported data set was never trained: there is no config to hold against another.</p>"
    ),
)


def build(lab: Lab) -> None:
    picker = heading("Compare", LEAD)
    other = gr.Dropdown(label="With (B)", choices=[], elem_id="compare-with", interactive=True)
    nothing = gr.HTML(elem_classes="hide-empty", elem_id="compare-nothing")
    with gr.Column(visible=False) as content:
        changed = gr.HTML(elem_id="compare-config")
        with gr.Row(elem_classes="lab-row"):
            with gr.Column(elem_classes="lab-card", min_width=340):
                curve = gr.Plot(show_label=False, container=False, elem_id="compare-win-rate")
            with gr.Column(elem_classes="lab-card", min_width=340):
                means = gr.Plot(show_label=False, container=False, elem_id="compare-scores")
        results = gr.HTML(elem_id="compare-results")
        prompts = gr.HTML(elem_id="compare-prompts")
        betas = gr.HTML(elem_id="compare-betas", elem_classes="hide-empty")
        common = gr.HTML(elem_id="compare-common")
        again = again_panel()
    seen, timer = gr.State(None), gr.Timer(POLL_SECONDS, active=False)
    panels = [nothing, content, changed, curve, means, results, prompts, betas, common, *again, seen, timer]

    @told
    def show(one: str | None, two: str | None) -> list[Any]:
        return _shown(lab, one, two)

    @told
    def tick(one: str | None, two: str | None, before: Any) -> list[Any]:
        return _shown(lab, one, two) if _moment(lab, one, two) != before else [gr.skip()] * len(panels)

    @told
    def open_page(request: gr.Request) -> list[Any]:
        asked = selection(lab, request)
        one, two = _both(lab, asked)
        return [picked(lab, one), _others(lab, two), *_shown(lab, one, two)]

    on_load(lab, open_page, [picker, other, *panels])
    picker.input(show, [picker, other], panels, **QUIET)
    other.input(show, [picker, other], panels, **QUIET)
    timer.tick(tick, [picker, other, seen], panels, **QUIET)
    for chosen in (picker, other):  # both: which is A need not be what the address said
        chosen.input(None, [picker, other], None, js="(a, b) => { labAddress({run: a, with: b}); }", **QUIET)


def _both(lab: Lab, asked: Selection) -> tuple[str | None, str | None]:
    """A and B: those of the address. Without a B, a fork is B of its parent; of other runs, B is the newest fork, or
    the newest other run that was not imported; of a data set there is none.
    """
    runs = {run.run_id: run for run in lab.runs()}
    one = runs.get(asked.run_id or "")
    if asked.query.get("with") in runs:
        return asked.run_id, asked.query["with"]
    if is_data_set(one):
        return asked.run_id, None
    if one is not None and one.parent is not None and one.parent.run_id in runs:
        return one.parent.run_id, one.run_id
    others = [run for run in runs.values() if run.run_id != asked.run_id and run.state != "imported"]
    forks = [run for run in others if run.parent is not None and run.parent.run_id == asked.run_id]
    return asked.run_id, next((run.run_id for run in [*forks, *others]), None)


def _others(lab: Lab, chosen: str | None) -> Any:
    return gr.Dropdown(choices=[(run_label(run), run.run_id) for run in lab.runs()], value=chosen)


def _shown(lab: Lab, one: str | None, two: str | None) -> list[Any]:
    first, second = lab.run(one), lab.run(two)
    if first is None:
        return _only(no_runs(lab))
    if second is None or first.run_id == second.run_id:
        return _only(_ONE_DATA_SET if is_data_set(first) else _ONE_RUN)
    alive = is_alive(first) or is_alive(second)
    return [
        "", gr.Column(visible=True), *_panels(lab, first, second), *again_of(lab, second.run_id),
        _moment(lab, one, two), gr.Timer(active=alive),
    ]  # fmt: skip


def _moment(lab: Lab, one: str | None, two: str | None) -> str:
    """What changes when either run enters another stage."""
    return repr([moment_of(run) for run in (lab.run(one), lab.run(two)) if run is not None])


def _only(said: Markup) -> list[Any]:
    return [said, gr.Column(visible=False), *[gr.skip()] * 10, None, gr.Timer(active=False)]


def _panels(lab: Lab, one: RunStatus, two: RunStatus) -> list[Any]:
    overviews = [_rounds(lab, run) for run in (one, two)]
    names = [one.run_id, two.run_id]
    grids = [grid_results(lab.database, name) for name in names]
    return [
        _config(lab, *names) if not (is_data_set(one) or is_data_set(two)) else _NO_TRAINING,
        _win_rates(overviews, names),
        _mean_scores(overviews, names),
        _results(overviews, names, grids, fork_told(one) + fork_told(two)),
        _prompt_by_prompt(paired_changes(lab.database, *names)),
        _betas(grids, names),
        _common(lab, *names),
    ]


def _rounds(lab: Lab, run: RunStatus) -> Rows:
    """Of a data set only what it is: a judge's preferences in it are not its policy's win rate against M_0."""
    rows = lab.overview(run)
    if is_data_set(run):
        rows = [replace(row, win_rate=None, mean_policy=None, length_ratio=None) for row in rows]
    return {row.iteration: row for row in rows}


def _config(lab: Lab, one: str, two: str) -> Markup:
    try:
        found = differences(lab.config(one), lab.config(two))
    except LabError as error:
        return card("What was changed", Markup("<p class='lab-none'>{}</p>").format(error.message))
    if not found:
        same = Markup("<p class='lab-none'>Nothing: both were given the same config, seed and all.</p>")
        return card("What was changed", same)
    columns = [
        Column("key", lambda row: Markup("<code>{}</code>").format(row.key)),
        Column("A", lambda row: _value(row.one)),
        Column("B", lambda row: _value(row.other)),
    ]
    return card("What was changed", table(columns, _real_first(found), css="stack"), note=f"A is {one}, B is {two}")


def _real_first(found: list[Difference]) -> list[Difference]:
    """The title is no change of the method: it comes last."""
    return sorted(found, key=lambda row: row.key == "title")


def _value(value: Any) -> Markup:
    text = json.dumps(value, ensure_ascii=False)
    return Markup('<span class="wide" dir="auto">{}</span>').format(one_line(excerpt(text, LONGEST)))


def _win_rates(overviews: Sequence[Rows], names: Sequence[str]) -> go.Figure:
    figure = charts.figure_of("Win rate against M₀", "iteration", "win rate", height=340, keep=" ".join(names))
    for place, (rows, name) in enumerate(zip(overviews, names, strict=True)):
        points = [row for row in rows.values() if row.win_rate is not None]
        above, below = zip(*map(_bars, points), strict=True) if points else ((), ())
        figure.add_scatter(
            x=[row.iteration for row in points], y=[row.win_rate for row in points], name=f"{'AB'[place]}: {name}",
            mode="lines+markers", line={"color": charts.SERIES[place], "dash": charts.DASHES[place], "width": 2.5},
            marker={"size": 9, "symbol": ("circle", "square")[place]},
            error_y={"type": "data", "array": above, "arrayminus": below, "thickness": 1.5, "width": 5},
            customdata=[f"{row.n:,} prompts, {row.ties:,} ties" for row in points],
            hovertemplate="iteration %{x}: %{y:.1%}<br>%{customdata}<extra>%{fullData.name}</extra>",
        )  # fmt: skip
    figure.add_hline(y=0.5, line={"dash": "dash", "width": 1.5, "color": charts.GREY})
    figure.update_yaxes(tickformat=".0%")
    charts.whole_iterations(figure)
    return figure


def _bars(row: IterationOverview) -> tuple[float, float]:
    """How far the interval reaches above and below the win rate."""
    low, high = interval(row.win_rate, row.n)
    rate = row.win_rate or 0.0
    return (high if high is not None else rate) - rate, rate - (low if low is not None else rate)


def _mean_scores(overviews: Sequence[Rows], names: Sequence[str]) -> go.Figure:
    figure = charts.figure_of(
        "Mean score of the policy and of the improver", "iteration", "mean score", height=340, keep=" ".join(names)
    )
    for place, rows in enumerate(overviews):
        for role, symbol in (("policy", "circle"), ("improved", "square")):
            points = [
                (row.iteration, mean) for row in rows.values() if (mean := getattr(row, f"mean_{role}")) is not None
            ]
            if points:
                figure.add_scatter(
                    x=[x for x, _ in points], y=[y for _, y in points], name=f"{'AB'[place]}, {role}",
                    mode="lines+markers", marker={"symbol": symbol, "size": 8},
                    line={"color": charts.SERIES[place], "dash": "solid" if role == "policy" else "dot"},
                    hovertemplate="iteration %{x}: %{y:.3f}<extra>%{fullData.name}</extra>",
                )  # fmt: skip
    charts.whole_iterations(figure)
    return figure


def _results(
    overviews: Sequence[Rows], names: Sequence[str], grids: Sequence[list[GridResult]], told: Markup
) -> Markup:
    """A row for each policy, A beside B."""
    betas = [{found.iteration: found.beta for found in grid if found.won} for grid in grids]
    rounds = sorted({t for rows in overviews for t in rows})
    rows = [(t, [found.get(t) for found in overviews]) for t in rounds]

    def both(told_of: Any) -> Any:
        def cell(row: tuple[int, list[IterationOverview | None]]) -> Markup:
            one, two = (NOTHING if side is None else told_of(side) for side in row[1])
            return Markup("{} <span class='lab-vs'>|</span> {}").format(one, two)

        return cell

    def beta(row: tuple[int, Any]) -> Markup:
        one, two = (number(found.get(row[0]), 0) for found in betas)
        return Markup("{} <span class='lab-vs'>|</span> {}").format(one, two)

    columns = [
        Column("model", lambda row: Markup("M<sub>{}</sub>").format(row[0])),
        Column("prompts kept", both(lambda row: _of(row.prompts_kept, row.prompts_generated)), True),
        Column("pairs kept", both(lambda row: _of(row.pairs_kept, row.pairs)), True),
        Column("their mean gap", both(lambda row: signed(row.mean_gap_kept)), True, "of the kept pairs"),
        Column("improved", both(lambda row: number(row.mean_improved)), True, "mean score of the improver's answers"),
        Column("policy", both(lambda row: number(row.mean_policy)), True, "mean score of M_t on held-out prompts"),
        Column("win rate", both(_win_rate), True, "against M_0, with the 95 % interval"),
        Column("length ×", both(lambda row: number(row.length_ratio, 2)), True, "mean length over M_0's"),
        Column("β", beta, True, "the β that was best on the seeds"),
    ]
    return card("What came of it", table(columns, rows) + told, note=f"A | B: {names[0]} | {names[1]}")


def _of(part: int, whole: int) -> str:
    return f"{count(part)} of {count(whole)}" if whole else NOTHING


def _win_rate(row: IterationOverview) -> Markup:
    low, high = interval(row.win_rate, row.n)
    if row.win_rate is None:
        return Markup(NOTHING)
    spread = "" if low is None else f" ({percent(low)} to {percent(high)})"
    return Markup("<b>{}</b>{}").format(percent(row.win_rate), spread)


def _prompt_by_prompt(changes: list[Change]) -> Markup:
    """On the same held-out prompts: a sharper question than two win rates."""
    if not changes:
        return card(
            "Prompt by prompt", Markup("<p class='lab-none'>No held-out prompt was answered in both runs yet.</p>")
        )
    columns = [
        Column("model", lambda row: Markup("M<sub>{}</sub>").format(row.iteration)),
        Column("suite", lambda row: visible(row.suite)),
        Column("prompts", lambda row: count(row.prompts), True, "answered in both runs"),
        Column("score(B) − score(A)", lambda row: Markup("<b>{}</b>").format(signed(row.change)), True, "mean"),
        Column("95 %", _spread, True),
        Column("B better", lambda row: count(row.better), True),
        Column("A better", lambda row: count(row.worse), True),
    ]
    return card(
        "Prompt by prompt", table(columns, changes), note="the same held-out prompts, answered by both policies"
    )


def _spread(row: Change) -> str:
    low, high = around(row.change, row.se)
    return "" if low is None else f"{signed(low)} to {signed(high)}"


def _betas(grids: Sequence[list[GridResult]], names: Sequence[str]) -> Markup:
    rows = [("AB"[place], found) for place, grid in enumerate(grids) for found in grid if found.iteration]
    if not rows:
        return Markup("")
    columns = [
        Column("run", lambda row: row[0]),
        Column("model", lambda row: Markup("M<sub>{}</sub>").format(row[1].iteration)),
        Column("β", lambda row: number(row[1].beta, 0), True),
        Column("validation score", lambda row: number(row[1].score), True, "mean on the seeds that choose β"),
        Column("± se", lambda row: number(row[1].se), True),
        Column("answers", lambda row: count(row[1].n), True),
        Column("", lambda row: "chosen" if row[1].won else ""),
    ]
    rows.sort(key=lambda row: (row[1].iteration, row[0], row[1].beta or 0))
    return card("Which β won", table(columns, rows), note="the grid of each iteration; more under Iterations")


def _common(lab: Lab, one: str, two: str) -> Markup:
    found = shared(lab.database, one, two)
    told_of = facts(
        [
            ("prompts in both", count(found.prompts_both)),
            ("only in A", count(found.prompts_one - found.prompts_both)),
            ("only in B", count(found.prompts_other - found.prompts_both)),
            ("kept pairs in both", count(found.pairs_both)),
            ("only in A", count(found.pairs_one - found.pairs_both)),
            ("only in B", count(found.pairs_other - found.pairs_both)),
        ]
    )
    opened = Markup("{} · {}").format(link("pairs", "pairs of A", run=one), link("pairs", "pairs of B", run=two))
    note = "kept prompts by their text; kept pairs by prompt and both answers"
    return card("What they share", told_of + Markup("<p class='lab-line'>{}</p>").format(opened), note=note)
