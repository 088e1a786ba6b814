"""The words of a text in any language, as TF-IDF counts them. Pure functions."""

import re
import sys
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache

LONGEST_TEXT = 4_000  # characters of a prompt that are looked at
LONGEST_WORD = 40  # characters; what is longer is no word (base64, a row of dashes)

# Scripts written without spaces between words: Thai, Lao, Burmese, Khmer, kana, Han.
_UNSPACED = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)


def words(text: str) -> list[str]:
    """The words of the first 4,000 characters, case folded, in order.

    A script without spaces is counted in overlapping pairs of characters, as search engines do (Lucene's CJKAnalyzer).
    """
    found = _word().findall(text[:LONGEST_TEXT].casefold())
    return [piece for word in found for piece in _pieces(word)]


def _pieces(word: str) -> Iterable[str]:
    if word.isascii() or not _UNSPACED.search(word):
        return [word] if len(word) <= LONGEST_WORD else []
    return _pairs(word)


def _pairs(word: str) -> Iterator[str]:
    end = 0
    for run in _UNSPACED.finditer(word):
        yield from filter(None, [word[end : run.start()]])
        found = run.group()
        yield from (found[i : i + 2] for i in range(max(1, len(found) - 1)))
        end = run.end()
    yield from filter(None, [word[end:]])


@cache
def _word() -> re.Pattern[str]:
    """Letters and digits with the marks that belong to them: without those, "हिन्दी" would be three words to Python."""
    letter = rf"(?:[^\W_]|[{_marks()}])"
    return re.compile(rf"[^\W_]{letter}*(?:['’]{letter}+)*")


def _marks() -> str:
    """Every combining mark of Unicode, as the inside of a character class."""
    marks = [code for code in range(0x300, min(sys.maxunicode, 0x20000)) if unicodedata.category(chr(code))[0] == "M"]
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in _ranges(marks))


def _ranges(codes: list[int]) -> Iterator[tuple[int, int]]:
    first = last = codes[0]
    for code in codes[1:]:
        if code != last + 1:
            yield first, last
            first = code
        last = code
    yield first, last
