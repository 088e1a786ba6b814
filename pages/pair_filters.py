"""The filters of the pairs page: their widgets, what these can say, and what is asked without a widget."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages.components import joined
from pages.pair_address import KEPT, Asked, asked_of, pairs_link, written
from pages.shell import Lab
from pages.text import count, one_line
from storage.pair_filter import NO_RULES
from storage.queries import PAIR_SORTS, PairQuery
from storage.queries.eye_conditions import EYE_CONDITIONS
from storage.queries.pairs import finding_kinds, pair_drop_reasons, pair_topics

ALL = "all"
VERDICT_CHOICES = [
    ("all", ALL),
    ("no verdict yet", "none"),
    ("any verdict", "any"),
    ("has a note", "note"),
    "chosen",
    "rejected",
    "tie",
    "bad",
]
FILTERS = (
    *("search", "iteration", "kept", "reason", "verdict", "sort"),
    *("finding", "topic", "eye", "min_gap", "max_gap", "fixed"),
)
FIXED = ("rules", "ids", "policy")  # what no widget of this page shows: named in words, with a way to let go of it


def filter_widgets() -> list[Any]:
    """The widgets of FILTERS, in that order."""
    with gr.Row(elem_classes="lab-filters"):
        search = gr.Textbox(
            label="Search", placeholder="in the prompt, an answer or a note", elem_id="pair-search", scale=3
        )
        iteration = gr.Dropdown(label="Iteration", choices=[ALL], value=ALL, scale=1, min_width=110)
        kept = gr.Dropdown(label="Kept", choices=[ALL, *KEPT], value=ALL, elem_id="pair-kept", scale=1, min_width=110)
        reason = gr.Dropdown(label="Dropped for", choices=[ALL], value=ALL, scale=1, min_width=130)
        verdict = gr.Dropdown(
            label="Verdict", choices=VERDICT_CHOICES, value=ALL, elem_id="pair-verdict", scale=1, min_width=130
        )
        sort = gr.Dropdown(
            label="Order", choices=[(words, key) for key, words in PAIR_SORTS.items() if key != "given"], value="gap",
            elem_id="pair-sort", scale=2, min_width=180,
        )  # fmt: skip
    with gr.Accordion("More filters", open=False), gr.Row(elem_classes="lab-filters"):
        finding = gr.Dropdown(label="Finding", choices=[ALL], value=ALL, scale=2, min_width=150, elem_id="pair-finding")
        topic = gr.Dropdown(label="Topic", choices=[ALL], value=ALL, scale=2, min_width=150, elem_id="pair-topic")
        eye = gr.Dropdown(
            label="Trainer's eye", choices=[ALL, *EYE_CONDITIONS], value=ALL, scale=2, min_width=150, elem_id="pair-eye"
        )
        low = gr.Number(label="Gap from", value=None, scale=1, min_width=90, elem_id="pair-min-gap")
        high = gr.Number(label="Gap to", value=None, scale=1, min_width=90, elem_id="pair-max-gap")
    fixed = gr.Textbox(visible="hidden")
    return [search, iteration, kept, reason, verdict, sort, finding, topic, eye, low, high, fixed]


def asked_by(values: Sequence[Any]) -> Asked:
    """What the widgets of FILTERS ask for."""
    filters = dict(zip(FILTERS, values, strict=True))
    told = {name: "" if value is None else str(value) for name, value in filters.items() if name != "fixed"}
    return asked_of(told | json.loads(filters["fixed"] or "{}"))


def filter_updates(lab: Lab, run_id: str | None, asked: Asked) -> list[Any]:
    """What each widget of FILTERS can say, and says."""
    values = written(asked.query, asked.sort)
    rows = pair_drop_reasons(lab.database, run_id or "")
    rounds = list(dict.fromkeys(str(row["iteration"]) for row in rows))
    reasons = list(dict.fromkeys(row["reason"] for row in rows if row["reason"] != "kept"))
    kinds = [
        (f"{one_line(row['kind'])} ({count(row['pairs'])})", row["kind"])
        for row in finding_kinds(lab.database, run_id or "")
    ]
    topics = [
        (f"{one_line(row['label'])[:60]} ({count(row['prompts'])})", str(row["topic"]))
        for row in pair_topics(lab.database, run_id or "")
    ]
    sorts = [(words, key) for key, words in PAIR_SORTS.items() if key != "given" or asked.query.ids is not None]
    return [
        asked.query.search or "",
        _choices(rounds, values.get("iteration")),
        values.get("kept", ALL),
        _choices(reasons, values.get("reason")),
        values.get("verdict", ALL),
        gr.Dropdown(choices=sorts, value=asked.sort),
        _choices(kinds, values.get("finding")),
        _choices(topics, values.get("topic")),
        values.get("eye", ALL),
        asked.query.min_gap,
        asked.query.max_gap,
        json.dumps({name: values[name] for name in FIXED if name in values}),
    ]


def _choices(choices: list[Any], value: str | None) -> Any:
    """What can be chosen, what is asked for among it even where the run has none."""
    known = [choice[1] if isinstance(choice, tuple) else choice for choice in choices]
    asked = [value] if value is not None and value not in known else []
    return gr.Dropdown(choices=[ALL, *choices, *asked], value=value or ALL)


def _faults(asked: Asked) -> Markup:
    if not asked.faults:
        return Markup("")
    words = ", ".join(map(one_line, asked.faults))
    return Markup(
        '<p class="lab-none" role="alert">The address says {}: that makes no sense and is passed over.</p>'
    ).format(words)


def chips_html(run_id: str | None, asked: Asked) -> Markup:
    """What restricts the pairs and has no widget here, each with a way to let go of it."""
    words = {"rules": "kept by the rules", "ids": "named pairs", "policy": "in the eyes of"}
    values = written(asked.query)
    chips = joined(
        Markup('<span class="lab-chip whole">{}: {} {}</span>').format(
            words[name],
            _restriction(name, asked.query),
            pairs_link("✕", run_id, _without(asked.query, name), sort="gap" if asked.sort == "given" else asked.sort),
        )
        for name in FIXED
        if name in values
    )
    told = Markup('<p class="lab-chips">{}</p>').format(chips) if chips else Markup("")
    return _faults(asked) + told


def _restriction(name: str, query: PairQuery) -> str:
    if name == "ids":
        return count(len(query.ids or ()))
    if name == "policy":
        return f"M_{query.policy}"
    rules = asdict(query.rules or NO_RULES).items()
    given = [f"{rule.replace('_', ' ')} {value}" for rule, value in rules if value not in (None, False, ())]
    return one_line(", ".join(given))[:300] or "none"


def _without(query: PairQuery, name: str) -> PairQuery:
    return replace(query, **{name: None})
