"""The table of prompts: filters as the address has them, and rows with their provenance."""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr
from markupsafe import Markup

from pages.components import Column, address, card, joined, keyword_chips, link, pill, table
from pages.shell import Lab, Selection, nothing_yet
from pages.text import count, excerpt, number, one_line
from storage.queries import PROMPT_SORTS, attrition, keyword_counts, prompt_sources, prompts_page, run_overview
from storage.queries.page import Page, Row
from storage.queries.topics import topic_labels

PAGE_ROWS = 25
LONGEST = 500  # characters of a prompt in the table
ALL = "all"
ANY_KEYWORD = "all keywords"
STATUSES = {"all": None, "kept": "kept", "dropped": "dropped", "held out (evaluation)": "held-out"}
REASON = "dropped: "  # then the reason: also a choice of the status filter


@dataclass(frozen=True, slots=True)
class Asked:
    """The filters of the table, in the order of its widgets."""

    search: str = ""
    iteration: Any = ALL
    status: str = "kept"
    topic: Any = ALL
    keyword: str | None = ""  # any: "all" is a word too
    source: str = ALL
    sort: str = "written"

    def page(self, lab: Lab, run_id: str, start: int) -> Page:
        return prompts_page(lab.database, run_id, **self.chosen(), limit=PAGE_ROWS, offset=start)

    def chosen(self) -> dict[str, Any]:
        """What the storage is asked for."""
        dropped = self.status.startswith(REASON)
        return {
            "search": self.search,
            "iteration": _chosen(self.iteration),
            "status": "dropped" if dropped else STATUSES[self.status],
            "drop_reason": self.status.removeprefix(REASON) if dropped else None,
            "topic": _chosen(self.topic),
            "keyword": self.keyword or None,
            "source": _chosen(self.source),
            "sort": self.sort,
        }


def asked_of(chosen: Selection) -> Asked:
    """The filters, as the address has them. Whoever asks for a keyword or a topic wants its prompts of every status."""
    query = chosen.query
    topic, iteration = chosen.whole("topic"), chosen.whole("iteration")
    status = query.get("status", ALL if {"keyword", "topic", "source"} & query.keys() else "kept")
    return Asked(
        search=query.get("search", ""),
        iteration=ALL if iteration is None else iteration,
        status=status if status in STATUSES or status.startswith(REASON) else "kept",
        topic=ALL if topic is None else topic,
        keyword=query.get("keyword", ""),
        source=query.get("source", ALL),
        sort=query.get("sort", "written") if query.get("sort") in PROMPT_SORTS else "written",
    )


def filter_updates(lab: Lab, run_id: str | None, asked: Asked) -> list[Any]:
    """The widgets with what this run has to choose from, and what is asked for."""
    run_id = run_id or ""
    rounds = [row.iteration for row in run_overview(lab.database, run_id) if row.prompts_generated]
    steps = [step for step in attrition(lab.database, run_id) if step.what == "prompts"]
    reasons = [REASON + step.reason for step in steps[1:]]
    topics = [
        (topic_name(row["topic"], row["label"], row["prompts"]), row["topic"])
        for row in topic_labels(lab.database, run_id)
    ]
    words = [
        (f"{one_line(excerpt(row['keyword'], 60))} ({row['prompts']:,})", row["keyword"])
        for row in keyword_counts(lab.database, run_id, limit=200)
    ]
    sources = [(f"{row['source']} ({row['prompts']:,})", row["source"]) for row in prompt_sources(lab.database, run_id)]
    return [
        asked.search,
        gr.Dropdown(choices=_with(asked.iteration, [ALL, *rounds]), value=asked.iteration),
        gr.Dropdown(choices=_with(asked.status, [*STATUSES, *dict.fromkeys(reasons)]), value=asked.status),
        gr.Dropdown(choices=_with(asked.topic, [(ALL, ALL), *topics]), value=asked.topic),
        gr.Dropdown(choices=_with(asked.keyword, [(ANY_KEYWORD, ""), *words]), value=asked.keyword),
        gr.Dropdown(choices=_with(asked.source, [(ALL, ALL), *sources]), value=asked.source),
        asked.sort,
    ]


def topic_name(topic: int, label: str, prompts: int | None = None) -> str:
    """A topic as a choice or a heading: its number tells two of equal words apart."""
    told = f"{topic} · {one_line(excerpt(label, 80))}"
    return told if prompts is None else f"{told} ({count(prompts)})"


def shown(lab: Lab, run_id: str, asked: Asked, start: int) -> list[Any]:
    """What the table tab shows: flow, table, place, pager, offset."""
    found = asked.page(lab, run_id, start)
    return [
        flow(lab, run_id),
        rows_table(lab, run_id, found),
        _place(found, start),
        gr.Row(visible=found.total > PAGE_ROWS),
        start,
    ]


def chosen_address(run_id: str | None, asked: Asked) -> dict[str, Any]:
    """What the address says of the filters: what is not the default."""
    default = asdict(Asked())
    return {name: value for name, value in asdict(asked).items() if value != default[name]}


