"""Keyword lists: what the prompt generator writes prompts from. Pure functions.

SynPO (arXiv 2410.06961) section 2.1: to train G, two random keywords of a seed prompt and one noise keyword of another; to
generate, keywords of one text. Lists with stop words or personal names are dropped (appendix C).
"""

import random
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

_STOPWORDS = frozenset(
    """a about above after again all also am an and any are as at be because been before being below between both but by
    can could did do does doing down during each else ever every few for from further get give had has have having he her
    here hers him his how i if in into is it its itself just let like many may me might more most much must my no nor not
    now of off on once one only or other our out over own per please same shall she should so some such than that the
    their them then there these they this those through to too under until up us very was we were what when where which
    while who whom why will with within without would yes yet you your""".split()
)


@dataclass(frozen=True, slots=True)
class KeywordList:
    """Words in the order the generator sees them; `noise` are the members from other texts."""

    words: tuple[str, ...]
    noise: tuple[str, ...] = ()


def is_stopword(word: str) -> bool:
    """Whether an English word, in lower case, is one of those that can be no keyword."""
    return word in _STOPWORDS


def content_words(text: str) -> list[str]:
    """Distinct words of `text` that can be keywords, in order, lower-cased: no stop words, numbers or personal names."""
    found: dict[str, None] = {}
    for sentence in re.split(r"[.!?:]\s+|\n", text):
        for place, word in enumerate(re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", sentence)):
            name = (
                word[0].isupper() and place > 0 and not word.isupper()
            )  # capitalised inside a sentence: a proper name
            if not name and len(word) > 1 and word.lower() not in _STOPWORDS:
                found[sys.intern(word.lower())] = None  # a million texts have few words between them
    return list(found)


def keyword_list(
    own: Sequence[str], noise: Sequence[str], *, per_prompt: int, rng: random.Random
) -> KeywordList | None:
    """`per_prompt` keywords in random order: the noise words and enough of a text's own.

    None if the text has too few, or a noise word is one of its own.
    """
    n_own = per_prompt - len(noise)
    if len(own) < n_own or n_own < 1 or any(word in own for word in noise):
        return None
    words = [*rng.sample(list(own), n_own), *noise]
    rng.shuffle(words)
    return KeywordList(tuple(words), tuple(noise))


def sample(texts: Iterable[str], most: int, rng: random.Random) -> list[str]:
    """All texts in their order, or `most` of them, each with the same chance (Vitter 1985, algorithm R). Reads a stream."""
    kept: list[str] = []
    for number, text in enumerate(texts):
        if number < most:
            kept.append(text)
        elif (place := rng.randrange(number + 1)) < most:
            kept[place] = text
    return kept


def keyword_lists(
    texts: Iterable[Sequence[str]], *, per_prompt: int, noise: int, rng: random.Random
) -> Iterator[KeywordList]:
    """Endless distinct lists out of the content words of each text: of one random text, `noise` of them from another.

    Ends when a thousand draws in a row bring nothing new.
    """
    words = [found for found in texts if len(found) >= max(1, per_prompt - noise)]
    if not words:
        return
    seen: set[frozenset[str]] = set()
    misses = 0
    while misses < 1000:
        strange = [rng.choice(rng.choice(words)) for _ in range(noise)]
        made = keyword_list(rng.choice(words), strange, per_prompt=per_prompt, rng=rng)
        if made is None or len(set(made.words)) < per_prompt or frozenset(made.words) in seen:
            misses += 1
            continue
        misses = 0
        seen.add(frozenset(made.words))
        yield made
