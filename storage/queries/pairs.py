"""The pairs of a run: a table of them, one of them with all its answers, and the next one."""

from dataclasses import asdict, dataclass
from typing import Any

from storage.database import Database
from storage.queries.answers import Answer, answers_to
from storage.queries.excerpts import excerpts
from storage.queries.page import Page, Row, known_sort

PAIR_SORTS = {
    "gap": "widest gap first",
    "gap-up": "narrowest gap first",
    "chosen-score": "best chosen answer first",
    "chosen-score-up": "worst chosen answer first",
    "rejected-score": "best rejected answer first",
    "length-ratio": "longest chosen answer against the rejected one first",
    "repetition": "most repetitive chosen answer first",
    "shuffled": "in an order that means nothing and is always the same",
}
# Ascending in every case, ties in the order of ids, so that "before" is one comparison.
_KEY = """CASE $sort
    WHEN 'gap' THEN -gap
    WHEN 'gap-up' THEN gap
    WHEN 'chosen-score' THEN -chosen_score
    WHEN 'chosen-score-up' THEN chosen_score
    WHEN 'rejected-score' THEN -rejected_score
    WHEN 'length-ratio' THEN -(len_chosen / greatest(len_rejected, 1))
    WHEN 'repetition' THEN -repetition
    WHEN 'shuffled' THEN CAST(hash(pair_id) AS DOUBLE)
END"""
MATCHES = """run_id = $run_id
    AND ($iteration IS NULL OR iteration = $iteration)
    AND ($kept IS NULL OR kept = $kept)
    AND ($drop_reason IS NULL OR drop_reason = $drop_reason)
    AND ($min_gap IS NULL OR gap >= $min_gap)
    AND ($max_gap IS NULL OR gap <= $max_gap)
    AND ($search IS NULL OR contains(lower(prompt), lower($search)) OR contains(lower(chosen), lower($search))
        OR contains(lower(rejected), lower($search)))"""
_COUNT = f"SELECT count(*) AS total FROM pairs WHERE {MATCHES}"
_PLACES = f"""
WITH found AS MATERIALIZED (SELECT part, place, pair_id, {_KEY} AS key FROM parts.pairs WHERE {MATCHES})
SELECT part, place, (SELECT count(*) FROM found) AS total
FROM found
ORDER BY key, pair_id
LIMIT $limit OFFSET $offset
"""
_IDS = f"SELECT pair_id FROM pairs WHERE {MATCHES} ORDER BY {_KEY}, pair_id LIMIT $limit OFFSET $offset"
_POSITION = f"""
WITH here AS (SELECT {_KEY} AS place FROM pairs WHERE run_id = $run_id AND pair_id = $pair_id LIMIT 1)
SELECT count(*) FILTER ({_KEY} < here.place OR ({_KEY} = here.place AND pair_id < $pair_id)) AS position,
    count(*) FILTER (pair_id = $pair_id) > 0 AS present,
    count(*) AS total
FROM pairs, here
WHERE {MATCHES}
"""
_PAIR = """
SELECT * FROM pairs WHERE run_id = $run_id AND pair_id = $pair_id ORDER BY iteration LIMIT 1
"""
_NOTES = (
    "SELECT author, verdict, text, notes.at AS at FROM notes WHERE pair_id = $pair_id ORDER BY notes.at DESC, author"
)
_REASONS = """
SELECT iteration, coalesce(drop_reason, 'kept') AS reason, count(*) AS pairs
FROM pairs
WHERE run_id = $run_id AND ($iteration IS NULL OR iteration = $iteration)
GROUP BY ALL
ORDER BY iteration, pairs DESC, reason
"""


@dataclass(frozen=True, slots=True)
class PairQuery:
    """Which pairs are meant. Nothing given: all."""

    iteration: int | None = None
    kept: bool | None = None
    drop_reason: str | None = None
    min_gap: float | None = None  # included
    max_gap: float | None = None  # included
    search: str | None = None  # in the prompt or either answer, whatever the case

    def bound(self, run_id: str) -> dict[str, Any]:
        return {"run_id": run_id, **asdict(self), "search": self.search or None}


@dataclass(frozen=True, slots=True)
class PairDetail:
    """A pair with every answer to its prompt in its iteration, and what readers said."""

    pair: Row  # the columns of the view `pairs`
    answers: list[Answer]  # gold, initial, draft, improved, candidates
    notes: list[Row]  # author, verdict, text, at; the latest of each author

    def answer(self, role: str) -> Answer | None:
        """The first answer in that role."""
        return next((answer for answer in self.answers if answer.role == role), None)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Where a pair stands among others. Positions count from 0."""

    position: int
    total: int
    previous_id: str | None
    next_id: str | None


def pairs_page(
    database: Database,
    run_id: str,
    query: PairQuery,
    *,
    sort: str = "gap",
    limit: int = 20,
    offset: int = 0,
    excerpt: int = 200,
) -> Page:
    """Which pairs are there? Texts are cut to `excerpt` characters."""
    which = query.bound(run_id)
    order = {"sort": known_sort(sort, PAIR_SORTS), "limit": limit, "offset": offset}
    places = database.rows(_PLACES, which | order)
    return Page(excerpts(database, places, excerpt), places[0]["total"] if places else _count(database, which))


def pair_at(
    database: Database, run_id: str, query: PairQuery, *, sort: str = "gap", position: int = 0
) -> PairDetail | None:
    """The pair at a position (from 0) among those of a query; None when it lies beyond them."""
    which = query.bound(run_id) | {"sort": known_sort(sort, PAIR_SORTS), "limit": 1, "offset": position}
    found = database.row(_IDS, which)
    return None if found is None else pair(database, run_id, found["pair_id"])


def pair(database: Database, run_id: str, pair_id: str) -> PairDetail | None:
    """One pair with all that belongs to it; None when the run has no such pair."""
    found = database.row(_PAIR, {"run_id": run_id, "pair_id": pair_id})
    if found is None:
        return None
    sides = (found["chosen_id"], found["rejected_id"])
    return PairDetail(
        pair=found,
        answers=answers_to(database, run_id, found["prompt_id"], found["iteration"], sides),
        notes=database.rows(_NOTES, {"pair_id": pair_id}),
    )


def neighbours(
    database: Database, run_id: str, pair_id: str, query: PairQuery, *, sort: str = "gap"
) -> Neighbours | None:
    """What comes before and after a pair among those of a query; None when the run has no such pair.

    A pair outside the query stands between those it would stand between.
    """
    which = query.bound(run_id) | {"sort": known_sort(sort, PAIR_SORTS)}
    found = database.row(_POSITION, which | {"pair_id": pair_id})
    if found is None or (found["total"] == 0 and pair(database, run_id, pair_id) is None):
        return None
    position, present = found["position"], found["present"]
    window = {"limit": 2 + present, "offset": max(0, position - 1)}
    ids = [row["pair_id"] for row in database.rows(_IDS, which | window)]
    before, after = ids[: min(position, 1)], ids[min(position, 1) + present :]
    return Neighbours(position, found["total"], before[0] if before else None, after[0] if after else None)


def pair_drop_reasons(database: Database, run_id: str, iteration: int | None = None) -> list[Row]:
    """How many pairs did each rule drop? Rows of iteration, reason ("kept" among them) and pairs."""
    return database.rows(_REASONS, {"run_id": run_id, "iteration": iteration})


def _count(database: Database, which: dict[str, Any]) -> int:
    found = database.row(_COUNT, which)
    return int(found["total"]) if found else 0
