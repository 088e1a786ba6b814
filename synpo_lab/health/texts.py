"""Every check that reads answers, each pair's texts read once, and what later checks need of them."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from synpo_lab.health.check import Check, Rows, bars
from synpo_lab.health.edits import DRAFT_EDIT, EDIT, edit
from synpo_lab.health.encoding import encoding_trouble
from synpo_lab.health.facts import Facts, Flags, Floats
from synpo_lab.health.language import language_mismatch
from synpo_lab.health.refusals import refusal
from synpo_lab.health.report import CheckResult
from synpo_lab.health.truncation import truncation
from synpo_lab.metrics import similarity

COUNTED = 200_000  # different replaced phrases that are counted; then the rare ones are let go
SHOWN = 12  # of them in the report
CUT = "cut at the token limit"

TRUNCATED = Check(
    "truncated answer", "answers",
    "An answer stops before its end: cut at the token limit, in the middle of a sentence, or inside a code block. A policy "
    "learns where to stop from the chosen side.",
    "Raise max_new_tokens, or drop those whose chosen side is cut.", 0.02, 0.10,
)  # fmt: skip
EMPTY = Check(
    "empty answer", "answers",
    "One side has nothing but white space.",
    "Drop them: an empty chosen side teaches silence, an empty rejected side teaches nothing.", 0.0, 0.01,
)  # fmt: skip
REFUSED = Check(
    "refusal", "answers",
    "An answer begins by declining. On the chosen side it teaches to refuse, on the rejected side to comply.",
    "Read where the two sides differ in it; refusals found by English phrases at the beginning.", 0.02, 0.10,
)  # fmt: skip
ENCODING = Check(
    "encoding trouble", "answers",
    "A prompt or an answer holds characters that come of wrong decoding, NUL or other controls.",
    "Decode the source again (as UTF-8), or drop them.", 0.0, 0.01,
)  # fmt: skip
LANGUAGE = Check(
    "language mismatch", "answers",
    "Prompt and answer are written in different scripts, and the prompt does not speak of languages. By script alone: it "
    "cannot tell English from Spanish.",
    "Drop those whose chosen side answers in another language than it was asked in.", 0.0, 0.02,
)  # fmt: skip
TEXT_CHECKS = (TRUNCATED, EMPTY, REFUSED, ENCODING, LANGUAGE)
Look = Callable[[Mapping[str, Any], str], str | None]
LOOKS: dict[str, Look] = {
    TRUNCATED.name: lambda row, side: truncation(row[side]),
    REFUSED.name: lambda row, side: refusal(row[side]),
    ENCODING.name: lambda row, side: encoding_trouble(row[side]),
    LANGUAGE.name: lambda row, side: language_mismatch(row["prompt"], row[side]),
}


@dataclass(slots=True)
class TextsRead:
    """What was found so far. Rows are those of the facts."""

    read: Flags  # [N] whose texts were read
    similarity: Floats  # [N] as stored, or counted here; NaN: neither
    coverage: Floats  # [N] share of the prompt's words in the chosen answer minus the same of the rejected
    sides: dict[str, dict[int, str]] = field(default_factory=lambda: {check.name: {} for check in TEXT_CHECKS})
    rows: dict[str, dict[int, tuple[float | None, str]]] = field(default_factory=dict)  # by kind of finding
    replaced: Counter[tuple[str, str]] = field(default_factory=Counter)


def nothing_read(facts: Facts) -> TextsRead:
    """What is known before any text is read: empty answers, and those cut at the token limit."""
    found = TextsRead(np.zeros(len(facts), bool), facts.similarity.copy(), np.full(len(facts), np.nan))
    found.rows = {check.name: {} for check in TEXT_CHECKS}
    cut, empty = (facts.cut_chosen, facts.cut_rejected), (facts.empty_chosen, facts.empty_rejected)
    for check, (chosen, rejected), said in ((TRUNCATED, cut, CUT), (EMPTY, empty, "nothing but white space")):
        for row in np.flatnonzero(chosen | rejected):
            has = (("chosen", chosen[row]), ("rejected", rejected[row]))
            _note(found, check.name, int(row), {side: said for side, it_has in has if it_has})
    return found


def read(row: Mapping[str, Any], place: int, found: TextsRead) -> None:
    """Read one pair's texts. `place`: its row of the facts."""
    found.read[place] = True
    _look(row, place, found)
    _measure(row, place, found)
    _compare(row, place, found)


def text_results(facts: Facts, found: TextsRead) -> Iterator[tuple[CheckResult, Rows]]:
    """The answers of the checks of texts."""
    everywhere = np.ones(len(facts), bool)
    for check in TEXT_CHECKS:
        rows, sides = found.rows[check.name], Counter(found.sides[check.name].values())
        told = {
            name: float(sides[name])
            for name in ("prompt", "chosen", "both", "rejected")
            if sides[name] or name != "prompt"
        }
        plot = bars(f"Side with: {check.name}", "side", "pairs", told)
        yield check.result(facts, rows, among=everywhere if check is EMPTY else found.read, plot=plot), rows


def commonest_replaced(found: TextsRead) -> list[tuple[str, str, int]]:
    """The small phrases most often exchanged: (before, after, times). Once is not often."""
    return [(old, new, times) for (old, new), times in found.replaced.most_common(SHOWN) if times > 1]


def _look(row: Mapping[str, Any], place: int, found: TextsRead) -> None:
    for name, look in LOOKS.items():
        said = {side: what for side in ("chosen", "rejected") if (what := look(row, side)) is not None}
        if name == ENCODING.name and (what := encoding_trouble(row["prompt"])) is not None:
            said = {"prompt": what} | said
        if said and place not in found.rows[name]:
            _note(found, name, place, said)


def _note(found: TextsRead, name: str, place: int, said: Mapping[str, str]) -> None:
    found.rows[name][place] = (None, "; ".join(f"{side}: {what}" for side, what in said.items()))
    sides = [side for side in said if side != "prompt"]
    found.sides[name][place] = "both" if len(sides) == 2 else sides[0] if sides else "prompt"


def _measure(row: Mapping[str, Any], place: int, found: TextsRead) -> None:
    if np.isnan(found.similarity[place]):
        found.similarity[place] = similarity(row["chosen"], row["rejected"])
    asked = set(row["prompt"].lower().split())
    if asked:
        chosen, rejected = (len(asked & set(row[side].lower().split())) for side in ("chosen", "rejected"))
        found.coverage[place] = (chosen - rejected) / len(asked)
    else:
        found.coverage[place] = 0.0


def _compare(row: Mapping[str, Any], place: int, found: TextsRead) -> None:
    pairs = [(EDIT, row["rejected"])]
    if row["draft"] is not None:
        pairs.append((DRAFT_EDIT, row["draft"]))
    for prefix, before in pairs:
        made = edit(before, row["chosen"])
        found.rows.setdefault(prefix + made.kind, {})[place] = (made.same, "of words in common")
        if prefix == pairs[-1][0]:  # the improver's own change where there is a draft
            found.replaced.update(made.replaced)
    if len(found.replaced) > COUNTED:
        found.replaced = Counter(dict(found.replaced.most_common(COUNTED // 2)))
