"""Disagreement: label, scorer, policy, training, readers and a judge that only looks at length, against each other."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages import eye_charts
from pages.components import Column, card, joined, link, table
from pages.pair_address import pairs_address, pairs_link
from pages.shell import QUIET, Lab, Selection, follow, heading, no_runs, nothing_yet, told
from pages.text import NOTHING, count, number, percent
from storage.queries import PairQuery
from storage.queries.eye import Cells, agreement_cells, eye_counts, opinion_points, pair_rounds
from storage.queries.eye_conditions import JUDGES, quadrant
from synpo_lab.judges import Concord, concord

LEAD = "Which side of a pair is better? Six judges, and where they do not agree: those pairs are worth reading."
KEPT = {"all": None, "kept": True, "dropped": False}
LATEST = "latest"
POINTS = 2_000
WHO = {
    "label": ("label", "as the pair has it: the chosen side", "label, 1 for chosen"),
    "scorer": ("scorer", "by its gap: score(chosen) − score(rejected)", "gap, score units"),
    "policy": ("policy", "by its margin: implicit reward β × mean log-prob under M_t", "margin under M_t, reward units"),
    "training": (
        "training", "by what it made likelier: log-ratio of M_t over M₀, chosen − rejected", "log-ratio gap, nats per token",
    ),
    "length": ("length", "whichever answer is longer, and nothing else", "chosen − rejected, characters"),
    "readers": ("readers", "by their latest verdicts, the majority of them", "verdicts for chosen − for rejected"),
}  # fmt: skip
SIDES = ("chosen", "rejected")
NO_POLICY = (
    "No policy was asked for log-probs of these pairs: an imported data set has none; for a run, see its Trainer’s eye."
)
WHY = {  # it judged no pair
    "scorer": "These pairs have no scores: the data came without, and nobody has scored it.",
    "policy": NO_POLICY,
    "training": NO_POLICY,
    "readers": "Nobody has given a verdict on these pairs yet: the Pairs page takes them, by key.",
    "length": "There are no pairs here.",
    "label": "There are no pairs here.",
}


def build(lab: Lab) -> None:
    picker = heading("Disagreement", LEAD)
    line = gr.HTML()
    nothing = gr.HTML(elem_id="disagree-nothing", elem_classes="hide-empty")
    with gr.Column(visible=False) as content:
        with gr.Row(elem_classes="lab-filters"):
            policy = gr.Dropdown(label="Policy", choices=[], elem_id="disagree-policy", scale=1, min_width=120)
            iteration = gr.Dropdown(label="Pairs of iteration", choices=["all"], value="all", scale=1, min_width=130)
            kept = gr.Dropdown(
                label="Kept", choices=list(KEPT), value="all", elem_id="disagree-kept", scale=1, min_width=110
            )
            choices = [(name, judge) for judge, (name, *_) in WHO.items()]
            one = gr.Dropdown(
                label="One judge", choices=choices, value="scorer", elem_id="judge-one", scale=1, min_width=120
            )
            other = gr.Dropdown(
                label="Another", choices=choices, value="length", elem_id="judge-other", scale=1, min_width=120
            )
        matrix = gr.HTML(elem_id="agreement")
        with gr.Row(elem_classes="lab-row"):
            with gr.Column(elem_classes="lab-card", min_width=340) as drawn:
                scatter = gr.Plot(show_label=False, container=False, elem_id="judges-scatter")
            with gr.Column(min_width=340):
                quadrants = gr.HTML(elem_id="judges-quadrants")
    filters = [policy, iteration, kept, one, other]
    panels = [matrix, drawn, scatter, quadrants]

    @told
    def show(run_id: str, *wanted: Any) -> list[Any]:
        return _panels(lab, run_id, *wanted)

    def fill(asked: Selection) -> list[Any]:
        rounds = pair_rounds(lab.database, asked.run_id or "")
        if asked.run_id is None or not rounds:
            skipped = [gr.skip()] * (len(filters) + len(panels))
            return [_nothing(lab, asked.run_id), gr.Column(visible=False), *skipped]
        policies = [row.policy for row in eye_counts(lab.database, asked.run_id, kept=None)]
        _, judged = agreement_cells(lab.database, asked.run_id)
        chosen = _chosen(asked, policies, rounds, "scorer" if judged["scorer"] else "label")
        updates = [
            gr.Dropdown(choices=[(LATEST, LATEST), *((f"M_{t}", t) for t in policies)], value=chosen[0]),
            gr.Dropdown(choices=["all", *rounds], value=chosen[1]),
            *chosen[2:],
        ]
        return ["", gr.Column(visible=True), *updates, *_panels(lab, asked.run_id, *chosen)]

    def has_pairs(run_id: str | None) -> bool:
        return bool(pair_rounds(lab.database, run_id or ""))

    follow(lab, picker, line, has_pairs, fill, [nothing, content, *filters, *panels])
    moved = gr.on(
        [part.input for part in filters], show, [picker, *filters], panels, trigger_mode="always_last", **QUIET
    )
    to_address = "(policy, iteration, kept, one, other) => labAddress({policy, iteration, kept, one, other})"
    moved.then(None, filters, None, js=to_address, **QUIET)


def _nothing(lab: Lab, run_id: str | None) -> Markup:
    return (
        no_runs(lab) if run_id is None else nothing_yet(lab.run(run_id), "pairs", "They come once answers are scored.")
    )


def _chosen(asked: Selection, policies: list[int], rounds: list[int], first: str) -> tuple[Any, Any, str, str, str]:
    """Policy, iteration, kept and the two judges, as the address has them."""
    policy, iteration = asked.whole("policy"), asked.whole("iteration")
    kept, one, other = (asked.query.get(name, "") for name in ("kept", "one", "other"))
    return (
        policy if policy in policies else LATEST,
        iteration if iteration in rounds else "all",
        kept if kept in KEPT else "all",
        one if one in JUDGES else first,
        other if other in JUDGES else "length",
    )


def _panels(lab: Lab, run_id: str, policy: Any, iteration: Any, kept: str, one: str, other: str) -> list[Any]:
    which = {
        "policy": None if policy in {LATEST, None} else policy,
        "iteration": None if iteration in {"all", None} else iteration,
        "kept": KEPT[kept],
    }
    cells, judged = agreement_cells(lab.database, run_id, **which)
    query = PairQuery(iteration=which["iteration"], kept=which["kept"], policy=which["policy"])
    opens = partial(_opens, run_id, query)
    here = next((cell for cell in cells if {cell.one, cell.other} == {one, other}), None)
    return [
        _matrix(cells, judged, one, other, run_id, which),
        *_scatter(lab, run_id, one, other, which),
        _quadrants(here, judged, opens) if here else _same(one),
    ]


def _opens(run_id: str, query: PairQuery, name: str, label: object) -> Markup:
    return pairs_link(label, run_id, replace(query, eye=name), sort="disagreement")


def _matrix(
    cells: list[Cells], judged: Mapping[str, int], one: str, other: str, run_id: str, which: Mapping[str, Any]
) -> Markup:
    """A row for each two judges: agreement with its interval, and what they disagree about."""
    told_of = [(cell, concord(cell.both, cell.first, cell.second, cell.neither)) for cell in cells]
    silent = [WHO[judge][0] for judge in JUDGES if not judged[judge]]
    columns = [
        Column("judges", lambda row: _names(row[0], one, other, run_id, which)),
        Column("pairs", lambda row: count(row[1].n), True, "both judges decided"),
        Column("agree", lambda row: Markup("<b>{}</b>").format(percent(row[1].share) if row[1].n else NOTHING), True),
        Column("95 %", lambda row: _interval(row[1]), True, "Wilson interval"),
        Column(
            "κ",
            lambda row: number(row[1].kappa, 2) if row[1].n else NOTHING,
            True,
            "2 × share − 1: sides named at random",
        ),
        Column("disagree", lambda row: count(row[0].first + row[0].second), True),
        Column("ties", lambda row: count(row[0].ties), True, "one of them prefers neither; not counted"),
    ]
    shown = [row for row in told_of if row[1].n or row[0].ties]
    note = f"{', '.join(silent)} judged no pair here" if silent else "pairs only one of them judged are left out"
    told_pairs = (
        table(columns, shown) if shown else Markup("<p class='lab-none'>No pair was judged by two of them.</p>")
    )
    return card("Who agrees with whom", told_pairs + _judges(judged), note=note)


def _names(cell: Cells, one: str, other: str, run_id: str, which: Mapping[str, Any]) -> Markup:
    label = f"{WHO[cell.one][0]} and {WHO[cell.other][0]}"
    if {cell.one, cell.other} == {one, other}:
        return Markup("<b>{}</b>").format(label)
    kept = next(word for word, value in KEPT.items() if value == which["kept"])
    return link(
        "disagree", label, run=run_id, one=cell.one, other=cell.other, policy=which["policy"],
        iteration=which["iteration"], kept=kept,
    )  # fmt: skip


def _interval(found: Concord) -> str:
    return f"{percent(found.low)} to {percent(found.high)}" if found.n else ""


def _judges(judged: Mapping[str, int]) -> Markup:
    columns = [
        Column("judge", lambda judge: WHO[judge][0]),
        Column("goes", lambda judge: WHO[judge][1]),
        Column("pairs judged", lambda judge: count(judged[judge]), True),
    ]
    return Markup("<details class='lab-asked'><summary>What each judge goes by</summary>{}</details>").format(
        table(columns, JUDGES)
    )


def _scatter(lab: Lab, run_id: str, one: str, other: str, which: Mapping[str, Any]) -> list[Any]:
    """The plot and its frame; none where there is no point."""
    points = [
        point | {"agree": point["x"] * point["y"] > 0}
        for point in opinion_points(lab.database, run_id, one, other, **which, limit=POINTS)
    ]
    if one == other or "label" in {one, other} or not points:  # the label's number is always 1
        return [gr.Column(visible=False), None]
    keep = f"{run_id} {one} {other} {which}"
    drawn = eye_charts.opinions(
        points, WHO[one][2], WHO[other][2], lambda pair_id: pairs_address(run_id, pair=pair_id), keep
    )
    return [gr.Column(visible=True), drawn]


def _quadrants(cell: Cells, judged: Mapping[str, int], opens: Any) -> Markup:
    if silent := [judge for judge in (cell.one, cell.other) if not judged[judge]]:
        return card(
            " and ".join(WHO[judge][0] for judge in silent), Markup("<p class='lab-none'>{}</p>").format(WHY[silent[0]])
        )
    counts = {
        ("chosen", "chosen"): cell.both,
        ("chosen", "rejected"): cell.first,
        ("rejected", "chosen"): cell.second,
        ("rejected", "rejected"): cell.neither,
    }
    whole = sum(counts.values()) or 1

    def box(side: str, other_side: str) -> Markup:
        n = counts[side, other_side]
        name = quadrant(cell.one, side, cell.other, other_side)
        words = "agree" if side == other_side else "disagree"
        return Markup("<td><b>{}</b><span>{} · {}</span></td>").format(opens(name, count(n)), words, percent(n / whole))

    one, other = WHO[cell.one][0], WHO[cell.other][0]
    head = joined(Markup('<th scope="col">{} prefers {}</th>').format(one, side) for side in SIDES)
    rows = joined(
        Markup('<tr><th scope="row">{} prefers {}</th>{}{}</tr>').format(
            other, other_side, *(box(side, other_side) for side in SIDES)
        )
        for other_side in SIDES
    )
    body = Markup('<table class="lab-quadrants"><thead><tr><td></td>{}</tr></thead><tbody>{}</tbody></table>').format(
        head, rows
    )
    return card(f"{one} and {other}", body, note="each number opens its rows")


def _same(judge: str) -> Markup:
    return card(WHO[judge][0], Markup("<p class='lab-none'>Choose two judges: one agrees with itself.</p>"))
