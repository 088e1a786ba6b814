"""A screen of pairs as a table; a row opens its pair."""

from collections.abc import Mapping
from dataclasses import replace

from markupsafe import Markup

from pages.components import Column, pill, table, text_cell
from pages.pair_address import Asked, Modes, pairs_address, written_modes
from pages.pair_view import signed_count
from pages.text import count, excerpt, number, one_line, signed
from storage.queries import Page
from storage.queries.page import Row
from storage.queries.telling import Pick

ROWS = 20
LONGEST = 140  # characters of a text in the table


def list_html(
    run_id: str, page: Page, asked: Asked, offset: int, current: str | None, why: Mapping[str, str], modes: Modes
) -> Markup:
    """The rows of a page in their order. `why`: of a pair, why it was picked. In blind reading nothing tells their sides."""
    shown = written_modes(replace(modes, view="pair"))
    rows = [{**row, "place": offset + i + 1} for i, row in enumerate(page.rows)]

    def opened(row: Row, label: object) -> Markup:
        here = " aria-current='true'" if row["pair_id"] == current else ""
        there = pairs_address(run_id, asked.query, sort=asked.sort, pair=row["pair_id"], **shown)
        return Markup('<a href="{}" data-pair="{}"{}>{}</a>').format(there, row["pair_id"], Markup(here), label)

    columns = [
        Column("", lambda row: opened(row, count(row["place"])), True),
        Column("prompt", lambda row: opened(row, text_cell(row["prompt"], LONGEST))),
        *([] if modes.blind else _told(why)),
    ]
    return table(columns, rows, css="stack pairs")


def _told(why: Mapping[str, str]) -> list[Column]:
    """What a row says of its sides."""
    return [
        *([Column("why", lambda row: why.get(row["pair_id"], ""))] if why else []),
        Column("gap", lambda row: signed(row["gap"]), True, "score(chosen) - score(rejected)"),
        Column(
            "", lambda row: pill("kept", "kept") if row["kept"] else pill(row["drop_reason"] or "dropped", "dropped")
        ),
        Column("length", lambda row: signed_count(row["len_chosen"] - row["len_rejected"]), True, "chosen - rejected"),
        Column("alike", lambda row: number(row["similarity"], 2), True, "share of words in common"),
        Column("rejected", lambda row: text_cell(row["rejected"], LONGEST)),
        Column("chosen", lambda row: text_cell(row["chosen"], LONGEST)),
    ]


def words_of(pick: Pick) -> str:
    """Why a pair is among the twenty that tell most."""
    group = one_line(excerpt(pick.group, 60))
    return {
        "cut": f"near the cut: gap {signed(pick.value)}",
        "widest": f"one of the widest gaps: {signed(pick.value)}",
        "narrowest": f"one of the narrowest gaps: {signed(pick.value)}",
        "longer": f"chosen answer {count(int(pick.value))} characters longer",
        "shorter": f"chosen answer {count(int(pick.value))} characters shorter",
        "disagreement": f"scorer, length and policy disagree: {number(pick.value, 2)} of 2",
        "unlike": f"sides least alike: {number(pick.value, 2)}",
        "repetitive": f"repetitive chosen answer: {number(pick.value, 2)}",
        "typical": f"typical of {count(int(pick.value))} pairs: {group}",
    }[pick.kind]
