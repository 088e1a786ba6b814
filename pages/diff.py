"""Word-level differences of two texts, readable without colours: struck through is what went, underlined what came."""

import difflib
import re
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from pages.text import visible

Kind = Literal["same", "gone", "new"]
LONGEST = 3000  # words of a text; beyond, comparing can take seconds

_WORD = re.compile(r"\w+\s*|[^\w\s]\s*|\s+")


@dataclass(frozen=True, slots=True)
class Span:
    kind: Kind
    text: str


def word_diff(before: str, after: str) -> tuple[list[Span], list[Span]] | None:
    """Both texts in spans: what `before` lost is "gone", what `after` gained is "new". None when one is too long."""
    left, right = _WORD.findall(before), _WORD.findall(after)
    if max(len(left), len(right)) > LONGEST:
        return None
    matcher = difflib.SequenceMatcher(None, _compared(left), _compared(right), autojunk=False)
    lost: list[Span] = []
    gained: list[Span] = []
    for kind, a, b, c, d in matcher.get_opcodes():
        _add(lost, "same" if kind == "equal" else "gone", left[a:b])
        _add(gained, "same" if kind == "equal" else "new", right[c:d])
    return lost, gained


def as_html(spans: list[Span]) -> Markup:
    """The spans with <del> and <ins>; everything in them is shown as text."""
    return Markup("").join(_TAGS[span.kind].format(visible(span.text)) for span in spans)


_TAGS = {"same": Markup("{}"), "gone": Markup("<del>{}</del>"), "new": Markup("<ins>{}</ins>")}


def _compared(words: list[str]) -> list[str]:
    """White space does not tell two words apart, and is itself compared only where nothing else stands."""
    return [word.rstrip() or word for word in words]


def _add(spans: list[Span], kind: Kind, words: list[str]) -> None:
    if words:
        spans.append(Span(kind, "".join(words)))
