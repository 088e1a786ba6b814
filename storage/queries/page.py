"""A page of rows, with how many there are in all."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from storage.errors import StorageFault

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[Row]
    total: int


def known_sort(sort: str, sorts: Collection[str]) -> str:
    """`sort`, when it is one of `sorts`; StorageFault otherwise."""
    if sort not in sorts:
        raise StorageFault(f"cannot sort by {sort!r}", hint=f"sort by one of: {', '.join(sorts)}")
    return sort


def known(name: str, names: Collection[str], what: str) -> str:
    """`name`, when it is one of `names`; StorageFault saying `what` it should have been otherwise."""
    if name not in names:
        raise StorageFault(f"there is no {what} {name!r}", hint=f"use one of: {', '.join(names)}")
    return name