def flow(lab: Lab, run_id: str) -> Markup:
    """Where prompts get lost, from those written to those kept; each step opens the rows it dropped."""
    steps = [step for step in attrition(lab.database, run_id) if step.what == "prompts"]
    if not steps:
        return Markup("")
    written, losses, kept = steps[0], steps[1:], steps[-1].left
    parts = [Markup("<li>{} <b>{}</b></li>").format("written", count(written.left))]
    for step in losses:
        opened = link("prompts", step.reason, run=run_id, status=REASON + step.reason)
        parts.append(Markup('<li class="lost">{} <b>−{}</b></li>').format(opened, count(step.dropped)))
    parts.append(Markup('<li class="left">{} <b>{}</b></li>').format("kept", count(kept)))
    return Markup('<ol class="lab-flow" aria-label="from prompts written to prompts kept">{}</ol>').format(
        joined(parts)
    )


def rows_table(lab: Lab, run_id: str, found: Page) -> Markup:
    if not found.total:
        return nothing_found(lab, run_id)
    placed = any(row["label"] is not None for row in found.rows)
    columns = [
        Column("prompt", lambda row: prompt_text(row["text"], row["keywords"])),
        Column("keywords", lambda row: _keywords(run_id, row)),
        *([Column("topic", lambda row: _topic(run_id, row))] if placed else []),
        Column("source", lambda row: row["source"]),
        Column("round", lambda row: row["iteration"] or "", True),
        *([Column("novelty", _novelty, True, "1 − similarity to the nearest seed")] if placed else []),
        Column("status", _status),
        Column("", lambda row: _links(run_id, row)),
    ]
    return card("", table(columns, found.rows, css="stack prompts"))


def prompt_text(text: str, keywords: Sequence[str], longest: int = LONGEST) -> Markup:
    """A prompt on one line, the keywords it uses marked (underlined, not by colour alone)."""
    told = one_line(excerpt(text, longest))
    parts = _pattern(keywords).split(told) if keywords else [told]
    marked = joined(
        Markup('<mark title="a keyword of its list">{}</mark>').format(part) if place % 2 else part
        for place, part in enumerate(parts)
    )
    return Markup('<span class="wide" dir="auto">{}</span>').format(marked)


def _pattern(keywords: Sequence[str]) -> re.Pattern[str]:
    """A keyword as a word of its own, whatever the case; long ones first, so that "ice cream" is not read as "ice"."""
    words = sorted({keyword for keyword in keywords if keyword.strip()}, key=lambda word: (-len(word), word))
    either = "|".join(re.escape(one_line(word)) for word in words) or r"(?!)"
    return re.compile(rf"(?<!\w)({either})(?!\w)", re.IGNORECASE)


def _keywords(run_id: str, row: Row) -> Markup:
    """The list, each word a link to the prompts written from it."""
    return keyword_chips(
        row["keywords"], row["noise_keyword"], lambda word: address("prompts", run=run_id, keyword=word)
    )


def _topic(run_id: str, row: Row) -> object:
    if row["topic"] is None:
        return ""
    return link("prompts", one_line(excerpt(row["label"], 80)), run=run_id, topic=row["topic"])


def _novelty(row: Row) -> str:
    return "" if row["novelty"] is None else number(row["novelty"], 2)


def _status(row: Row) -> Markup:
    word = row["drop_reason"] or row["status"]
    return pill(word, row["status"], f"dropped: {row['drop_reason']}" if row["drop_reason"] else "")


def _links(run_id: str, row: Row) -> Markup:
    """Where the prompt's story goes on; an arrow stays on the line of its word."""
    if row["status"] == "dropped":
        return Markup("")
    to_lineage = link("lineage", "lineage\u00a0→", run=run_id, prompt=row["prompt_id"])
    if row["status"] != "kept":
        return to_lineage
    return joined([link("pairs", "pair\u00a0→", run=run_id, prompt=row["prompt_id"]), Markup("<br>"), to_lineage])


def nothing_found(lab: Lab, run_id: str) -> Markup:
    if any(step.what == "prompts" for step in attrition(lab.database, run_id)):
        clear = Markup('No prompt matches. <a href="{}">Show all of them</a>.').format(
            address("prompts", run=run_id, status=ALL)
        )
        return Markup('<section class="lab-empty"><h3>Nothing matches</h3><p>{}</p></section>').format(clear)
    return nothing_yet(lab.run(run_id), "prompts", "They come once the prompt generator is trained.")


def _place(found: Page, start: int) -> Markup:
    last = start + len(found.rows)
    return Markup("<p class='lab-place'>{} to {} of {}</p>").format(count(start + 1), count(last), count(found.total))


def _chosen(value: Any) -> Any:
    return None if value in {ALL, None} else value


def _with(value: Any, choices: list[Any]) -> list[Any]:
    """The choices, and what the address asks for where this run has none of it."""
    known = {choice[1] if isinstance(choice, tuple) else choice for choice in choices}
    return choices if value in known else [*choices, value]
