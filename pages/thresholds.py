"""Filter: one object that says which pairs the next training reads, as widgets, as SQL, as YAML, and as the rows it keeps."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages import charts, filter_told
from pages.components import problem
from pages.export_panel import export_panel
from pages.filter_rules import (
    RuleWidgets,
    asked_rules,
    pair_rules,
    rule_widgets,
    rules_of,
    updates,
    written_rules,
)
from pages.filter_told import CHANGED, KEPT
from pages.filter_use import OWN, PIN, at_most, by_name, compared, forkable, named, pinned, shown, use_panel, words_of
from pages.rule_histogram import rule_histogram
from pages.run_words import words_of_run
from pages.shell import QUIET, Lab, Selection, follow, heading, no_runs, nothing_yet, told
from pages.text import count
from storage.pair_filter import NO_RULES, REASONS
from storage.queries import (
    PairFilter,
    PairQuery,
    ThresholdCount,
    changed_counts,
    changed_rows,
    effects,
    histograms,
    kept_by_topic,
    rows_of_fate,
    sampled_answers,
    threshold_counts,
    waterfall,
)
from synpo_lab.config import FilterConfig
from synpo_lab.errors import LabError
from synpo_lab.metrics import word_variety

LEAD = "Every pair is stored, kept or not. Move the cut: what would the next training read?"
ALL = "all"
ROWS = 15
SAMPLED = 100  # kept answers whose words are counted
LAST: dict[str, Any] = {"trigger_mode": "always_last"}
TO_ADDRESS = "(state) => { labAddress(JSON.parse(state || '{}')); }"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the page shows: a run, some of its iterations, a filter, and the one it is compared with."""

    run_id: str
    iteration: int | None
    rules: FilterConfig
    stored: FilterConfig  # the run's own
    baseline: str  # as `by_name` takes it
    other: FilterConfig  # that baseline's

    @property
    def against(self) -> str:
        return words_of(self.baseline)

    @property
    def now(self) -> PairFilter:
        return pair_rules(self.rules)

    @property
    def before(self) -> PairFilter:
        return pair_rules(self.other)


def build(lab: Lab) -> None:
    picker = heading("Filter", LEAD)
    line = gr.HTML()
    nothing = gr.HTML(elem_classes="hide-empty")
    with gr.Column(visible=False) as content:
        with gr.Row(elem_classes="lab-filters"):
            start = gr.Dropdown(label="Start from", choices=[OWN], value=OWN, elem_id="filter-start", min_width=180)
            iteration = gr.Dropdown(label="Iteration", choices=[ALL], value=ALL, elem_id="cut-iteration", min_width=120)
            baseline = gr.Dropdown(
                label="Compare with", choices=[OWN], value=OWN, elem_id="filter-baseline", min_width=180
            )
            reset = gr.Button("Reset", size="sm", scale=0, min_width=90, elem_id="filter-reset")
        summary = gr.HTML(elem_id="cut-summary")
        wrong = gr.HTML(elem_id="filter-wrong", elem_classes="hide-empty")
        widgets = rule_widgets()
        with gr.Row(elem_classes="lab-row"):
            with gr.Column(min_width=340):
                falls = gr.HTML(elem_id="waterfall", elem_classes="lab-fill")
            with gr.Column(min_width=340):
                like = gr.HTML(elem_id="filter-effects")
                variety = gr.HTML(elem_id="filter-variety", elem_classes="hide-empty")
        with gr.Row(elem_classes="lab-row"):
            with gr.Column(elem_classes="lab-card", min_width=340):
                bars = gr.Plot(show_label=False, container=False, elem_id="kept-bars")
            with gr.Column(min_width=340):
                counts = gr.HTML(elem_id="cut-counts", elem_classes="lab-fill")
        topics = gr.HTML(elem_id="filter-topics", elem_classes="hide-empty")
        with gr.Row(elem_classes="lab-pager"):
            fate = gr.Dropdown(
                label="Rows", choices=[CHANGED], value=CHANGED, elem_id="filter-fate", scale=0, min_width=470
            )
            back = gr.Button("← Previous", size="sm", scale=0, min_width=110, elem_id="filter-back")
            forth = gr.Button("Next →", size="sm", scale=0, min_width=110, elem_id="filter-forth")
        changed = gr.HTML(elem_id="cut-changed")
        use = use_panel(lab, picker, widgets.inputs, start, baseline)
        export_panel(lab, "filter", _shown_pairs, [picker, iteration, *widgets.inputs])
    state, first, top, own = gr.Textbox(visible="hidden"), gr.State(0), gr.State(0), gr.State(OWN)
    numbers = [summary, wrong, state, *widgets.histograms.values(), counts, *use.texts]
    consequences = [falls, like, bars]
    rows = [fate, changed, first, back, forth]
    of_texts = [topics, variety]
    asked = [picker, iteration, baseline, *widgets.inputs]
    everything = [
        nothing,
        content,
        start,
        iteration,
        baseline,
        *widgets.inputs,
        *numbers,
        *consequences,
        *rows,
        *of_texts,
        *use.fork,
    ]

    @told
    def move(*values: Any) -> list[Any]:
        try:
            return _numbers(lab, _asked(lab, *values))
        except LabError as error:
            return ["", problem(error.message, error.hint), *[gr.skip()] * (len(numbers) - 2)]

    @told
    def weigh(*values: Any) -> list[Any]:
        try:
            return _consequences(lab, _asked(lab, *values))
        except LabError:  # told above already
            return [gr.skip()] * len(consequences)

    @told
    def look(fate: str, start: int, *values: Any) -> list[Any]:
        try:
            return _rows(lab, _asked(lab, *values), fate, start)
        except LabError:
            return [gr.skip()] * len(rows)

    @told
    def read(*values: Any) -> list[Any]:
        try:
            return _of_texts(lab, _asked(lab, *values))
        except LabError:
            return [gr.skip()] * len(of_texts)

    @told
    def pin(name: str, *values: Any) -> Any:
        chosen = pinned(rules_of(values)) if name == PIN else name
        return gr.Dropdown(choices=compared(lab, chosen), value=chosen)

    @told
    def take(run_id: str, name: str) -> list[Any]:
        return updates(by_name(lab, run_id, name))

    def fill(chosen: Selection) -> list[Any]:
        run_id = chosen.run_id
        if run_id is None or not _counted(lab, run_id):
            return [_none(lab, run_id), gr.Column(visible=False), *[gr.skip()] * (len(everything) - 2)]
        return _filled(lab, run_id, chosen)

    def finish(moved: Any) -> None:
        """After the numbers: the filter goes into the address, and what takes longer is drawn."""
        moved.then(None, state, None, js=TO_ADDRESS, **QUIET)
        weighed = moved.then(weigh, asked, consequences, **QUIET)
        weighed.then(look, [fate, top, *asked], rows, **QUIET).then(read, asked, of_texts, **QUIET)

    follow(lab, picker, line, lambda run_id: bool(_counted(lab, run_id)), fill, everything)
    finish(gr.on(_moves(widgets, iteration), move, asked, numbers, **LAST, **QUIET))
    finish(baseline.input(pin, [baseline, *widgets.inputs], baseline, **QUIET).then(move, asked, numbers, **QUIET))
    for event, name in ((start.input, start), (reset.click, own)):
        taken = event(take, [picker, name], widgets.inputs, **QUIET).then(move, asked, numbers, **QUIET)
        finish(taken)
    reset.click(lambda: OWN, None, start, **QUIET)
    fate.input(look, [fate, top, *asked], rows, **QUIET)
    for button, by in ((back, -ROWS), (forth, ROWS)):
        paged = button.click(_paged(by), first, first, **QUIET)
        paged.then(look, [fate, first, *asked], rows, **QUIET)


