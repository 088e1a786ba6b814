"""An imported data set at a glance: what the Overview and the Iterations page show of it in place of a training."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup

from pages import charts
from pages.components import Column, address, card, facts, link, state_pill, table
from pages.shell import PAGES, Lab, moment_of
from pages.text import count, number, percent, signed, visible
from storage.pair_filter import NO_RULES
from storage.queries import Effects, WinRate, effects, histograms, win_rate_curve
from synpo_lab.home import storage_errors
from synpo_lab.importing.launching import RECIPE, summary_of
from synpo_lab.importing.summary import Summary
from synpo_lab.jobs import RunStatus
from synpo_lab.report import interval

NO_PAIRS = (
    "Prompts and answers, no pairs. Imported together with another model's answers to the same prompts, as a second file, "
    "they make pairs."
)
MOST_MODELS = 50  # rows of what the judge said
SPREADS = {  # what is drawn of a data set: title, axis and unit
    "length_ratio": (
        "How much longer is the chosen answer?",
        "log₂ (characters chosen / rejected): +1 is twice as long",
    ),
    "gap": ("How far apart are the scores?", "score of the chosen answer − of the rejected one"),
    "similarity": ("How alike are the two answers?", "share of words in common"),
}


def is_data_set(status: RunStatus | None) -> bool:
    """Whether the run is an import that has come to its end."""
    return status is not None and status.recipe == RECIPE and status.state == "imported"


def summary(lab: Lab, status: RunStatus) -> Summary | None:
    """What the import made, None before its end."""
    with storage_errors():
        return lab.latest(
            ("import", status.run_id), moment_of(status), lambda: summary_of(lab.store.run(status.run_id))
        )


def places(run_id: str) -> Markup:
    """Links to what can be done with a data set."""
    sql = f"SELECT prompt, chosen, rejected, gap\nFROM pairs\nWHERE run_id = '{run_id}'\nLIMIT 20"
    wanted = [("pairs", "pairs"), ("prompts", "prompts"), ("thresholds", "filter")]
    links = [link(page, label, run=run_id) for page, label in wanted if page in PAGES]
    checked = link("health", "health", run=run_id, check=1)  # the first who asks has it checked
    return Markup(" · ").join([*links, checked, link("sql", "SQL", run=run_id, sql=sql)])


def set_card(lab: Lab, status: RunStatus, why: str = "") -> Markup:
    """The data set in numbers, and where to go from here."""
    made = summary(lab, status)
    head = Markup('<div class="lab-live-head">{}<b class="lab-id">{}</b><span>{}</span></div>').format(
        state_pill(status.state), status.run_id, visible(f"{made.format}: {status.title}" if made else status.title)
    )
    told = facts(_numbers(made)) if made else Markup("")
    note = Markup('<p class="lab-none">{}</p>').format(why) if why else Markup("")
    return Markup('<section class="lab-card lab-live">{}{}<p class="lab-line">{}</p>{}</section>').format(
        head, told, places(status.run_id), note
    )


def _numbers(made: Summary) -> list[tuple[str, object]]:
    answers = [("answers", count(made.rows["responses"]))] if "responses" in made.rows else []
    refused = link("data", count(sum(made.refused.values()))) if made.refused else "0"
    return [
        ("pairs", count(made.rows.get("pairs", 0))),
        ("prompts", count(made.rows.get("prompts", 0))),
        *answers,
        ("duplicates", count(made.duplicates)),
        ("rows refused", refused),
    ]


def spread(lab: Lab, status: RunStatus, number_of: str) -> go.Figure:
    """How one of the pairs' numbers is spread; of `gap`, similarity where nobody gave scores."""
    found = lab.latest(
        ("spread", status.run_id), moment_of(status), lambda: histograms(lab.database, status.run_id, NO_RULES)
    )
    name = "similarity" if number_of == "gap" and not sum(found["gap"].counts) else number_of
    title, unit = SPREADS[name]
    return charts.spread(found[name].edges, found[name].counts, title, unit, keep=f"{status.run_id} {name}")


def results(lab: Lab, status: RunStatus) -> Markup:
    """What the pairs are like, and what a judge said where the file has that."""
    like = effects(lab.database, status.run_id, NO_RULES)
    told = card("The pairs", facts(_likeness(like)), note="all of them: no filter") if like.kept else Markup("")
    return told + _judged(lab, status.run_id)


def _likeness(like: Effects) -> list[tuple[str, object]]:
    return [
        ("pairs", count(like.kept)),
        ("chosen is longer", percent(like.longer)),
        ("length ratio", number(like.length_ratio, 2)),
        ("words in common", percent(like.similarity)),
        ("mean gap", signed(like.gap)),
    ]


def _judged(lab: Lab, run_id: str) -> Markup:
    every = win_rate_curve(lab.database, [run_id])
    if not every:
        return Markup("")
    found = sorted(every, key=lambda row: -row.win_rate)[:MOST_MODELS]
    columns = [
        Column("model", lambda row: visible(row.model_a)),
        Column("against", lambda row: visible(row.model_b)),
        Column("judge", lambda row: visible(row.annotator)),
        Column("preferred, mean", lambda row: percent(row.mean_policy), True, "the judge's preference, 0 to 100 %"),
        Column("won", lambda row: Markup("<b>{}</b>").format(percent(row.win_rate)), True, "a tie is half a win"),
        Column("95 %", _interval, True),
        Column("prompts", lambda row: count(row.n), True),
        Column("ties", lambda row: count(row.ties), True),
    ]
    return card("What the judge said", table(columns, found), note=_models_told(len(found), len(every)))


def _models_told(shown: int, there: int) -> str:
    cut = f"the best {shown} of {there:,}; " if shown < there else ""
    return f"{cut}prompt by prompt in the view evals"


def _interval(row: WinRate) -> str:
    low, high = interval(row.win_rate, row.n)
    return "" if low is None else f"{percent(low)} to {percent(high)}"


def examples_title(rows: Sequence[dict[str, Any]], run_id: str) -> tuple[str, object]:
    """Title and note of the examples of a data set."""
    more = Markup('<a href="{}">all pairs →</a>').format(address("pairs", run=run_id))
    return "From the data", more if rows else ""
