"""Thresholds: move the cut and see at once which pairs the next training would read."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import gradio as gr
import yaml
from markupsafe import Markup

from pages import charts
from pages.components import Column, address, card, link, pill, table
from pages.shell import QUIET, Lab, Selection, follow, heading, no_runs, nothing_yet, told
from pages.text import NOTHING, count, excerpt, number, one_line, signed
from storage.queries import (
    Histogram,
    Page,
    PairFilter,
    ThresholdCount,
    changed_rows,
    histograms,
    pairs_page,
    threshold_counts,
)
from storage.queries.pairs import PairQuery

LEAD = "Every pair is stored, kept or not. Move the cut: what would the next training read?"
ROWS = 15
HUNDREDTH = Decimal("0.01")
LONGEST = 160  # characters of a text in the table


def build(lab: Lab) -> None:
    picker = heading("Thresholds", LEAD)
    line = gr.HTML()
    nothing = gr.HTML(elem_classes="hide-empty")
    with gr.Column(visible=False) as content:
        with gr.Row(elem_classes="lab-filters"):
            cut = gr.Slider(
                label="Smallest gap",
                info="a pair is kept if its gap is above this",
                minimum=0,
                maximum=1,
                step=0.005,
                elem_id="cut",
                scale=4,
                min_width=280,
            )
            iteration = gr.Dropdown(
                label="Iteration", choices=["all"], value="all", elem_id="cut-iteration", scale=1, min_width=120
            )
        with gr.Accordion("The other rules", open=False), gr.Row():
            repetition = gr.Slider(
                label="Most repetition",
                info="share of the chosen answer that repeats itself",
                minimum=0,
                maximum=1,
                step=0.01,
            )
            score = gr.Number(label="Least chosen score", info="empty: no such rule", value=None)
            ratio = gr.Number(
                label="Most length ratio",
                info="len(chosen) / len(rejected); empty: no such rule",
                value=None,
                minimum=0,
            )
        summary = gr.HTML(elem_id="cut-summary")
        with gr.Row(elem_classes="lab-row"):
            with gr.Column(elem_classes="lab-card", min_width=340):
                histogram = gr.Plot(show_label=False, container=False, elem_id="gap-histogram")
            with gr.Column(elem_classes="lab-card", min_width=340):
                bars = gr.Plot(show_label=False, container=False, elem_id="kept-bars")
        counts = gr.HTML(elem_id="cut-counts")
        changed = gr.HTML(elem_id="cut-changed")
        use = gr.HTML(elem_id="cut-use")
    rules = [cut, repetition, score, ratio]
    shown = [summary, histogram, bars, counts, changed, use]

    def has_pairs(run_id: str | None) -> bool:
        return pairs_page(lab.database, run_id or "", PairQuery(), limit=0).total > 0

    @told
    def show(run_id: str, iteration: Any, *values: Any) -> list[Any]:
        return _show(lab, run_id, None if iteration in {"all", None} else iteration, _filter(*values))

    def fill(asked: Selection) -> list[Any]:
        run_id, wanted, iteration = asked.run_id, asked.number("min_gap"), asked.whole("iteration")
        if run_id is None or not has_pairs(run_id):
            return [_none(lab, run_id), gr.Column(visible=False), *[gr.skip()] * (len(rules) + 1 + len(shown))]
        stored = _stored(lab, run_id)
        chosen = PairFilter(
            stored.min_gap if wanted is None else wanted,
            stored.max_repetition,
            stored.min_chosen_score,
            stored.max_length_ratio,
        )
        rounds = ["all", *(row.iteration for row in threshold_counts(lab.database, run_id, stored))]
        controls = [
            _slider(gap_histogram(lab, run_id, chosen), chosen, stored),
            chosen.max_repetition,
            chosen.min_chosen_score,
            chosen.max_length_ratio,
        ]
        where = gr.Dropdown(choices=rounds, value=iteration if iteration in rounds else "all")
        return ["", gr.Column(visible=True), where, *controls, *_show(lab, run_id, iteration, chosen)]

    follow(lab, picker, line, has_pairs, fill, [nothing, content, iteration, *rules, *shown])
    moves = [cut.input, cut.release, repetition.input, score.input, ratio.input, iteration.input]
    moved = gr.on(moves, show, [picker, iteration, *rules], shown, trigger_mode="always_last", **QUIET)
    moved.then(None, cut, None, js="(cut) => { labAddress({min_gap: cut}); }", **QUIET)


def _none(lab: Lab, run_id: str | None) -> Markup:
    if run_id is None:
        return no_runs(lab)
    return nothing_yet(lab.run(run_id), "pairs", "They come once answers are improved and scored.")


def _stored(lab: Lab, run_id: str) -> PairFilter:
    """The run's own rules."""
    return PairFilter(**lab.config(run_id).filter.model_dump())


def _filter(cut: float, repetition: float, score: float | None, ratio: float | None) -> PairFilter:
    return PairFilter(cut, repetition, score, ratio or None)


