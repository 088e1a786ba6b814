"""Words of a text for comparing prompts, whatever their case and punctuation."""

import re

# Scripts that write no spaces: each character is a word.
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def shingles(text: str, n: int) -> set[str]:
    """The n-grams of words; of a shorter text, the whole of it. Empty where there are no words."""
    found = words(text)
    if not found:
        return set()
    return {" ".join(found[i : i + n]) for i in range(max(1, len(found) - n + 1))}
