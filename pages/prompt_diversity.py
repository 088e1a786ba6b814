"""How new, how alike and how varied the prompts of each round are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
import plotly.graph_objects as go
from markupsafe import Markup

from pages.charts import DASHES, SERIES, figure_of
from pages.components import Column, card, empty, link, table
from pages.prompt_rows import REASON, prompt_text
from pages.shell import Lab
from pages.text import count, number, percent
from storage.queries.drift import CLOSE, RoundDrift, Spread, closest_to_evaluation, prompt_drift, spread

CLOSEST = 10
TITLES = {
    "similarity": ("How alike prompts are", "mean cosine similarity to up to 1,000 others of the round"),
    "novelty": ("Novelty against the seeds", "1 − cosine similarity to the nearest seed"),
    "overlap": ("Overlap with the evaluation prompts", "cosine similarity to the nearest evaluation prompt"),
}
LINES = {  # of the drift chart: name -> field
    "novelty": "novelty",
    "distinct-1": "distinct_1",
    "distinct-2": "distinct_2",
    "similarity": "similarity",
    "overlap": "overlap",
}


@dataclass(frozen=True, slots=True)
class Panels:
    """The widgets of the tab, in the order of what `drawn` gives."""

    table: gr.HTML
    plots: list[gr.Plot]
    closest: gr.HTML

    @property
    def all(self) -> list[Any]:
        return [self.table, *self.plots, self.closest]


def diversity_panels() -> Panels:
    drift = gr.HTML(elem_id="prompt-drift")
    with gr.Row(elem_classes="lab-row lab-curves"):
        names = ["drift", *TITLES]
        plots = [gr.Plot(show_label=False, container=False, elem_id=f"plot-{name}", visible=False) for name in names]
    return Panels(drift, plots, gr.HTML(elem_id="prompt-closest", elem_classes="hide-empty"))


def drawn(lab: Lab, run_id: str | None) -> list[Any]:
    rows = prompt_drift(lab.database, run_id) if run_id else []
    if run_id is None or not rows:
        hidden = [gr.Plot(visible=False)] * (1 + len(TITLES))
        return [empty("No prompts yet", "Numbers about prompts come with the first of them."), *hidden, ""]
    spreads = [spread(lab.database, run_id, measure) for measure in TITLES]
    return [
        _table(run_id, rows),
        gr.Plot(drift_chart(rows, run_id), visible=True),
        *(gr.Plot(spread_chart(one, run_id), visible=bool(one.shares)) for one in spreads),
        _closest(lab, run_id),
    ]


def _table(run_id: str, rows: Sequence[RoundDrift]) -> Markup:
    def dropped(field: str, reason: str) -> Any:
        def cell(row: RoundDrift) -> object:
            n = getattr(row, field)
            told = f"{count(n)} ({percent(n / row.written)})"
            return link("prompts", told, run=run_id, iteration=row.iteration, status=REASON + reason) if n else count(n)

        return cell

    columns = [
        Column("round", lambda row: row.iteration, True),
        Column("written", lambda row: count(row.written), True),
        Column("kept", lambda row: count(row.kept), True),
        Column("duplicates", dropped("duplicates", "duplicate"), True, "dropped: written before in this run"),
        Column("copies of seeds", dropped("seed_copies", "seed"), True, "dropped"),
        Column("copies of evaluation", dropped("evaluation_copies", "evaluation"), True, "dropped"),
        Column("words", lambda row: number(row.words, 1), True, "mean per kept prompt, of up to 1,000"),
        Column(
            "distinct-1", lambda row: number(row.distinct_1), True, "different words over words, up to 1,000 prompts"
        ),
        Column("distinct-2", lambda row: number(row.distinct_2), True, "different pairs of words over pairs"),
        Column("similarity", lambda row: number(row.similarity), True, "mean over the round, as in SynPO's figure 5"),
        Column("novelty", lambda row: number(row.novelty), True, "mean of 1 − similarity to the nearest seed"),
        Column("overlap", lambda row: number(row.overlap), True, "mean similarity to the nearest evaluation prompt"),
        Column(
            f"overlap > {CLOSE}", lambda row: _close(run_id, row), True, "kept prompts close to an evaluation prompt"
        ),
    ]
    note = "drift shows down a column: less novelty, more similarity, fewer distinct words, more duplicates"
    return card("Round by round", table(columns, rows), note=note)


def _close(run_id: str, row: RoundDrift) -> object:
    if row.overlap is None:
        return number(None)
    told = count(row.close_to_evaluation)
    return (
        link("prompts", told, run=run_id, iteration=row.iteration, sort="overlap") if row.close_to_evaluation else told
    )


def drift_chart(rows: Sequence[RoundDrift], run_id: str) -> go.Figure:
    """Every mean over the rounds."""
    figure = figure_of("Drift over the rounds", "round", "share or cosine similarity, 0 to 1", keep=f"{run_id} drift")
    for place, (name, field) in enumerate(LINES.items()):
        points = [(row.iteration, value) for row in rows if (value := getattr(row, field)) is not None]
        if points:
            figure.add_scatter(
                x=[x for x, _ in points], y=[y for _, y in points], name=name, mode="lines+markers",
                line={"color": SERIES[place], "dash": DASHES[place]}, marker={"symbol": place, "size": 8},
                hovertemplate=f"{name}, round %{{x}}: %{{y:.3f}}<extra></extra>",
            )  # fmt: skip
    figure.update_xaxes(dtick=1 if len(rows) < 20 else None)
    figure.update_yaxes(rangemode="tozero")
    return figure


def spread_chart(found: Spread, run_id: str) -> go.Figure:
    """How one measure is spread over each group's prompts, as a share of the group, so that groups of any size compare.

    Rounds between the first and the last are hidden until their name is clicked.
    """
    title, unit = TITLES[found.measure]
    figure = figure_of(title, unit, "share of the prompts", keep=f"{run_id} {found.measure}")
    middles = [(left + right) / 2 for left, right in zip(found.edges, found.edges[1:], strict=False)]
    rounds = [name for name in found.shares if name.startswith("round")]
    for place, (name, shares) in enumerate(found.shares.items()):
        told = f"{name}: mean {number(found.means[name])}, {count(found.sizes[name])} prompts"
        figure.add_scatter(
            x=middles, y=shares, name=name, mode="lines", visible="legendonly" if name in rounds[1:-1] else True,
            line={"color": SERIES[place % len(SERIES)], "dash": DASHES[place % len(DASHES)], "shape": "hvh", "width": 2},
            hovertemplate=f"%{{x:.3f}}: %{{y:.1%}}<extra>{told}</extra>",
        )  # fmt: skip
    figure.update_yaxes(tickformat=".0%")
    return figure


def _closest(lab: Lab, run_id: str) -> Markup:
    """The prompts nearest to an evaluation prompt, beside it."""
    found = closest_to_evaluation(lab.database, run_id, limit=CLOSEST)
    if not found.total:
        return Markup("")
    close = closest_to_evaluation(lab.database, run_id, at_least=CLOSE, limit=0).total
    columns = [
        Column("similarity", lambda row: number(row["overlap"], 2), True, "cosine, 1: the same words"),
        Column("prompt", lambda row: prompt_text(row["text"] or "", [])),
        Column("nearest evaluation prompt", lambda row: prompt_text(row["evaluation_text"] or "", [])),
        Column("from", lambda row: "seed" if row["kind"] == "seed" else f"round {row['iteration']}"),
        Column("", lambda row: link("lineage", "lineage →", run=run_id, prompt=row["prompt_id"])),
    ]
    note = f"{count(close)} of {count(found.total)} prompts and seeds are {CLOSE} or more alike; the closest {CLOSEST}:"
    return card("Closest to the evaluation set", table(columns, found.rows, css="stack"), note=note)
