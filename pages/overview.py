"""Overview: what the lab does, what the run is doing now, and what has come of it."""

from typing import Any

import gradio as gr
from markupsafe import Markup

from pages import charts, data_set
from pages.components import AT_THE_END, Column, card, joined, link, live_card, stacked, state_pill, table
from pages.diff import as_html, word_diff
from pages.forks import fork_told
from pages.prompt_topics import worst_topics
from pages.shell import (
    FIRST_RUN,
    POLL_SECONDS,
    QUIET,
    Lab,
    acting,
    fresh,
    heading_parts,
    is_alive,
    moment_of,
    no_runs,
    on_load,
    picked,
    selection,
    title_html,
    told,
)
from pages.text import beginning, count, moment, number, percent, signed, visible
from storage.queries import IterationOverview, PairQuery, evals_page, grid_results, pairs_page, suites
from synpo_lab import config
from synpo_lab.jobs import RunStatus, launch
from synpo_lab.jobs.wording import duration, stage_name
from synpo_lab.report import interval

EXAMPLES = 2
STEPS = (
    ("Keywords.", "A few words of one text, and one noise word of another."),
    ("A prompt.", "The generator G, once fine-tuned from M₀, writes a prompt from them."),
    ("A draft.", "The policy M answers it, as well as it can by now."),
    ("A better answer.", "The improver R, fine-tuned from M₀ on a few gold answers, rewrites the draft."),
    ("Training on the difference.", "Pairs with a clear gap teach M₀ to prefer the better answer: the next policy."),
)
TITLE = (
    "Watch a model improve itself",
    "SynPO: the model writes its own prompts, drafts its own answers, improves them, and trains on the difference. "
    "No human labels any of it.",
)
TITLE_OF_DATA = (
    "Read what a model would learn from",
    "An imported data set: what it holds, what its pairs are like, and which of them a training should see.",
)


def build(lab: Lab) -> None:
    head, picker = heading_parts(*TITLE)
    with gr.Row(equal_height=True, elem_classes="lab-row"):
        with gr.Column(scale=5, min_width=340):
            live = gr.HTML(elem_id="live", elem_classes="lab-fill")
            with gr.Row(elem_classes="lab-pager", visible=not lab.read_only):
                start = gr.Button(
                    "Start a pocket run", variant="primary", size="md", scale=0, min_width=190, elem_id="start"
                )
                gr.HTML(Markup("<p class='lab-place'>{}</p>").format(link("iterations", "or design your own →", new=1)))
        with gr.Column(scale=7, min_width=340, elem_classes="lab-card"):
            curve = gr.Plot(show_label=False, container=False, elem_id="win-rate")
    with gr.Row(equal_height=True, elem_classes="lab-row"):
        with gr.Column(scale=5, min_width=340):
            example = gr.HTML(elem_id="example", elem_classes="lab-fill")
        with gr.Column(scale=7, min_width=340, elem_classes="lab-card"):
            means = gr.Plot(show_label=False, container=False, elem_id="mean-scores")
    results = gr.HTML(elem_id="results")
    runs = gr.HTML(elem_id="runs")
    seen = gr.State([])
    timer = gr.Timer(POLL_SECONDS, active=False)
    panels = [head, live, curve, example, means, results, runs]

    @told
    def show(run_id: str | None, before: list[int]) -> list[Any]:
        status = lab.run(run_id)
        drawn, keys = fresh(_panels(lab, status), before)
        return [*drawn, keys, gr.Timer(active=is_alive(status) or status is None)]

    @told
    def tick(run_id: str | None, before: list[int]) -> list[Any]:
        """As `show`; where there was no run, one started elsewhere is picked."""
        if run_id is not None:
            return [gr.skip(), *show(run_id, before)]
        newest = next((status.run_id for status in lab.runs()), None)
        return [picked(lab, newest) if newest else gr.skip(), *show(newest, before)]

    @told
    def open_page(request: gr.Request) -> list[Any]:
        run_id = selection(lab, request).run_id
        return [picked(lab, run_id), *show(run_id, [])]

    def start_run() -> list[Any]:
        run_id = launch(lab.home, config.load(FIRST_RUN), name=FIRST_RUN)
        return [picked(lab, run_id), *show(run_id, [])]

    everything = [*panels, seen, timer]
    on_load(lab, open_page, [picker, *everything])
    picker.input(show, [picker, seen], everything, **QUIET)
    timer.tick(tick, [picker, seen], [picker, *everything], **QUIET)
    started = start.click(
        acting(lab, start_run), None, [picker, *everything], api_visibility="private", show_progress="minimal"
    )
    started.then(None, picker, None, js="(run) => { labAddress({run}); }", **QUIET)