def gap_histogram(lab: Lab, run_id: str, rules: PairFilter, iteration: int | None = None) -> Histogram:
    return histograms(lab.database, run_id, rules, iteration)["gap"]


def _slider(found: Histogram, chosen: PairFilter, stored: PairFilter) -> Any:
    ends = [Decimal(end) for end in (*found.edges, chosen.min_gap or 0, stored.min_gap or 0)]
    low, high = min(ends).quantize(HUNDREDTH, ROUND_FLOOR), max(ends).quantize(HUNDREDTH, ROUND_CEILING)
    return gr.Slider(minimum=float(low), maximum=float(high), value=chosen.min_gap)


def _show(lab: Lab, run_id: str, iteration: int | None, chosen: PairFilter) -> list[Any]:
    stored = _stored(lab, run_id)
    counted = threshold_counts(lab.database, run_id, chosen)
    here = [row for row in counted if iteration is None or row.iteration == iteration]
    found = gap_histogram(lab, run_id, chosen, iteration)
    changes = changed_rows(lab.database, run_id, stored, chosen, iteration=iteration, limit=ROWS, excerpt=LONGEST)
    return [
        _summary(here, chosen, stored),
        charts.gap_histogram(found.edges, found.counts, chosen.min_gap or 0, stored.min_gap or 0, keep=f"{run_id} {iteration}"),
        charts.kept_and_dropped(counted, keep=run_id),
        _counts(run_id, here),
        _changed(run_id, changes, chosen),
        _use(lab, run_id, chosen),
    ]


def _summary(counted: list[ThresholdCount], chosen: PairFilter, stored: PairFilter) -> Markup:
    pairs, kept, before = (sum(getattr(row, name) for row in counted) for name in ("pairs", "kept", "kept_by_run"))
    if not kept:
        return Markup(
            '<div class="lab-cut none" role="status"><b>This keeps nothing.</b> All {} pairs are dropped, and a '
            "training would refuse to start. Lower the cut.</div>"
        ).format(count(pairs))
    return Markup(
        '<div class="lab-cut" role="status">Above a gap of <b>{}</b>: <b>{}</b> of {} pairs are kept. '
        "The run’s own rules (gap above {}) keep {}.</div>"
    ).format(number(chosen.min_gap), count(kept), count(pairs), number(stored.min_gap), count(before))


def _counts(run_id: str, counted: list[ThresholdCount]) -> Markup:
    reasons = ("gap", "chosen score", "length", "repetition")
    used = [reason for reason in reasons if any(row.dropped.get(reason) for row in counted)]
    columns = [
        Column("iteration", lambda row: link("pairs", row.iteration, run=run_id, iteration=row.iteration)),
        Column("pairs", lambda row: count(row.pairs), True),
        Column(
            "kept by the run's rules",
            lambda row: count(row.kept_by_run),
            True,
            "before sampling down to the pool's size",
        ),
        Column("kept here", lambda row: Markup("<b>{}</b>").format(count(row.kept)), True),
        *(_dropped(reason) for reason in used),
    ]
    return card(
        "Kept and dropped", table(columns, counted), note="a pair is counted under the first rule that drops it"
    )


def _dropped(reason: str) -> Column:
    return Column(f"dropped: {reason}", lambda row: count(row.dropped.get(reason, 0)), True)


def _changed(run_id: str, changes: Page, chosen: PairFilter) -> Markup:
    if not changes.total:
        return card("Which rows change", Markup("<p>None: this keeps exactly what the run’s own rules keep.</p>"))
    columns = [
        Column("", lambda row: pill("+ comes in", "kept") if row["kept_after"] else pill("− goes out", "dropped")),
        Column("gap", lambda row: signed(row["gap"]), True),
        Column("why", lambda row: row["dropped_after"] or row["dropped_before"] or NOTHING),
        Column("prompt", lambda row: _cell(row["prompt"])),
        Column("rejected", lambda row: _cell(row["rejected"])),
        Column("chosen", lambda row: _cell(row["chosen"])),
        Column("", lambda row: link("pairs", "pair →", run=run_id, pair=row["pair_id"])),
    ]
    told_rest = f"{count(changes.total)} in all; the {count(len(changes.rows))} with the widest gap"
    return card("Which rows change", table(columns, changes.rows, css="stack"), note=told_rest)


def _cell(text: str) -> Markup:
    return Markup('<span class="wide" dir="auto">{}</span>').format(one_line(excerpt(text, LONGEST)))


def _use(lab: Lab, run_id: str, chosen: PairFilter) -> Markup:
    """The filter on screen as YAML, and the way to train with it."""
    rules = {
        "min_gap": chosen.min_gap,
        "max_repetition": chosen.max_repetition,
        "min_chosen_score": chosen.min_chosen_score,
        "max_length_ratio": chosen.max_length_ratio,
    }
    text = yaml.safe_dump({"filter": rules}, sort_keys=False)
    start = Markup('<a href="{}">Design a run with this filter →</a>').format(
        address("iterations", run=run_id, **rules)
    )
    return card("Use it", Markup("<pre class='lab-code'>{}</pre>{}").format(text, "" if lab.read_only else start))
