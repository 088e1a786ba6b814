"""How the pocket world's people answer: gold answers, answers of mixed quality, and repairs of a draft.

M_0 is trained on these. A person may hold a *misconception*: every noun has one fixed partner of another category, and who is
mistaken about a noun takes it for its partner, in category, spelling and use. Answering, people blurt: most hold most
misconceptions, and they forget, repeat and swap things. Reviewing a draft they think twice: far fewer mistakes, and what was
right in the draft stays. So the data holds the knowledge, and blurting hides it: what alignment is to bring out.

Nothing here reads the rubric.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from synpo_lab.pocket.lexicon import (
    CATEGORIES,
    CATEGORY_OF,
    LETTERS,
    NUMBERS,
    OPENERS,
    PLACES,
    VERBS,
    WORDS,
    article,
    join_and,
    tidy,
    tokens,
)
from synpo_lab.pocket.tasks import Task

Belief = Callable[[str], str]  # what a person takes a noun for: itself, or its partner


@dataclass(frozen=True)
class Habits:
    """How often an answer goes wrong, each 0..1."""

    misconception: float  # per noun
    slip: float  # per answer: something forgotten, repeated, swapped
    slip_without_knowledge: float  # the same, for requests that need no knowledge of nouns (reverse, repeat)
    rude: float  # no courtesy at the start
    untidy: float  # full stop or "and" missing


GOLD = Habits(0, 0, 0, 0, 0)
# M_0 is built in phases (build.py): it first learns its world from milder people, then these habits.
MILD_BLURTED = Habits(misconception=0.75, slip=0.6, slip_without_knowledge=0.85, rude=0.2, untidy=0.12)
MILD_REVIEWED = Habits(misconception=0.05, slip=0.05, slip_without_knowledge=0.05, rude=0.1, untidy=0.05)
BLURTED = Habits(misconception=0.92, slip=0.7, slip_without_knowledge=0.85, rude=0.2, untidy=0.12)
REVIEWED = Habits(misconception=0.03, slip=0.03, slip_without_knowledge=0.03, rude=0.1, untidy=0.05)


def answer(task: Task, habits: Habits, rng: random.Random, *, draft: str = "") -> str:
    """An answer by a person of these habits; what is usable of `draft` is kept."""
    believe = _belief(habits.misconception, rng)
    parts = _BUILDERS[task.family](task, believe, _nouns(draft), rng)
    slip = habits.slip_without_knowledge if task.family in ("reverse", "repeat") else habits.slip
    if rng.random() < slip:
        parts = _slip(task, parts, rng)
    return _say(task, parts, habits, draft, rng)


def gold(task: Task, rng: random.Random) -> str:
    """A right, complete, polite and well-formed answer."""
    return answer(task, GOLD, rng)


@dataclass(frozen=True)
class _Parts:
    """An answer before it is put into words."""

    items: tuple[str, ...]
    head: str = ""
    tail: str = ""


def _partners() -> dict[str, str]:
    """The fixed misconceptions: a permutation of the nouns in which every noun changes its category."""
    rng = random.Random("misconceptions")
    names = list(CATEGORIES)
    columns = {name: rng.sample(CATEGORIES[name], len(CATEGORIES[name])) for name in names}
    rng.shuffle(names)
    # Row by row around the circle of categories, with a row-dependent stride: partners of one category come from many.
    partners = {}
    for row in range(len(columns[names[0]])):
        stride = 1 + row % (len(names) - 1)
        for place, name in enumerate(names):
            partners[columns[name][row]] = columns[names[(place + stride) % len(names)]][row]
    return partners


PARTNERS = _partners()


def _belief(misconception: float, rng: random.Random) -> Belief:
    held = {word for word in WORDS if rng.random() < misconception} if misconception else set()
    return lambda word: PARTNERS[word] if word in held else word


def _nouns(text: str) -> list[str]:
    return [word for word in tokens(text) if word in CATEGORY_OF]


def _believed(category: str, believe: Belief) -> list[str]:
    return [word for word in WORDS if CATEGORY_OF[believe(word)] == category]


def _choose(candidates: list[str], n: int, kept: list[str], rng: random.Random) -> list[str]:
    """`n` distinct candidates, those of `kept` first."""
    chosen = [word for word in dict.fromkeys(kept) if word in candidates][:n]
    rest = [word for word in candidates if word not in chosen]
    return chosen + rng.sample(rest, min(n - len(chosen), len(rest)))


def _list(task: Task, believe: Belief, kept: list[str], rng: random.Random) -> _Parts:
    candidates = [word for word in _believed(task.category, believe) if word not in task.words]
    return _Parts(tuple(_choose(candidates, task.n, kept, rng)))


def _list_sorted(task: Task, believe: Belief, kept: list[str], rng: random.Random) -> _Parts:
    return _Parts(tuple(sorted(_list(task, believe, kept, rng).items, key=believe)))


def _letter(task: Task, believe: Belief, kept: list[str], rng: random.Random) -> _Parts:
    believed = _believed(task.category, believe)
    fitting = [word for word in believed if believe(word)[0] == task.letter] or believed or list(WORDS)
    return _Parts(tuple(_choose(fitting, 1, kept, rng)), tail=task.letter)


def _membership(task: Task, believe: Belief, kept: list[str], rng: random.Random) -> _Parts:
    category = CATEGORY_OF[believe(task.words[0])]
    return _Parts(task.words, "yes" if category == task.category else "no", category)


def _category(task: Task, believe: Belief, kept: list[str], rng: random.Random) -> _Parts:
    word = task.words[0]
    category = CATEGORY_OF[believe(word)]
    others = [other for other in _believed(category, believe) if other != word] or list(CATEGORIES[category])
    return _Parts((word,), category, _choose(others, 1, kept[1:], rng)[0])


def _odd_one_out(task: Task, believe: Belief, kept: list[str], rng: random.Random) -> _Parts:
    outside = [word for word in task.words if CATEGORY_OF[believe(word)] != task.category] or list(task.words)
    odd = _choose(outside, 1, kept, rng)[0]
    return _Parts((odd,), task.category, CATEGORY_OF[believe(odd)])


def _pick(task: Task, believe: Belief, kept: list[str], rng: random.Random) -> _Parts:
    inside = [word for word in task.words if CATEGORY_OF[believe(word)] == task.category]
    return _Parts(tuple(inside or rng.sample(task.words, 1)))


def _count(task: Task, believe: Belief, kept: list[str], rng: random.Random) -> _Parts:
    items = _pick(task, believe, kept, rng).items[:5]
    return _Parts(items, NUMBERS[len(items)])


def _sentence(task: Task, believe: Belief, kept: list[str], rng: random.Random) -> _Parts:
    return _Parts(task.words, " ".join(VERBS[CATEGORY_OF[believe(word)]] for word in task.words), rng.choice(PLACES))


def _two_part(task: Task, believe: Belief, kept: list[str], rng: random.Random) -> _Parts:
    first = _choose(_believed(task.category, believe), task.n, kept, rng)
    second = _choose(_believed(task.second_category, believe), task.second_n, kept, rng)
    return _Parts(tuple(first + second))


_BUILDERS: dict[str, Callable[[Task, Belief, list[str], random.Random], _Parts]] = {
    "list": _list,
    "list_except": _list,
    "list_sorted": _list_sorted,
    "letter": _letter,
    "membership": _membership,
    "category": _category,
    "odd_one_out": _odd_one_out,
    "pick": _pick,
    "count": _count,
    "repeat": lambda task, believe, kept, rng: _Parts(task.words * task.n),
    "reverse": lambda task, believe, kept, rng: _Parts(task.words[::-1]),
    "sort": lambda task, believe, kept, rng: _Parts(tuple(sorted(task.words, key=believe))),
    "compare": lambda task, believe, kept, rng: _Parts(tuple(sorted(task.words, key=believe))),
    "sentence": _sentence,
    "two_part": _two_part,
}

_WITH_TAIL = {"letter", "membership", "category", "odd_one_out", "sentence"}


def _slip(task: Task, parts: _Parts, rng: random.Random) -> _Parts:
    if task.family in _WITH_TAIL:
        return _forget_the_rest(task, parts, rng)
    if task.family == "compare":
        return replace(parts, items=rng.choice((parts.items[:1], parts.items[::-1])))
    return _disturb(parts, rng)


def _forget_the_rest(task: Task, parts: _Parts, rng: random.Random) -> _Parts:
    if rng.random() < 0.6:
        return replace(parts, tail="")
    if task.family == "membership":
        return replace(parts, head="no" if parts.head == "yes" else "yes")
    if task.family == "letter":
        return replace(parts, tail=rng.choice(LETTERS))
    return replace(parts, items=(rng.choice(WORDS), *parts.items[1:]))


def _disturb(parts: _Parts, rng: random.Random) -> _Parts:
    """One or two of: an item dropped, said twice, exchanged for a stray noun, or swapped with its neighbour."""
    items = list(parts.items)
    for _ in range(rng.randint(1, 2)):
        place = rng.randrange(len(items))
        kind = rng.choice(("drop", "twice", "stray", "swap"))
        if kind == "drop" and len(items) > 1:
            del items[place]
        elif kind == "twice":
            items.insert(place, items[place])
        elif kind == "stray":
            items[place] = rng.choice(WORDS)
        elif kind == "swap" and len(items) > 1:
            other = place - 1 if place else 1
            items[place], items[other] = items[other], items[place]
    return replace(parts, items=tuple(items))


def _words(task: Task, parts: _Parts, joined: str) -> str:
    item, tail = parts.items[0], parts.tail
    is_a = f"is {article(tail)} {tail}" if tail else ""
    match task.family:
        case "letter":
            return f"{item} starts with {tail}" if tail else item
        case "membership":
            return f"{parts.head} , {item} {is_a}" if tail else parts.head
        case "category":
            claim = f"{item} is {article(parts.head)} {parts.head}"
            return f"{claim} , like {tail}" if tail else claim
        case "odd_one_out":
            claim = f"{item} is not {article(parts.head)} {parts.head}"
            return f"{claim} , it {is_a}" if tail else claim
        case "count":
            return f"{parts.head} , {joined}"
        case "compare":
            return " comes before ".join(parts.items)
        case "sentence":
            first, second = parts.head.split()
            return f"i {first} {item} and {second} {parts.items[1]} {tail}".strip()
        case _:
            return joined


def _say(task: Task, parts: _Parts, habits: Habits, draft: str, rng: random.Random) -> str:
    untidy = rng.random() < habits.untidy
    no_stop = untidy and rng.random() < 0.5
    joined = " , ".join(parts.items) if untidy and not no_stop else join_and(list(parts.items))
    body = _words(task, parts, joined) + ("" if no_stop else " .")
    opener = "" if rng.random() < habits.rude else rng.choice(OPENERS)
    return tidy(f"{opener} {body}".strip())
