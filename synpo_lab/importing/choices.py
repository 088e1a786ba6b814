"""Which of two answers a choice column names, and from what its numbers count."""

from collections.abc import Mapping, Sequence
from typing import Any

from synpo_lab.errors import DataError
from synpo_lab.importing.columns import Row, RowRefused, number_of

WORDS = {
    "a": 1, "model_a": 1, "response_a": 1, "output_a": 1, "first": 1, "left": 1, "response_0": 1, "[[a]]": 1, "answer_a": 1,
    "b": 2, "model_b": 2, "response_b": 2, "output_b": 2, "second": 2, "right": 2, "[[b]]": 2, "answer_b": 2,
    "tie": 0, "both": 0, "neither": 0, "tie (bothbad)": 0, "bothbad": 0, "equal": 0, "same": 0, "[[c]]": 0, "draw": 0,
}  # fmt: skip
_HINT = "write a, b and tie there, or name the answers response_0 and response_1 (counted from 0), or response_1 and response_2"


def counts_from(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> int:
    """0 or 1: the number by which the choice column means the first answer, told by the answers' names, else by the sample.

    Raises DataError where neither tells: a guess would turn every pair of the file round.
    """
    if "choice" not in columns or _runs_both_ways(columns["choice"]):
        return 0
    named = {"0": 0, "1": 1}.get(columns["first"].strip()[-1:])
    numbers = _numbers(columns, rows)
    if named == 0 or not numbers:
        return named or 0
    no_tie = 0 not in numbers  # next to answers 1 and 2 a 0 is a tie, provided that 2 is there as well
    if min(numbers) >= 0 and (no_tie or 2 in numbers if named else no_tie and 2 in numbers):
        return 1
    if named is None and {0, 1} <= numbers <= {0, 0.5, 1}:
        return 0
    raise DataError(
        f"what {columns['choice']!r} counts cannot be told: it holds {_listed(numbers)}, "
        f"the answers are {columns['first']!r} and {columns['second']!r}",
        hint=_HINT,
    )


def told(columns: Mapping[str, str], first: int, rows: Sequence[Mapping[str, Any]]) -> str:
    """For people: what the choice column's numbers were taken to mean; "" where it holds none."""
    if "choice" not in columns or not _numbers(columns, rows):
        return ""
    name, one, other = columns["choice"], columns["first"], columns["second"]
    if _runs_both_ways(name):
        return f"{name!r}: below 0 prefers {one!r}, above 0 prefers {other!r}"
    return f"{name!r}: {first} prefers {one!r}, {first + 1} prefers {other!r}"


def chosen_of(row: Row, first: int) -> int:
    """What the choice column says: 1 or 2, or 0 for a tie. `first` is its number for the first answer."""
    value, name = row.given("choice"), row.name("choice")
    word = value.strip().lower() if isinstance(value, str) else ""
    words = WORDS | ({"response_1": 1, "response_2": 2} if first else {"response_1": 2})
    if word in words:
        return words[word]
    number = number_of(value, name)
    if number is not None and _runs_both_ways(name):
        return 0 if number == 0 else 1 if number < 0 else 2
    # Next to answers 1 and 2 a 0 is a tie; next to answers a and b it could as well be the first.
    ties = {first + 0.5: 0} | ({0: 0} if first and row.name("first").strip().endswith("1") else {})
    known = {first: 1, first + 1: 2} | ties
    if number not in known:
        raise RowRefused(f"{name!r} names neither answer", f"it is {value!r}"[:120])
    return known[number]


def _runs_both_ways(name: str) -> bool:
    """HelpSteer3's -3..3: below 0 the first is better."""
    return "overall" in name.lower()


def _numbers(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> set[float]:
    found = set()
    for values in rows:
        try:
            found.add(number_of(Row(values, columns).value("choice"), columns["choice"]))
        except RowRefused:
            continue
    return {number for number in found if number is not None}


def _listed(numbers: set[float]) -> str:
    shown = [f"{number:g}" for number in sorted(numbers)[:6]]
    return ", ".join(shown) + (" and others" if len(numbers) > 6 else "")
