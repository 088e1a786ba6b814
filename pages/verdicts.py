"""Readers' verdicts: given, stored, and compared with the scorer and with each other."""

import math
import time
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from pages.components import Column, card, table
from pages.shell import Lab
from pages.text import NOTHING, count, number, percent, visible
from storage.queries.page import Row
from storage.queries.verdicts import verdicts
from synpo_lab.agreement import (
    Agreement,
    ReaderAgreement,
    TwoReaders,
    Verdict,
    between_readers,
    by_reader,
    scorer_by_verdict,
)
from synpo_lab.errors import LabError
from synpo_lab.records import Note

NOBODY = "anonymous"
LONGEST_NAME, LONGEST_NOTE = 80, 5_000  # characters
SCORER_WORDS = {"chosen": "chosen", "tie": "neither", "rejected": "rejected", "": "gave no score"}


def author_of(name: str | None) -> str:
    return (name or "").strip()[:LONGEST_NAME] or NOBODY


def give(lab: Lab, pair_id: str, verdict: Any, text: str, author: str | None) -> None:
    """Store a verdict (one of VERDICTS, or "" to take it back) and a note in words.

    LabError when the note is too long; StorageFault when the lab home is open read-only.
    """
    if len(text) > LONGEST_NOTE:
        raise LabError(f"this note has {len(text):,} characters", hint=f"keep it to {LONGEST_NOTE:,}")
    lab.store.append_note(Note(pair_id, verdict, text.strip(), author_of(author), time.time()))


def latest_of(notes: list[Row], author: str | None) -> Row | None:
    """What this reader said last of the pair."""
    return next((note for note in notes if note["author"] == author_of(author)), None)


def agreement_html(lab: Lab, run_id: str | None, author: str | None) -> Markup:
    """How often readers agree with the scorer, with the label, and with each other."""
    rows = [Verdict(**row) for row in verdicts(lab.database, run_id)] if run_id else []
    if not rows:
        return Markup('<p class="lab-none">No verdicts yet. Give some with the buttons or keys above.</p>')
    readers, two = by_reader(rows), between_readers(rows)
    cards = [_against(readers, author), _by_verdict(scorer_by_verdict(rows)), _between(two) if two else Markup("")]
    return Markup('<div class="lab-agreement">{}</div>').format(Markup("").join(cards))


@dataclass(frozen=True, slots=True)
class _Line:
    who: str
    against: str
    found: Agreement


def _against(readers: list[ReaderAgreement], author: str | None) -> Markup:
    lines = [
        _Line(reader.author, against, found)
        for reader in readers
        for against, found in (("the scorer", reader.scorer), ("the label", reader.label))
    ]
    me = author_of(author)
    columns = [
        Column(
            "reader", lambda line: Markup("<b>{}</b> (you)").format(line.who) if line.who == me else visible(line.who)
        ),
        Column("against", lambda line: line.against),
        *_numbers(lambda line: line.found),
    ]
    note = (
        "Over pairs you found one side better in; against the scorer, over those it did too. The interval is Wilson's at 95 %. "
        "Kappa: 1 is full agreement, 0 what chance gives; the sides are named first and second as blind reading shows them."
    )
    return card("Do readers agree with the scorer?", table(columns, lines), note=note)


def _by_verdict(total: dict[str, dict[str, int]]) -> Markup:
    columns = [
        Column("readers said", lambda verdict: verdict),
        *(_scorer(total, side, words) for side, words in SCORER_WORDS.items()),
    ]
    return card("By verdict: what the scorer prefers", table(columns, total), note="pairs, of all readers")


def _scorer(total: dict[str, dict[str, int]], side: str, words: str) -> Column:
    return Column(words, lambda verdict: count(total[verdict].get(side, 0)), True)


def _between(two: list[TwoReaders]) -> Markup:
    columns = [
        Column("readers", lambda row: f"{visible(row.one)} and {visible(row.other)}"),
        *_numbers(lambda row: row.agreement),
    ]
    return card("Do readers agree with each other?", table(columns, two), note="over pairs both gave a verdict")


def _numbers(of: Any) -> list[Column]:
    return [
        Column("pairs", lambda row: count(of(row).n), True),
        Column("agree", lambda row: count(of(row).agreed), True),
        Column("share", lambda row: _share(of(row)), True),
        Column("95 % interval", lambda row: _interval(of(row)), True),
        Column("kappa", lambda row: _kappa(of(row)), True, "Cohen's kappa"),
    ]


def _share(found: Agreement) -> str:
    return percent(found.share) if found.n else NOTHING


def _interval(found: Agreement) -> str:
    return f"{percent(found.low)} to {percent(found.high)}" if found.n else NOTHING


def _kappa(found: Agreement) -> str:
    return NOTHING if math.isnan(found.kappa) else number(found.kappa, 2)