def _panels(lab: Lab, status: RunStatus | None) -> list[Any]:
    """What is shown, and how: the card moves with every event, the rest when a stage ends."""
    if status is not None and data_set.is_data_set(status):
        return _panels_of_data(lab, status)
    everyone = lab.runs()
    run_id = status.run_id if status else ""
    rows = lab.overview(status) if status else []
    rates = {row.iteration: row.win_rate for row in rows}
    now = moment_of(status) if status else ()
    return [
        (TITLE, lambda: title_html(*TITLE)),
        (status, lambda: live_card(status, lab.is_toy(run_id), rates) if status else no_runs(lab)),
        (now, lambda: charts.win_rate([_with_interval(row) for row in rows if row.win_rate is not None], run_id)),
        (now, lambda: _examples(_before_after(lab, run_id, rows))),
        (now, lambda: charts.mean_scores(rows, run_id)),
        (now, lambda: stacked([_results(lab, run_id, rows), worst_topics(lab, run_id)])),
        ([moment_of(one) for one in everyone], lambda: _runs(everyone)),
    ]


def _panels_of_data(lab: Lab, status: RunStatus) -> list[Any]:
    """Of an imported data set: what it is and what its pairs are like, where a run shows its win rate and scores."""
    everyone, now = lab.runs(), ("data set", *moment_of(status))
    return [
        (TITLE_OF_DATA, lambda: title_html(*TITLE_OF_DATA)),
        (now, lambda: data_set.set_card(lab, status)),
        (now, lambda: data_set.spread(lab, status, "length_ratio")),
        (now, lambda: _examples_of_data(lab, status.run_id)),
        (now, lambda: data_set.spread(lab, status, "gap")),
        (now, lambda: data_set.results(lab, status)),
        ([moment_of(one) for one in everyone], lambda: _runs(everyone)),
    ]


def _examples_of_data(lab: Lab, run_id: str) -> Markup:
    found = pairs_page(lab.database, run_id, PairQuery(), limit=EXAMPLES, excerpt=600).rows
    title, note = data_set.examples_title(found, run_id)
    told = joined(_two_answers(row["prompt"], *_sides_of_pair(row)) for row in found)
    return card(title, told or data_set.NO_PAIRS, note=note)


def _with_interval(row: IterationOverview) -> dict[str, Any]:
    low, high = interval(row.win_rate, row.n)
    return {
        "iteration": row.iteration,
        "win_rate": row.win_rate,
        "low": row.win_rate if low is None else low,
        "high": row.win_rate if high is None else high,
        "n": row.n,
        "ties": row.ties,
    }


def _before_after(lab: Lab, run_id: str, rows: list[IterationOverview]) -> list[dict[str, Any]]:
    """The clearest wins on held-out prompts; before there are any, the widest pairs."""
    tested = [row.iteration for row in rows if row.iteration and row.n]
    if tested:
        suite = next(iter(suites(lab.database, run_id)))  # held-out suites come first
        return evals_page(lab.database, run_id, iteration=tested[-1], suite=suite, winner="a", limit=EXAMPLES).rows
    return pairs_page(lab.database, run_id, PairQuery(), limit=EXAMPLES, excerpt=600).rows


def _examples(found: list[dict[str, Any]]) -> Markup:
    if not found:
        steps = joined(Markup("<li><span><b>{}</b> {}</span></li>").format(*step) for step in STEPS)
        return card("One iteration, in five steps", Markup('<ol class="lab-steps">{}</ol>').format(steps))
    if "gap" in found[0]:
        told = joined(_two_answers(row["prompt"], *_sides_of_pair(row)) for row in found)
        return card(
            "What it will train on", told, note="the widest gaps so far: the improver's answer over the model's own"
        )
    told = joined(_two_answers(row["prompt"] or "", *_sides_of_eval(row)) for row in found)
    return card("Before and after", told, note="the clearest wins on held-out prompts, which no model was trained on")


Side = tuple[str, str, float]  # who answered, what, and its score


