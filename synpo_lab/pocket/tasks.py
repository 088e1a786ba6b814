"""The pocket world's requests: fifteen families, each with several wordings, sampled, written and parsed.

A wording is a template; `{n}` is a number word, `{cat}` a category, `{cats}` its plural, `{w}` a noun, `{list}` a comma list.
The same template writes a prompt and, turned into a regular expression, parses it back.
"""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from synpo_lab.pocket.lexicon import (
    CATEGORIES,
    CATEGORY_OF,
    NUMBER_VALUES,
    NUMBERS,
    PLURALS,
    SINGULARS,
    WORDS,
    article,
    join_and,
    spaced,
    tidy,
)


@dataclass(frozen=True)
class Task:
    """What a prompt asks. Fields a family does not use stay empty."""

    family: str
    category: str = ""
    second_category: str = ""
    words: tuple[str, ...] = ()
    n: int = 0
    second_n: int = 0
    letter: str = ""


WORDINGS: dict[str, tuple[str, ...]] = {
    "list": ("name {n} {cats} .", "list {n} {cats} please .", "can you give me {n} {cats} ?"),
    "list_except": ("name {n} {cats} but not {w} .", "list {n} {cats} other than {w} .", "without {w} , give me {n} {cats} ."),
    "list_sorted": ("name {n} {cats} in alphabetical order .", "give me {n} {cats} sorted by the alphabet ."),
    "letter": ("name {a} {cat} that starts with {letter} .", "which {cat} begins with the letter {letter} ?"),
    "membership": ("is {w} {a} {cat} ?", "tell me if {w} is {a} {cat} .", "would you call {w} {a} {cat} ?"),
    "category": ("what kind of thing is {w} ?", "what is {w} ?", "explain what {w} is ."),
    "odd_one_out": ("which is not {a} {cat} : {list_or} ?", "find the one that is not {a} {cat} : {list} ."),
    "pick": ("which of these are {cats} : {list} ?", "pick the {cats} from this list : {list} ."),
    "count": ("how many {cats} are in this list : {list} ?", "count the {cats} here : {list} ."),
    "repeat": ("say {w} {n} times .", "repeat the word {w} {n} times please ."),
    "reverse": ("reverse this list : {list} .", "write these words backwards : {list} .", "turn this list around : {list} ."),
    "sort": (
        "sort this list : {list} .",
        "put these words in alphabetical order : {list} .",
        "order these by the alphabet : {list} .",
    ),
    "compare": ("which comes first in the alphabet : {w} or {w2} ?", "in a dictionary , is {w} or {w2} first ?"),
    "sentence": (
        "use {w} and {w2} in a sentence .",
        "write a sentence with {w} and {w2} .",
        "make a sentence about {w} and {w2} .",
    ),
    "two_part": ("name {n} {cats} and {n2} {cats2} .", "give me {n} {cats} and also {n2} {cats2} ."),
}  # fmt: skip
FAMILIES = tuple(WORDINGS)


def sample(rng: random.Random, family: str) -> Task:
    """A random answerable task of `family`."""
    return _SAMPLERS[family](rng)


def write(task: Task, rng: random.Random) -> str:
    """The task in one of its wordings, as people write it."""
    return phrase(task, rng.randrange(len(WORDINGS[task.family])))


def phrase(task: Task, wording: int) -> str:
    """The task in the given wording."""
    words = list(task.words)
    slots = {
        "n": NUMBERS.get(task.n, ""),
        "n2": NUMBERS.get(task.second_n, ""),
        "cat": task.category,
        "cats": PLURALS.get(task.category, ""),
        "cats2": PLURALS.get(task.second_category, ""),
        "a": article(task.category) if task.category else "",
        "letter": task.letter,
        "w": words[0] if words else "",
        "w2": words[1] if len(words) > 1 else "",
        "list": join_and(words).replace(" and ", " , "),
        "list_or": join_and(words).replace(" and ", " or "),
    }
    return tidy(WORDINGS[task.family][wording].format_map(slots))


@lru_cache(maxsize=65536)
def parse(prompt: str) -> Task | None:
    """The task a prompt asks, or None when it is no request of this world or cannot be answered."""
    text = spaced(prompt)
    for family, pattern in _PATTERNS:
        if match := pattern.fullmatch(text):
            task = _read(family, match.groupdict())
            return task if task is not None and answerable(task) else None
    return None


def answerable(task: Task) -> bool:
    """True when the request has a right answer: distinct words, exactly one odd one out, a noun with that letter, ..."""
    if len(set(task.words)) != len(task.words):
        return False
    has_answer = _ANSWERABLE.get(task.family)
    return has_answer is None or has_answer(task)


def members(task: Task) -> list[str]:
    """The task's words that belong to its category."""
    return [word for word in task.words if CATEGORY_OF[word] == task.category]


def starting_with(category: str, letter: str) -> list[str]:
    return [word for word in CATEGORIES[category] if word[0] == letter]


