"""The pairs of a run: a table of them, one of them with all its answers, and the next one."""

from dataclasses import dataclass

from storage.database import Database
from storage.queries.answers import Answer, answers_of_pair
from storage.queries.excerpts import excerpts, whole_pair
from storage.queries.page import Page, Row, known_sort
from storage.queries.pair_order import PAIR_SORTS, key_sql, source_sql
from storage.queries.pair_query import PairQuery, matching_rows
from storage.queries.telling import telling_pairs

__all__ = [
    "PAIR_SORTS",
    "Neighbours",
    "PairDetail",
    "PairQuery",
    "Screen",
    "conversations",
    "finding_kinds",
    "neighbours",
    "notes_of",
    "pair",
    "pair_at",
    "pair_drop_reasons",
    "pair_id_at",
    "pair_topics",
    "pairs_page",
    "pairs_screen",
    "run_of_pair",
]

_CONVERSATIONS = "SELECT count(*) AS total FROM pairs WHERE messages IS NOT NULL AND "
_COUNT = "SELECT count(*) AS total FROM parts.pairs WHERE {matches}"
_PLACES = """
SELECT part, place, pair_id FROM {source} WHERE {matches} ORDER BY {key}, pair_id LIMIT $limit OFFSET $offset
"""
_IDS = "SELECT pair_id FROM {source} WHERE {matches} ORDER BY {key}, pair_id LIMIT $limit OFFSET $offset"
_KEY = "SELECT {key} AS key FROM {source} WHERE {matches} AND pair_id = $pair_id"
_POSITION = """
SELECT count(*) FILTER (before) AS position, count(*) AS total,
    arg_max(pair_id, (key, pair_id)) FILTER (before) AS previous_id,
    arg_min(pair_id, (key, pair_id)) FILTER (NOT before AND pair_id <> $pair_id) AS next_id,
    count(*) FILTER (pair_id = $pair_id) > 0 AS matches
FROM (
    SELECT pair_id, key, pair_id <> $pair_id AND (key < $key OR (key = $key AND pair_id < $pair_id)) AS before
    FROM (SELECT pair_id, {key} AS key FROM {source} WHERE {matches})
)
"""
_PLACE = """
SELECT part, place FROM parts.pairs WHERE run_id = $run_id AND pair_id = $pair_id ORDER BY iteration LIMIT 1
"""
_LOGPS = """
SELECT iteration, model, logp_chosen, logp_rejected, beta, gamma, beta * (logp_chosen - logp_rejected) AS margin
FROM pair_logps
WHERE run_id = $run_id AND pair_id = $pair_id
ORDER BY iteration, model
"""
_FINDINGS = """
SELECT kind, value, detail FROM findings WHERE run_id = $run_id AND pair_id = $pair_id ORDER BY kind
"""
_TOPIC = "SELECT topic, label FROM topics WHERE run_id = $run_id AND prompt_id = $prompt_id LIMIT 1"
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

_RUN_OF = """
SELECT run_id FROM pairs
WHERE ($pair_id IS NOT NULL AND pair_id = $pair_id) OR ($prompt_id IS NOT NULL AND prompt_id = $prompt_id)
ORDER BY run_id LIMIT 1
"""
_KINDS = "SELECT kind, count(*) AS pairs FROM findings WHERE run_id = $run_id GROUP BY kind ORDER BY kind"
_TOPICS = """
SELECT topic, any_value(label) AS label, count(*) AS prompts
FROM topics
WHERE run_id = $run_id AND prompt_id IN (SELECT prompt_id FROM parts.pairs WHERE run_id = $run_id)
GROUP BY topic
ORDER BY topic
"""