def _sides_of_pair(row: dict[str, Any]) -> tuple[Side, Side]:
    return ("rejected", row["rejected"], row["rejected_score"]), ("chosen", row["chosen"], row["chosen_score"])


def _sides_of_eval(row: dict[str, Any]) -> tuple[Side, Side]:
    return (row["model_b"], row["answer_b"] or "", row["score_b"]), (
        row["model_a"],
        row["answer_a"] or "",
        row["score_a"],
    )


def _two_answers(prompt: str, before: Side, after: Side) -> Markup:
    found = word_diff(before[1], after[1])
    texts = [as_html(spans) for spans in found] if found else [visible(before[1]), visible(after[1])]
    asked = Markup('<p class="lab-prompt" dir="auto">{}</p>').format(visible(beginning(prompt, 400)))
    return asked + joined(
        Markup('<div class="lab-answer {}"><span>{}</span><p dir="auto">{}</p><b>{}</b></div>').format(
            css, name, text, number(score, 2)
        )
        for css, (name, _, score), text in zip(("before", "after"), (before, after), texts, strict=True)
    )


def _results(lab: Lab, run_id: str, rows: list[IterationOverview]) -> Markup:
    if not rows:
        return Markup("")
    status = lab.run(run_id)
    betas = {found.iteration: found.beta for found in grid_results(lab.database, run_id) if found.won}
    columns = [
        Column("model", lambda row: Markup("M<sub>{}</sub>").format(row.iteration)),
        Column("prompts kept", lambda row: _of(row.prompts_kept, row.prompts_generated), True),
        Column("pairs kept", lambda row: _pairs_link(run_id, row), True),
        Column("their mean gap", lambda row: signed(row.mean_gap_kept), True, "score(chosen) − score(rejected), kept pairs"),
        Column("of all pairs", lambda row: signed(row.mean_gap), True, "the same of all pairs, dropped ones too"),
        Column("initial", lambda row: number(row.mean_initial), True, "mean score of M_0's answers"),
        Column("draft", lambda row: number(row.mean_draft), True, "mean score of the previous policy's answers"),
        Column("improved", lambda row: number(row.mean_improved), True, "mean score of the improver's answers"),
        Column("policy", lambda row: number(row.mean_policy), True, "mean score of M_t on held-out prompts"),
        Column("win rate", lambda row: Markup("<b>{}</b>").format(percent(row.win_rate)), True, "a tie is half a win"),
        Column("95 %", _interval_told, True),
        Column("prompts, ties", lambda row: _of(row.ties, row.n, " ties of "), True),
        Column("length ×", lambda row: number(row.length_ratio, 2), True, "mean length over M_0's"),
        Column("β", lambda row: number(betas.get(row.iteration), 0), True, "the β that was best on the seeds"),
    ]  # fmt: skip
    return card(
        "Results",
        table(columns, rows) + (fork_told(status) if status else ""),
        note="one row per policy; the win rate is against M₀ on held-out prompts, a tie counts half",
    )


def _of(part: int, whole: int, word: str = " of ") -> str:
    return f"{count(part)}{word}{count(whole)}" if whole else ""


def _pairs_link(run_id: str, row: IterationOverview) -> object:
    return link("pairs", _of(row.pairs_kept, row.pairs), run=run_id, iteration=row.iteration) if row.pairs else ""


def _interval_told(row: IterationOverview) -> str:
    low, high = interval(row.win_rate, row.n)
    return "" if low is None else f"{percent(low)} to {percent(high)}"


def _at(one: RunStatus) -> str:
    """What a run is at, or where it was left; nothing of one that came to its end."""
    return "" if one.state in AT_THE_END else stage_name(one.stage, one.iteration, one.iterations)


def _runs(runs: list[RunStatus]) -> Markup:
    columns = [
        Column(
            "run", lambda one: link("", Markup('<span class="lab-id">{}</span>').format(one.run_id), run=one.run_id)
        ),
        Column("state", lambda one: state_pill(one.state, one.message)),
        Column("title", lambda one: one.title),
        Column("recipe", lambda one: one.recipe),
        Column("at", _at),
        Column("worked", lambda one: duration(one.elapsed), True),
        Column("made", lambda one: moment(one.created_at)),
        Column("", lambda one: link("compare", "compare", run=one.run_id) if len(runs) > 1 else ""),
    ]
    return (
        card("Runs", table(columns, runs, css="stack"), note=f"{len(runs):,} in this lab home") if runs else Markup("")
    )