def _moves(widgets: RuleWidgets, iteration: gr.Dropdown) -> list[Any]:
    """The events of a visitor changing the filter, or what is asked of it. One handler answers all of them: the last to
    happen is the last to be told. (Who moves a slider means its rule: head.html ticks it.)"""
    others = widgets.others
    return [
        *(slider.input for slider in widgets.sliders.values()),
        *(switch.input for switch in widgets.switches.values()),
        *(others["drop_duplicates"].input, others["verdicts"].input, others["where"].submit, others["where"].blur),
        iteration.input,
    ]


def _paged(by: int) -> Callable[[int], int]:
    return lambda first: max(0, first + by)


def _counted(lab: Lab, run_id: str | None) -> list[ThresholdCount]:
    return threshold_counts(lab.database, run_id or "", NO_RULES)


def _none(lab: Lab, run_id: str | None) -> Markup:
    if run_id is None:
        return no_runs(lab)
    return nothing_yet(lab.run(run_id), "pairs", "They come once answers are improved and scored.")


def _shown_pairs(run_id: str | None, iteration: Any, *values: Any) -> tuple[str | None, PairQuery]:
    return run_id, PairQuery(iteration=_round(iteration), rules=pair_rules(rules_of(values)))


def _asked(lab: Lab, run_id: str, iteration: Any, baseline: str, *values: Any) -> Asked:
    baseline = OWN if baseline == PIN else baseline  # chosen, and not pinned yet
    stored = lab.config(run_id).filter
    return Asked(run_id, _round(iteration), rules_of(values), stored, baseline, by_name(lab, run_id, baseline))


def _round(iteration: Any) -> int | None:
    return None if iteration in {ALL, None} else int(iteration)


def _filled(lab: Lab, run_id: str, chosen: Selection) -> list[Any]:
    """The whole page, as the address asks for it."""
    stored = lab.config(run_id).filter
    rules, faults = asked_rules(chosen.query, stored)
    baseline, other, unknown = _baseline(lab, run_id, chosen.query.get("with", OWN))
    rounds = [row.iteration for row in _counted(lab, run_id)]
    here = chosen.whole("iteration") if chosen.whole("iteration") in rounds else None
    asked = Asked(run_id, here, rules, stored, baseline, other)
    names, fate = named(lab), chosen.query.get("rows", CHANGED)
    numbers = _numbers(lab, asked)
    if faults := "\n".join(filter(None, [faults, unknown])):
        numbers[1] = problem(f"The address asks for what cannot be:\n{faults}", "the rest of it is shown")
    return [
        "",
        gr.Column(visible=True),
        gr.Dropdown(choices=names, value=OWN),
        gr.Dropdown(choices=[ALL, *rounds], value=ALL if here is None else here),
        gr.Dropdown(choices=compared(lab, baseline), value=baseline),
        *updates(rules, histograms(lab.database, run_id, asked.now)),
        *numbers,
        *_consequences(lab, asked),
        *_rows(lab, asked, fate, 0),
        *_of_texts(lab, asked),
        *forkable(lab, run_id),
    ]


