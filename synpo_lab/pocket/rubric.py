"""The pocket world's rubric: reads a prompt and an answer, nothing else, and gives four aspects in 0..1 and their total.

  correct      what is said is true and is what was asked
  complete     everything asked for is there, and nothing more
  polite       it begins with a courtesy
  well_formed  one sentence with its punctuation, closed by a full stop

It is the scorer of pocket runs and the judge of pocket evaluations. No training code imports it (tests/test_layers.py).
"""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from synpo_lab.pocket.lexicon import (
    CATEGORY_OF,
    NUMBER_VALUES,
    OPENERS,
    PLACES,
    VERBS,
    article,
    join_and,
    spaced,
)
from synpo_lab.pocket.tasks import Task, members, parse

WEIGHTS = {"correct": 0.55, "complete": 0.25, "polite": 0.1, "well_formed": 0.1}

Marks = tuple[float, float, bool]  # correct, complete, the body has the form its family asks for


class RubricScorer:
    """The rubric as a scorer. A prompt outside the pocket world scores 0 in everything but courtesy."""

    name = "rubric"

    def score(self, rows: Iterable[tuple[str, str]]) -> Iterator[dict[str, float]]:
        for prompt, answer in rows:
            yield grade(prompt, answer)


def grade(prompt: str, answer: str) -> dict[str, float]:
    """Aspects and total of one answer, each 0..1."""
    polite, body, closed = _open_and_close(spaced(answer))
    task = parse(prompt)
    correct, complete, formed = _CHECKS[task.family](task, body) if task else (0.0, 0.0, False)
    aspects = {
        "correct": correct,
        "complete": complete,
        "polite": float(polite),
        "well_formed": 0.5 * closed + 0.5 * formed,
    }
    total = sum(weight * aspects[name] for name, weight in WEIGHTS.items())
    return {**aspects, "total": round(total, 6)}


def _open_and_close(text: str) -> tuple[bool, str, bool]:
    opener = next((o for o in OPENERS if text.startswith(o)), "")
    body = text[len(opener) :].strip()
    closed = body.endswith(" .")
    return bool(opener), body.removesuffix(" ."), closed


def _items(body: str) -> list[str]:
    return [item for item in re.split(r" , | and ", body) if item]


def _listed(body: str, items: list[str]) -> bool:
    return bool(items) and body == join_and(items) and all(" " not in item for item in items)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def _none_too_many(wanted: int, given: int) -> float:
    """1 while no more is given than wanted, falling as the surplus grows."""
    return min(1.0, _share(wanted, given))


def _distinct_good(items: list[str], good: Callable[[str], bool]) -> int:
    return len({item for item in items if good(item)})


def _open_list(task: Task, body: str, good: Callable[[str], bool]) -> Marks:
    items = _items(body)
    found = _distinct_good(items, good)
    complete = min(1.0, _share(found, task.n)) * _none_too_many(task.n, len(items))
    return _share(found, len(items)), complete, _listed(body, items)


def _list(task: Task, body: str) -> Marks:
    return _open_list(task, body, lambda item: CATEGORY_OF.get(item) == task.category and item not in task.words)


def _list_sorted(task: Task, body: str) -> Marks:
    precision, complete, formed = _list(task, body)
    items = _items(body)
    steps = list(pairwise(items))
    order = _share(sum(a < b for a, b in steps), len(steps))
    return precision * (0.5 + 0.5 * order), complete, formed


def _letter(task: Task, body: str) -> Marks:
    word, _, rest = body.partition(" ")
    correct = 0.5 * (CATEGORY_OF.get(word) == task.category) + 0.5 * (word[:1] == task.letter)
    stated = rest == f"starts with {task.letter}"
    return correct, float(stated), stated


def _is_a(category: str) -> str:
    return f"is {article(category)} {category}"


def _membership(task: Task, body: str) -> Marks:
    word = task.words[0]
    verdict, _, rest = body.partition(" , ")
    truth = "yes" if CATEGORY_OF[word] == task.category else "no"
    return (
        float(verdict == truth),
        float(rest == f"{word} {_is_a(CATEGORY_OF[word])}"),
        bool(re.fullmatch(r"(yes|no) , \w+ is an? \w+", body)),
    )


