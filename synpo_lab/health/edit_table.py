"""How often each kind of edit was made, in each round or topic: counts as a table."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_PARTS = 8  # rounds shown side by side


@dataclass(frozen=True, slots=True)
class EditRow:
    kind: str  # the kind of finding, "edit: corrected"
    name: str  # without the prefix
    pairs: int
    share: float  # of all pairs compared, 0 to 1
    by_part: list[int]


@dataclass(frozen=True, slots=True)
class EditTable:
    parts: list[str]  # iterations, the last MOST_PARTS of them
    rows: list[EditRow]  # the most frequent kind first
    pairs: int


@dataclass(frozen=True, slots=True)
class TopicEdit:
    """The commonest edit of a topic."""

    topic: int
    label: str
    kind: str
    name: str
    pairs: int  # with that edit
    of: int  # pairs of the topic
    share: float


def edit_table(counted: Sequence[Mapping[str, Any]], prefix: str) -> EditTable:
    """From `storage.queries.health.edit_counts` by iteration."""
    parts = list(dict.fromkeys(str(row["part"]) for row in counted))[-MOST_PARTS:]
    totals, cells = Counter[str](), Counter[tuple[str, str]]()
    for row in counted:
        totals[row["kind"]] += row["pairs"]
        cells[row["kind"], str(row["part"])] += row["pairs"]
    pairs = totals.total()
    rows = [
        EditRow(kind, kind.removeprefix(prefix), n, n / pairs, [cells[kind, part] for part in parts])
        for kind, n in totals.most_common()
    ]
    return EditTable(parts, rows, pairs)


def topic_edits(counted: Sequence[Mapping[str, Any]], prefix: str) -> list[TopicEdit]:
    """From `storage.queries.health.edit_counts` by topic: the topic with most pairs first."""
    by_topic: defaultdict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in counted:
        by_topic[row["topic"]].append(row)
    found = []
    for topic, rows in by_topic.items():
        best, of = max(rows, key=lambda row: row["pairs"]), sum(row["pairs"] for row in rows)
        name = best["kind"].removeprefix(prefix)
        found.append(TopicEdit(topic, best["part"], best["kind"], name, best["pairs"], of, best["pairs"] / of))
    return sorted(found, key=lambda one: (-one.of, one.topic))
