"""The script a text is written in, from its letters.

A heuristic without a model: it tells English from Chinese, Russian or Arabic, and cannot tell languages of one script
(English, Spanish, Vietnamese) apart.
"""

import re
from functools import cache

READ = 2_000  # characters
FEWEST = 12  # letters

_SCRIPTS = {
    "Latin": "A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ",
    "Greek": "Ͱ-Ͽἀ-῿",
    "Cyrillic": "Ѐ-ԯ",
    "Armenian": "԰-֏",
    "Hebrew": "֐-׿",
    "Arabic": "؀-ۿݐ-ݿࢠ-ࣿ",
    "Devanagari": "ऀ-ॿ",
    "Bengali": "ঀ-৿",
    "Tamil": "஀-௿",
    "Telugu": "ఀ-౿",
    "Thai": "฀-๿",
    "Georgian": "Ⴀ-ჿ",
    "Ethiopic": "ሀ-፿",
    "Korean": "가-힯ᄀ-ᇿ",
    "Japanese": "぀-ヿ",
    "Chinese": "一-鿿㐀-䶿",
}
# A prompt that names a language or script may well want an answer in it.
_ASKS_FOR_ANOTHER = re.compile(
    r"translat|transliterat|\b(?:chinese|mandarin|cantonese|japanese|korean|russian|ukrainian|bulgarian|serbian|greek|arabic|"
    r"persian|farsi|urdu|hebrew|hindi|bengali|tamil|telugu|thai|georgian|armenian|amharic|language|english|kanji|emoji|"
    r"cyrillic|script)\b",
    re.IGNORECASE,
)


def script(text: str) -> str | None:
    """The script most letters of the text's beginning belong to; None below FEWEST letters.

    Chinese characters among kana are Japanese.
    """
    head = text[:READ]
    if head.isascii():
        return "Latin" if sum(map(str.isalpha, head)) >= FEWEST else None
    counts = {name: len(pattern.findall(head)) for name, pattern in _patterns().items()}
    if counts["Japanese"] * 10 > counts["Chinese"]:
        counts["Japanese"] += counts.pop("Chinese")
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] >= FEWEST else None


def language_mismatch(prompt: str, answer: str) -> str | None:
    """Both scripts when they differ and the prompt does not speak of languages; None otherwise."""
    asked, answered = script(prompt), script(answer)
    if asked is None or answered is None or asked == answered or _ASKS_FOR_ANOTHER.search(prompt):
        return None
    return f"{asked} prompt, {answered} answer"


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    return {name: re.compile(f"[{letters}]") for name, letters in _SCRIPTS.items()}
