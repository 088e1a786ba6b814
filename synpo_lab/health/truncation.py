"""Answers that stop before their end, by heuristics where the generator did not say so.

They miss an answer cut after a full stop.
"""

import re

TAIL = 400  # characters from the end that are read
FEWEST_WORDS = 8  # of the last line, for it to be a sentence

_FENCES = (re.compile("`{3,}"), re.compile(r"^\s{0,3}~{3,}", re.MULTILINE))
_SENTENCE = re.compile(r"[.!?。！？]['\"”’)\]]*\s")
_NO_PROSE = re.compile(r"^\s*(?:[-*+•|#>]|\d+[.)]|https?://)|https?://\S+$|[{};=<>|]|#\w|^\s{4}")


def truncation(text: str) -> str | None:
    """How one can tell that the text was cut; None where nothing shows."""
    if any(len(fence.findall(text)) % 2 for fence in _FENCES):
        return "a code fence is not closed"
    return "ends in the middle of a sentence" if _ends_amid_sentence(text[-TAIL:].rstrip()) else None


def _ends_amid_sentence(tail: str) -> bool:
    """A last line of prose, after earlier whole sentences, that ends in a word, a comma or an opening bracket."""
    if not tail or not (tail[-1].isalnum() or tail[-1] in ",([-–"):
        return False
    line = tail.rsplit("\n", 1)[-1]
    return len(line.split()) >= FEWEST_WORDS and bool(_SENTENCE.search(tail)) and not _NO_PROSE.search(line)
