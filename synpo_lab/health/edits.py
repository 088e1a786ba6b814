"""What changed from one answer to another: one kind of edit per pair, told by words.

The kinds, tried in this order:

    filled, emptied           one of the two has nothing but white space
    refusal removed, added    one of the two refuses (refusals.py)
    copied                    the same text, white space aside
    reformatted               the same words in the same order: Markdown, punctuation or case changed
    extended                  at least 80 % of the words before are still there, in order, and it is over 1.25 times as long
    shortened                 at least 80 % of the words after were there, in order, and it is under 0.8 times as long
    corrected                 at least 70 % of both are the same words in order, at about the same length
    rewritten                 anything else: longer, shorter, or at the same length
"""

import difflib
import re
from collections import Counter
from dataclasses import dataclass

from synpo_lab.health.refusals import refusal

KINDS = (
    "copied", "reformatted", "corrected", "extended", "shortened", "rewritten", "rewritten longer", "rewritten shorter",
    "refusal removed", "refusal added", "filled", "emptied",
)  # fmt: skip
EDIT, DRAFT_EDIT = "edit: ", "draft edit: "  # what the kinds of findings begin with
SURVIVES = 0.8
LOCAL = 0.7
LONGER, SHORTER = 1.25, 0.8
MOST_WORDS = 1_500  # of a text that is compared in order
PHRASE = 4  # words of a replaced phrase that is worth counting

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class Edit:
    kind: str  # one of KINDS
    same: float  # 0 to 1: share of words the two have in common; in order, unless rewritten
    replaced: tuple[tuple[str, str], ...] = ()  # small phrases exchanged, for corrected and reformatted


def edit(before: str, after: str) -> Edit:
    """How `after` came of `before`."""
    old, new = _words(before), _words(after)
    if not old or not new:
        return Edit("copied" if not old and not new else "filled" if not old else "emptied", 0.0)
    refused, refuses = refusal(before), refusal(after)
    if (refused is None) != (refuses is None):
        return Edit("refusal removed" if refused else "refusal added", _in_common(old, new))
    if old == new:
        return Edit("copied" if before.split() == after.split() else "reformatted", 1.0)
    return _by_words(old, new)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower()) or text.split()


def _by_words(old: list[str], new: list[str]) -> Edit:
    common, ratio = _in_common(old, new), len(new) / len(old)
    needed = _needed(old, new, ratio)
    # There are no more words in common in order than there are at all: what fails here need not be compared in order.
    if common * (len(old) + len(new)) / 2 < needed or max(len(old), len(new)) > MOST_WORDS:
        return _rewritten(common, ratio)
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    kept = sum(block.size for block in matcher.get_matching_blocks())
    if kept < needed:
        return _rewritten(common, ratio)
    if ratio > LONGER:
        return Edit("extended", kept / len(old))
    if ratio < SHORTER:
        return Edit("shortened", kept / len(new))
    return Edit("corrected", 2 * kept / (len(old) + len(new)), _replaced(matcher, old, new))


def _needed(old: list[str], new: list[str], ratio: float) -> float:
    """How many words must stay, in order, for this to be more of an edit than of a rewrite."""
    if ratio > LONGER:
        return SURVIVES * len(old)
    return SURVIVES * len(new) if ratio < SHORTER else LOCAL * max(len(old), len(new))


def _rewritten(common: float, ratio: float) -> Edit:
    return Edit(
        "rewritten longer" if ratio > LONGER else "rewritten shorter" if ratio < SHORTER else "rewritten", common
    )


def _in_common(old: list[str], new: list[str]) -> float:
    """Share of words in common, 0 to 1, whatever their order (Dice)."""
    return 2 * (Counter(old) & Counter(new)).total() / (len(old) + len(new))


def _replaced(matcher: "difflib.SequenceMatcher[str]", old: list[str], new: list[str]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (" ".join(old[a:b]), " ".join(new[c:d]))
        for kind, a, b, c, d in matcher.get_opcodes()
        if kind != "equal" and b - a <= PHRASE and d - c <= PHRASE
    )