@dataclass(frozen=True, slots=True)
class PairDetail:
    """A pair with the answers it was made from, and what readers said."""

    pair: Row  # the columns of the view `pairs`
    answers: list[Answer]  # both sides, and the first gold, initial, draft and improved answer beside them
    notes: list[Row]  # author, verdict, text, at; the latest of each author
    logps: list[Row]  # what M_0 and the policies think of it: iteration, model, logp_*, beta, gamma, margin
    findings: list[Row]  # what the health report found: kind, value, detail
    topic: Row | None  # topic, label

    def answer(self, role: str) -> Answer | None:
        """The first answer in that role."""
        return next((answer for answer in self.answers if answer.role == role), None)


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Where a pair stands among others, or would stand were it one of them. Positions count from 0."""

    position: int
    total: int
    previous_id: str | None
    next_id: str | None
    matches: bool = True  # whether it is one of them


@dataclass(frozen=True, slots=True)
class Screen:
    """A page of pairs, with the first pair of the page before it and of the page after it."""

    page: Page
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
    query = _named(database, run_id, query, sort)
    window = {"limit": limit, "offset": offset}
    places = matching_rows(database, run_id, query, _ordered(_PLACES, query, sort), window)
    return Page(excerpts(database, places, excerpt), _count(database, run_id, query))


def pairs_screen(
    database: Database, run_id: str, query: PairQuery, *, sort: str, rows: int, offset: int, excerpt: int
) -> Screen:
    """The `rows` pairs from `offset` on, and what a turn of the page leads to."""
    query = _named(database, run_id, query, sort)
    start = max(0, offset - rows)
    window = {"limit": offset - start + rows + 1, "offset": start}
    places = matching_rows(database, run_id, query, _ordered(_PLACES, query, sort), window)
    shown, rest = places[offset - start :][:rows], places[offset - start + rows :]
    return Screen(
        page=Page(excerpts(database, shown, excerpt), _count(database, run_id, query)),
        previous_id=places[0]["pair_id"] if offset and places else None,
        next_id=rest[0]["pair_id"] if rest else None,
    )


def pair_at(
    database: Database, run_id: str, query: PairQuery, *, sort: str = "gap", position: int = 0
) -> PairDetail | None:
    """The pair at a position (from 0) among those of a query; None when it lies beyond them."""
    found = pair_id_at(database, run_id, query, sort=sort, position=position)
    return None if found is None else pair(database, run_id, found)


def pair_id_at(
    database: Database, run_id: str, query: PairQuery, *, sort: str = "gap", position: int = 0
) -> str | None:
    """The id of the pair at a position (from 0) among those of a query; None when it lies beyond them."""
    query = _named(database, run_id, query, sort)
    window = {"limit": 1, "offset": position}
    found = matching_rows(database, run_id, query, _ordered(_IDS, query, sort), window)
    return str(found[0]["pair_id"]) if found else None


def pair(database: Database, run_id: str, pair_id: str) -> PairDetail | None:
    """One pair with all that belongs to it; None when the run has no such pair."""
    places = database.pair_rows(run_id, _PLACE, {"run_id": run_id, "pair_id": pair_id})
    found = whole_pair(database, places[0]) if places else None
    if found is None:
        return None
    sides, prompt_id = (found["chosen_id"], found["rejected_id"]), found["prompt_id"]
    which, topic_of = {"run_id": run_id, "pair_id": pair_id}, {"run_id": run_id, "prompt_id": prompt_id}
    return PairDetail(
        pair=found,
        answers=answers_of_pair(database, run_id, prompt_id, found["iteration"], sides),
        notes=notes_of(database, pair_id),
        logps=database.rows_of(run_id, "pair_logps", "pair_id", [pair_id], _LOGPS, which),
        findings=database.rows_of(run_id, "findings", "pair_id", [pair_id], _FINDINGS, which),
        topic=next(iter(database.rows_of(run_id, "topics", "prompt_id", [prompt_id], _TOPIC, topic_of)), None),
    )


def notes_of(database: Database, pair_id: str) -> list[Row]:
    """What did readers say of a pair? Rows of author, verdict, text and at: the latest of each author, newest first."""
    return database.rows(_NOTES, {"pair_id": pair_id})


def neighbours(
    database: Database, run_id: str, pair_id: str, query: PairQuery, *, sort: str = "gap"
) -> Neighbours | None:
    """What comes before and after a pair among those of a query; None when the run has no such pair.

    A pair outside the query stands between those it would stand between.
    """
    query = _named(database, run_id, query, sort)
    key = _key_of(database, run_id, pair_id, query, sort)
    if key is None:
        return None
    which = {"pair_id": pair_id, "key": key}
    (found,) = matching_rows(database, run_id, query, _ordered(_POSITION, query, sort), which)
    return Neighbours(**found)


def _key_of(database: Database, run_id: str, pair_id: str, query: PairQuery, sort: str) -> float | None:
    """Where the pair stands in an order, inside the query or not; None when the run has no such pair."""
    sql, which = _ordered(_KEY, query, sort), {"pair_id": pair_id}
    named = {"ids": list(query.ids or ())} if "$ids" in sql else {}
    rows = matching_rows(database, run_id, PairQuery(), sql, which | named)
    return float(rows[0]["key"]) if rows else None


def conversations(database: Database, run_id: str, query: PairQuery) -> int:
    """How many pairs of a query have a prompt that is a conversation of several turns?"""
    found = database.row(_CONVERSATIONS + query.matches(), query.bound(run_id))
    return int(found["total"]) if found else 0


def pair_drop_reasons(database: Database, run_id: str, iteration: int | None = None) -> list[Row]:
    """How many pairs did each rule drop? Rows of iteration, reason ("kept" among them) and pairs."""
    which = {"run_id": run_id, "iteration": iteration}
    return database.known(("reasons", iteration), run_id, ["pairs"], lambda: database.rows(_REASONS, which))


def run_of_pair(database: Database, *, pair_id: str | None = None, prompt_id: str | None = None) -> str | None:
    """Which run has this pair, or a pair of this prompt? None when none has."""
    found = database.row(_RUN_OF, {"pair_id": pair_id, "prompt_id": prompt_id})
    return None if found is None else str(found["run_id"])


def finding_kinds(database: Database, run_id: str) -> list[Row]:
    """What did the health report find among the run's pairs? Rows of kind and pairs."""
    return database.known("kinds", run_id, ["findings"], lambda: database.rows(_KINDS, {"run_id": run_id}))


def pair_topics(database: Database, run_id: str) -> list[Row]:
    """Which topics have pairs? Rows of topic, label and prompts."""
    which = {"run_id": run_id}
    return database.known(
        "pair topics", run_id, ["pairs", "topics"], lambda: database.pair_rows(run_id, _TOPICS, which)
    )


def _named(database: Database, run_id: str, query: PairQuery, sort: str) -> PairQuery:
    """The query itself; for the twenty that tell most, one that names them."""
    known_sort(sort, PAIR_SORTS)
    if sort != "telling":
        return query
    return PairQuery(ids=tuple(pick.pair_id for pick in telling_pairs(database, run_id, query)))


def _ordered(sql: str, query: PairQuery, sort: str) -> str:
    key = key_sql(sort, named=query.ids is not None)
    return sql.replace("{key}", key).replace("{source}", source_sql(sort))


def _count(database: Database, run_id: str, query: PairQuery) -> int:
    (found,) = matching_rows(database, run_id, query, _COUNT)
    return int(found["total"])
