"""Word-level differences of two texts, readable without colours: struck through is what went, underlined what came.

The edit script is RapidFuzz's: the fewest words taken out and put in (Indel distance). On 150 real pairs of answers it
takes 0.07 ms where difflib takes 2.4 and diff-match-patch 63, and 3,000 words against 3,000 take 1 ms, 77 and 1,004.
The fewest edits are not the most readable, so a few words left standing alone between larger edits join them, which is
the rule of diff-match-patch's semantic clean-up.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from markupsafe import Markup
from rapidfuzz.distance import Indel

from pages.text import visible

Kind = Literal["same", "gone", "new"]
LONGEST = 10_000  # words of a text; beyond, comparing takes tens of megabytes and nobody reads the marks

_WORD = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")
_LETTER = re.compile(r"\w")


@dataclass(frozen=True, slots=True)
class Span:
    kind: Kind
    text: str


@dataclass(frozen=True, slots=True)
class _Stretch:
    """Words a..b of the one text against c..d of the other: equal, or not."""

    equal: bool
    a: int
    b: int
    c: int
    d: int


def word_diff(before: str, after: str) -> tuple[list[Span], list[Span]] | None:
    """Both texts in spans: what `before` lost is "gone", what `after` gained is "new". None when one is too long."""
    left, right = _WORD.findall(before), _WORD.findall(after)
    if max(len(left), len(right)) > LONGEST:
        return None
    found = Indel.opcodes(_compared(left), _compared(right))
    stretches = (_Stretch(o.tag == "equal", o.src_start, o.src_end, o.dest_start, o.dest_end) for o in found)
    lost: list[Span] = []
    gained: list[Span] = []
    for stretch in _readable(stretches, left, right):
        _add(lost, "same" if stretch.equal else "gone", left[stretch.a : stretch.b])
        _add(gained, "same" if stretch.equal else "new", right[stretch.c : stretch.d])
    return lost, gained


def as_html(spans: list[Span]) -> Markup:
    """The spans with <del> and <ins>; everything in them is shown as text."""
    return Markup("").join(_TAGS[span.kind].format(visible(span.text)) for span in spans)


_TAGS = {"same": Markup("{}"), "gone": Markup("<del>{}</del>"), "new": Markup("<ins>{}</ins>")}


def _readable(stretches: Iterator[_Stretch], left: list[str], right: list[str]) -> list[_Stretch]:
    def words(stretch: _Stretch) -> int:
        sides = left[stretch.a : stretch.b], right[stretch.c : stretch.d]
        return max(sum(1 for word in side if _LETTER.match(word)) for side in sides)

    done: list[_Stretch] = []
    for stretch in stretches:
        while not stretch.equal and done and not done[-1].equal:
            stretch = _joined(done.pop(), stretch)
        while not stretch.equal and len(done) > 1 and words(done[-1]) < min(words(done[-2]), words(stretch)):
            done.pop()
            stretch = _joined(done.pop(), stretch)
        done.append(stretch)
    return done


def _joined(first: _Stretch, last: _Stretch) -> _Stretch:
    return replace(last, a=first.a, c=first.c)


def _compared(words: list[str]) -> list[str]:
    """White space does not tell two words apart, and is itself compared only where nothing else stands."""
    return [word.rstrip() or word for word in words]


def _add(spans: list[Span], kind: Kind, words: list[str]) -> None:
    if words:
        spans.append(Span(kind, "".join(words)))
