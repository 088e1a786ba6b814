"""The address of the pairs page: what it says about which pairs, and how to write it. Whoever links there uses this.

    ./pairs?run=..&iteration=1&kept=dropped&reason=gap&finding=..&topic=3&verdict=none&eye=..&policy=2&min_gap=..&max_gap=..
        &search=..&rules={"min_gap":0.3}&ids=a,b,c&sort=margin-up&pair=..

`prompt=..` in place of `pair` opens that prompt's pair. What is left out says nothing; what makes no sense is told.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from markupsafe import Markup
from pydantic import ValidationError

from pages.components import address
from storage.queries import PAIR_SORTS, PairFilter, PairQuery
from storage.queries.eye_conditions import EYE_CONDITIONS
from storage.queries.pair_query import VERDICTS
from synpo_lab.config import FilterConfig

KEPT = {"kept": True, "dropped": False}
FIRST_SORT = "gap"
MOST_IDS = 10_000


@dataclass(frozen=True, slots=True)
class Asked:
    """What an address asks of the pairs page."""

    query: PairQuery = field(default_factory=PairQuery)
    sort: str = FIRST_SORT
    faults: tuple[str, ...] = ()  # what in the address made no sense and is passed over


@dataclass(frozen=True, slots=True)
class Modes:
    """How the page shows what is asked for."""

    view: str = "pair"  # or "list"
    diff: str = "rejected"  # against what the chosen answer's differences are marked: rejected, draft or off
    sides: str = "all"  # or "two": without the draft
    markdown: bool = False
    blind: bool = False
    swap: bool = False  # the chosen answer first


_CHOICES = {"view": ("pair", "list"), "diff": ("rejected", "draft", "off"), "sides": ("all", "two")}
_SWITCHES = ("markdown", "blind", "swap")


def modes_of(values: Mapping[str, str]) -> Modes:
    """Read an address. A mode there is not is passed over."""
    told: dict[str, Any] = {name: values[name] for name, choices in _CHOICES.items() if values.get(name) in choices}
    switches: dict[str, Any] = {name: values.get(name) == "1" for name in _SWITCHES}
    return Modes(**told, **switches)


def written_modes(modes: Modes) -> dict[str, str]:
    """The address's values for the modes that are not the usual ones."""
    usual = Modes()
    unusual = {name: getattr(modes, name) for name in _CHOICES if getattr(modes, name) != getattr(usual, name)}
    return unusual | {name: "1" for name in _SWITCHES if getattr(modes, name)}


def asked_of(values: Mapping[str, str]) -> Asked:
    """Read an address."""
    query, faults = PairQuery(), []
    for name, (part, read, _) in _PARTS.items():
        text = values.get(name, "")
        if not text or (text == "all" and name not in _TYPED):
            continue
        try:
            query = replace(query, **{part: read(text)})
        except (ValueError, KeyError, TypeError):
            faults.append(f"{name}={text[:80]}")
    sort = values.get("sort", "") or FIRST_SORT
    if sort not in PAIR_SORTS:
        faults.append(f"sort={sort[:80]}")
    return Asked(query, sort if sort in PAIR_SORTS else FIRST_SORT, tuple(faults))


def written(query: PairQuery, sort: str = FIRST_SORT) -> dict[str, str]:
    """The address's values for a query: `asked_of` them gives it again."""
    given = {name: (getattr(query, part), write) for name, (part, _, write) in _PARTS.items()}
    values = {name: write(value) for name, (value, write) in given.items() if value is not None and value != ""}
    return values | ({"sort": sort} if sort != FIRST_SORT else {})


def pairs_address(run_id: str | None, query: PairQuery | None = None, *, sort: str = FIRST_SORT, **more: object) -> str:
    """The address of the pairs page with a selection. `more`: pair, prompt, view, ..."""
    return address("pairs", run=run_id, **written(query or PairQuery(), sort), **more)


def pairs_link(label: object, run_id: str | None, query: PairQuery | None = None, **more: Any) -> Markup:
    """A link to the pairs page with a selection."""
    return Markup('<a href="{}">{}</a>').format(pairs_address(run_id, query, **more), label)


def _whole(text: str) -> int:
    if not (text.isascii() and text.lstrip("-").isdecimal() and len(text) < 10):
        raise ValueError(text)
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _one_of(names: Mapping[str, Any]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError(text)
        return text

    return read


def _rules(text: str) -> PairFilter:
    try:
        told = FilterConfig.model_validate(json.loads(text))
    except (ValidationError, RecursionError) as error:
        raise ValueError(text) from error
    known = {rule.name for rule in fields(PairFilter)}
    return PairFilter(**{name: value for name, value in told.model_dump().items() if name in known})


def _json(rules: PairFilter) -> str:
    return json.dumps(asdict(rules), separators=(",", ":"))


def _ids(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, text.split(",")[:MOST_IDS])))


# name in the address: (field of PairQuery, how it is read, how it is written)
_PARTS: dict[str, tuple[str, Callable[[str], Any], Callable[[Any], str]]] = {
    "iteration": ("iteration", _whole, str),
    "kept": ("kept", KEPT.__getitem__, {value: word for word, value in KEPT.items()}.__getitem__),
    "reason": ("drop_reason", str, str),
    "finding": ("finding", str, str),
    "topic": ("topic", _whole, str),
    "verdict": ("verdict", _one_of(VERDICTS), str),
    "eye": ("eye", _one_of(EYE_CONDITIONS), str),
    "policy": ("policy", _whole, str),
    "min_gap": ("min_gap", _number, repr),
    "max_gap": ("max_gap", _number, repr),
    "search": ("search", str, str),
    "rules": ("rules", _rules, _json),
    "ids": ("ids", _ids, lambda ids: ",".join(ids) or ","),  # "," is none at all, nothing is all
}
_TYPED = {"search", "rules", "ids"}  # all others are chosen from lists, where "all" is no restriction
NAMES = (*_PARTS, "sort", *_CHOICES, *_SWITCHES)