def _read(family: str, groups: dict[str, str | None]) -> Task | None:
    found = {name: value for name, value in groups.items() if value is not None}
    words = [found[name] for name in ("w", "w2") if name in found]
    for name in ("list", "list_or"):
        words += [word for word in re.split(r" , | or ", found.get(name, "")) if word]
    if any(word not in CATEGORY_OF for word in words):
        return None
    category = found.get("cat", "") or SINGULARS.get(found.get("cats", ""), "")
    if "a" in found and found["a"] != article(category):
        return None
    return Task(
        family=family,
        category=category,
        second_category=SINGULARS.get(found.get("cats2", ""), ""),
        words=tuple(words),
        n=NUMBER_VALUES.get(found.get("n", ""), 0),
        second_n=NUMBER_VALUES.get(found.get("n2", ""), 0),
        letter=found.get("letter", ""),
    )


def _pattern(wording: str) -> re.Pattern[str]:
    slots = {
        "n": "|".join(NUMBERS.values()),
        "n2": "|".join(NUMBERS.values()),
        "cat": "|".join(CATEGORIES),
        "cats": "|".join(SINGULARS),
        "cats2": "|".join(SINGULARS),
        "a": "an?",
        "letter": "[a-z]",
        "w": r"\w+",
        "w2": r"\w+",
        "list": r"\w+(?: , \w+)+",
        "list_or": r"\w+(?: , \w+)* or \w+",
    }
    parts = re.split(r"\{(\w+)\}", wording)
    pieces = [f"(?P<{part}>{slots[part]})" if i % 2 else re.escape(part) for i, part in enumerate(parts)]
    return re.compile("".join(pieces))


# Longer wordings first: "name three fruits but not fig ." must not be read by a shorter template.
_PATTERNS = sorted(
    ((family, _pattern(wording)) for family, wordings in WORDINGS.items() for wording in wordings),
    key=lambda row: -len(row[1].pattern),
)

_ANSWERABLE: dict[str, Callable[[Task], bool]] = {
    "list": lambda t: t.n >= 2,
    "list_except": lambda t: t.n >= 2 and CATEGORY_OF[t.words[0]] == t.category,
    "list_sorted": lambda t: t.n >= 2,
    "letter": lambda t: bool(starting_with(t.category, t.letter)),
    "odd_one_out": lambda t: len(t.words) >= 3 and len(members(t)) == len(t.words) - 1,
    "pick": lambda t: 3 <= len(t.words) <= 6 and bool(members(t)),
    "count": lambda t: 3 <= len(t.words) <= 6 and 1 <= len(members(t)) <= 5,
    "repeat": lambda t: t.n >= 2,
    "reverse": lambda t: 3 <= len(t.words) <= 6,
    "sort": lambda t: 3 <= len(t.words) <= 6,
    "two_part": lambda t: t.category != t.second_category and t.n >= 2 and t.second_n >= 2,
}


def _category(rng: random.Random) -> str:
    return rng.choice(list(CATEGORIES))


def _mixed(rng: random.Random, category: str, inside: int, outside: int) -> tuple[str, ...]:
    others = [word for word in WORDS if CATEGORY_OF[word] != category]
    words = rng.sample(CATEGORIES[category], inside) + rng.sample(others, outside)
    rng.shuffle(words)
    return tuple(words)


def _sample_except(rng: random.Random) -> Task:
    category = _category(rng)
    return Task("list_except", category, words=(rng.choice(CATEGORIES[category]),), n=rng.randint(2, 4))


def _sample_letter(rng: random.Random) -> Task:
    word = rng.choice(WORDS)
    return Task("letter", CATEGORY_OF[word], letter=word[0])


def _sample_membership(rng: random.Random) -> Task:
    word = rng.choice(WORDS)
    return Task("membership", CATEGORY_OF[word] if rng.random() < 0.4 else _category(rng), words=(word,))


def _sample_odd(rng: random.Random) -> Task:
    category = _category(rng)
    return Task("odd_one_out", category, words=_mixed(rng, category, rng.randint(2, 4), 1))


def _sample_mixed(rng: random.Random, family: str) -> Task:
    category, inside = _category(rng), rng.randint(1, 3)
    return Task(family, category, words=_mixed(rng, category, inside, rng.randint(max(1, 3 - inside), 2)))


def _sample_two(rng: random.Random) -> Task:
    first, second = rng.sample(list(CATEGORIES), 2)
    return Task("two_part", first, second, n=rng.randint(2, 3), second_n=rng.randint(2, 3))


def _sample_words(rng: random.Random, family: str, low: int, high: int) -> Task:
    return Task(family, words=tuple(rng.sample(WORDS, rng.randint(low, high))))


_SAMPLERS: dict[str, Callable[[random.Random], Task]] = {
    "list": lambda rng: Task("list", _category(rng), n=rng.randint(2, 5)),
    "list_except": _sample_except,
    "list_sorted": lambda rng: Task("list_sorted", _category(rng), n=rng.randint(2, 5)),
    "letter": _sample_letter,
    "membership": _sample_membership,
    "category": lambda rng: Task("category", words=(rng.choice(WORDS),)),
    "odd_one_out": _sample_odd,
    "pick": lambda rng: _sample_mixed(rng, "pick"),
    "count": lambda rng: _sample_mixed(rng, "count"),
    "repeat": lambda rng: Task("repeat", words=(rng.choice(WORDS),), n=rng.randint(2, 5)),
    "reverse": lambda rng: _sample_words(rng, "reverse", 3, 4),
    "sort": lambda rng: _sample_words(rng, "sort", 3, 4),
    "compare": lambda rng: _sample_words(rng, "compare", 2, 2),
    "sentence": lambda rng: _sample_words(rng, "sentence", 2, 2),
    "two_part": _sample_two,
}