def _category(task: Task, body: str) -> Marks:
    word = task.words[0]
    claim, _, example = body.partition(" , like ")
    right_example = example != word and CATEGORY_OF.get(example) == CATEGORY_OF[word]
    return (
        float(claim == f"{word} {_is_a(CATEGORY_OF[word])}"),
        float(right_example),
        bool(re.fullmatch(r"\w+ is an? \w+ , like \w+", body)),
    )


def _odd_one_out(task: Task, body: str) -> Marks:
    odd = next(word for word in task.words if CATEGORY_OF[word] != task.category)
    claim, _, reason = body.partition(" , it ")
    return (
        float(claim == f"{odd} is not {article(task.category)} {task.category}"),
        float(reason == _is_a(CATEGORY_OF[odd])),
        bool(re.fullmatch(r"\w+ is not an? \w+ , it is an? \w+", body)),
    )


def _pick(task: Task, body: str) -> Marks:
    items, wanted = _items(body), set(members(task))
    found = len(wanted.intersection(items))
    return _share(found, len(items)), _share(found, len(wanted)), _listed(body, items)


def _count(task: Task, body: str) -> Marks:
    number, _, rest = body.partition(" , ")
    items, wanted = _items(rest), set(members(task))
    together = wanted.union(items)
    named = _share(len(wanted.intersection(items)), len(together)) if len(set(items)) == len(items) else 0.0
    return float(NUMBER_VALUES.get(number) == len(wanted)), named, _listed(rest, items)


def _repeat(task: Task, body: str) -> Marks:
    items = _items(body)
    right = sum(item == task.words[0] for item in items)
    return _share(right, len(items)), max(0.0, 1 - abs(len(items) - task.n) / task.n), _listed(body, items)


def _ordered(wanted: list[str], body: str) -> Marks:
    items = _items(body)
    in_place = sum(a == b for a, b in zip(items, wanted, strict=False))
    together = set(items).union(wanted)
    return (
        _share(in_place, max(len(items), len(wanted))),
        _share(len(set(items).intersection(wanted)), len(together)) * _none_too_many(len(wanted), len(items)),
        _listed(body, items),
    )


def _compare(task: Task, body: str) -> Marks:
    first, second = sorted(task.words)
    start, _, rest = body.partition(" ")
    return (
        float(start == first),
        float(rest == f"comes before {second}"),
        bool(re.fullmatch(r"\w+ comes before \w+", body)),
    )


def _sentence(task: Task, body: str) -> Marks:
    words = body.split()
    verbs = sum(f"{VERBS[CATEGORY_OF[word]]} {word}" in body for word in task.words) / len(task.words)
    once = sum(words.count(word) == 1 for word in task.words) / len(task.words)
    placed = any(body.endswith(" " + place) for place in PLACES)
    form = rf"i \w+ \w+ and \w+ \w+(?: (?:{'|'.join(PLACES)}))?"
    return verbs, 0.5 * once + 0.5 * placed, bool(re.fullmatch(form, body))


def _two_part(task: Task, body: str) -> Marks:
    items = _items(body)
    first = _distinct_good(items, lambda item: CATEGORY_OF.get(item) == task.category)
    second = _distinct_good(items, lambda item: CATEGORY_OF.get(item) == task.second_category)
    both = 0.5 * min(1.0, _share(first, task.n)) + 0.5 * min(1.0, _share(second, task.second_n))
    complete = both * _none_too_many(task.n + task.second_n, len(items))
    return _share(first + second, len(items)), complete, _listed(body, items)


_CHECKS: dict[str, Callable[[Task, str], Marks]] = {
    "list": _list,
    "list_except": _list,
    "list_sorted": _list_sorted,
    "letter": _letter,
    "membership": _membership,
    "category": _category,
    "odd_one_out": _odd_one_out,
    "pick": _pick,
    "count": _count,
    "repeat": _repeat,
    "reverse": lambda task, body: _ordered(list(reversed(task.words)), body),
    "sort": lambda task, body: _ordered(sorted(task.words), body),
    "compare": _compare,
    "sentence": _sentence,
    "two_part": _two_part,
}