def _baseline(lab: Lab, run_id: str, name: str) -> tuple[str, FilterConfig, str]:
    """What an address compares with: its name, its rules, and what is wrong with it, where the run's own stand in."""
    try:
        return name, by_name(lab, run_id, name), ""
    except LabError as error:
        return OWN, by_name(lab, run_id, OWN), error.message


def _numbers(lab: Lab, asked: Asked) -> list[Any]:
    """What a move of a slider changes at once: all of it comes from memory, however many pairs there are."""
    database, run_id, here = lab.database, asked.run_id, asked.iteration
    counted = threshold_counts(database, run_id, asked.now)
    found = histograms(database, run_id, asked.now, here)
    change = changed_counts(database, run_id, asked.before, asked.now, here)
    some = [row for row in counted if here in {None, row.iteration}]
    most = at_most(lab, run_id)
    return [
        filter_told.summary(some, asked.now, pair_rules(asked.stored), change, asked.against, most),
        "",
        json.dumps(_state(asked)),
        *(rule_histogram(number, histogram, asked.rules) for number, histogram in found.items()),
        filter_told.counts(run_id, some, REASONS, most),
        *shown(lab, run_id, asked.rules, asked.stored, here, some),
    ]


def _consequences(lab: Lab, asked: Asked) -> list[Any]:
    """What follows from the numbers, drawn after them: where rows are lost, and what the kept pairs are like."""
    database, run_id, here = lab.database, asked.run_id, asked.iteration
    counted = threshold_counts(database, run_id, asked.now)
    steps = waterfall(database, run_id, counted, at_most=at_most(lab, run_id), iteration=here)
    told = {name: value for name, value in _state(asked).items() if value is not None}
    before, after = (effects(database, run_id, rules, here) for rules in (asked.before, asked.now))
    return [
        filter_told.waterfall(
            run_id, steps, here, None if asked.rules == asked.stored else told, words_of_run(lab, run_id)
        ),
        filter_told.effects(before, after, asked.against),
        charts.kept_and_dropped(counted, keep=run_id),
    ]


def _state(asked: Asked) -> dict[str, Any]:
    """What the address says; None: nothing of that name."""
    other = None if asked.baseline == OWN else asked.baseline
    return {"run": asked.run_id, "iteration": asked.iteration, "with": other} | written_rules(asked.rules, asked.stored)


def _rows(lab: Lab, asked: Asked, fate: str, start: int) -> list[Any]:
    """A screen of the rows that change, are kept, or that a rule drops."""
    database, run_id, here = lab.database, asked.run_id, asked.iteration
    fates = _fates(lab, asked)
    fate = fate if fate in dict(fates).values() else CHANGED
    which: dict[str, Any] = {"iteration": here, "limit": ROWS, "offset": start, "excerpt": filter_told.LONGEST + 1}
    if fate == CHANGED:
        page = changed_rows(database, run_id, asked.before, asked.now, **which)
    else:
        page = rows_of_fate(database, run_id, asked.now, None if fate == KEPT else fate, **which)
    return [
        gr.Dropdown(choices=fates, value=fate),
        filter_told.rows(run_id, page, fate, asked.against, start),
        start,
        gr.Button(interactive=start > 0),
        gr.Button(interactive=start + len(page.rows) < page.total),
    ]


def _of_texts(lab: Lab, asked: Asked) -> list[Any]:
    """What takes longest: which topics the kept pairs are of, and how much their answers vary."""
    database, run_id, here = lab.database, asked.run_id, asked.iteration
    before, after = (
        word_variety(sampled_answers(database, run_id, rules, here, SAMPLED)) for rules in (asked.before, asked.now)
    )
    return [
        filter_told.topics(run_id, kept_by_topic(database, run_id, asked.now, here), here),
        filter_told.variety(before, after, SAMPLED, asked.against),
    ]


def _fates(lab: Lab, asked: Asked) -> list[tuple[str, str]]:
    """Which rows can be shown: those that change, those kept, those each rule drops."""
    counted = [
        row
        for row in threshold_counts(lab.database, asked.run_id, asked.now)
        if asked.iteration in {None, row.iteration}
    ]
    dropped = {reason: sum(row.dropped.get(reason, 0) for row in counted) for reason in REASONS}
    kept = sum(row.kept for row in counted)
    return [
        (f"what changes against {asked.against}", CHANGED),
        (f"kept ({count(kept)})", KEPT),
        *((f"dropped: {reason} ({count(n)})", reason) for reason, n in dropped.items() if n),
    ]
