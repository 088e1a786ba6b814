"""Which prompts have a story to tell: those whose answers changed most, in either direction."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from storage.database import Database
from storage.queries.page import Page, Row, known
from storage.queries.runs import VALIDATION

KINDS = {
    "evaluation": "answered by every policy",
    "seed": "drafted by the policy of every round",
    "written": "answered in one round: by M_0, as a draft, and improved",
}
ORDERS = {
    "improved": "most improved first",
    "worse": "got worse first",
    "text": "in alphabetical order",
    "shuffled": "in an order that means nothing and is always the same",
}
# One row a prompt: its mean score at first and at last, and how many iterations it was scored in. Of a prompt
# tested in one iteration alone, as in imported annotations, the opponent's score is the first.
_STORIES = {
    "evaluation": """
        SELECT prompt_id, if(count(*) = 1, any_value(opponent), arg_min(score, iteration)) AS first,
            arg_max(score, iteration) AS last, count(*) AS rounds
        FROM (
            SELECT prompt_id, iteration, avg(score_a) AS score, avg(score_b) AS opponent
            FROM evals
            WHERE run_id = $run_id AND suite <> $validation
            GROUP BY prompt_id, iteration
        )
        GROUP BY prompt_id""",
    "seed": """
        SELECT prompt_id, arg_min(score, iteration) AS first, arg_max(score, iteration) AS last, count(*) AS rounds
        FROM (
            SELECT r.prompt_id, r.iteration, avg(s.value) AS score
            FROM responses AS r
            JOIN scores AS s ON s.run_id = $run_id AND s.response_id = r.response_id AND s.aspect = 'total'
            WHERE r.run_id = $run_id AND r.role = 'draft'
                AND r.prompt_id IN (SELECT seed_id FROM seeds WHERE run_id = $run_id)
            GROUP BY r.prompt_id, r.iteration
        )
        GROUP BY prompt_id""",
    "written": """
        SELECT prompt_id, any_value(rejected_score) AS first, any_value(chosen_score) AS last, count(*) AS rounds
        FROM pairs
        WHERE run_id = $run_id
        GROUP BY prompt_id""",
}
_TEXTS = {
    "evaluation": """SELECT prompt_id, text FROM prompts WHERE run_id = $run_id AND (status = 'held-out'
        OR prompt_id IN (SELECT prompt_id FROM evals WHERE run_id = $run_id AND suite <> $validation))""",
    "seed": "SELECT seed_id AS prompt_id, prompt AS text FROM seeds WHERE run_id = $run_id",
    "written": "SELECT prompt_id, prompt AS text FROM pairs WHERE run_id = $run_id",
}
# Ascending in every case, ties in the order of ids, so that "before" is one comparison.
_KEYS = {
    "improved": "coalesce(-change, 'inf')",
    "worse": "coalesce(change, 'inf')",
    "text": "text",
    "shuffled": "hash(prompt_id)",
}


def _told(kind: str, order: str) -> str:
    """The list with its key and without texts, which are read of a page alone (or where the order is theirs)."""
    texts = (
        f"JOIN (SELECT prompt_id, any_value(text) AS text FROM ({_TEXTS[kind]}) GROUP BY prompt_id) USING (prompt_id)"
    )
    return f"""
WITH told AS MATERIALIZED (
    SELECT prompt_id, first, last, change, rounds, {_KEYS[order]} AS key
    FROM (SELECT *, last - first AS change FROM ({_STORIES[kind]})) {texts if order == "text" else ""}
    WHERE ($search IS NULL OR prompt_id IN (
            SELECT prompt_id FROM ({_TEXTS[kind]}) WHERE contains(lower(text), lower($search))))
        AND ($topic IS NULL OR prompt_id IN (SELECT prompt_id FROM topics WHERE run_id = $run_id AND topic = $topic))
)"""


def _page(kind: str, order: str) -> str:
    return f"""{_told(kind, order)}, page AS (
    SELECT *, (SELECT count(*) FROM told) AS total FROM told ORDER BY key, prompt_id LIMIT $limit OFFSET $offset
), texts AS (
    SELECT prompt_id, any_value(left(text, $excerpt)) AS text
    FROM ({_TEXTS[kind]})
    WHERE prompt_id IN (SELECT prompt_id FROM page)
    GROUP BY prompt_id
)
SELECT prompt_id, coalesce(text, '') AS text, first, last, change, rounds, total
FROM page LEFT JOIN texts USING (prompt_id)
ORDER BY key, prompt_id
"""


def _position(kind: str, order: str) -> str:
    return f"""{_told(kind, order)}, here AS (SELECT key FROM told WHERE prompt_id = $prompt_id)
SELECT count(*) FILTER (told.key < here.key OR (told.key = here.key AND prompt_id < $prompt_id)) AS position,
    count(*) AS total
FROM told, here
"""


_LISTS = [(kind, order) for kind in KINDS for order in ORDERS]
_PAGES = {which: _page(*which) for which in _LISTS}
_POSITIONS = {which: _position(*which) for which in _LISTS}
_AROUND = {
    which: f"{_told(*which)} SELECT prompt_id FROM told ORDER BY key, prompt_id LIMIT $limit OFFSET $offset"
    for which in _LISTS
}
_TOLD_OF = """
SELECT EXISTS (SELECT 1 FROM evals WHERE run_id = $run_id AND suite <> $validation) AS evaluation,
    EXISTS (SELECT 1 FROM responses WHERE run_id = $run_id AND role = 'draft'
        AND prompt_id IN (SELECT seed_id FROM seeds WHERE run_id = $run_id)) AS seed,
    EXISTS (SELECT 1 FROM pairs WHERE run_id = $run_id) AS written
"""
_KIND_OF = """
SELECT 'evaluation' AS kind, 1 AS rank FROM prompts
WHERE run_id = $run_id AND prompt_id = $prompt_id AND status = 'held-out'
UNION ALL
SELECT 'evaluation', 1 FROM evals WHERE run_id = $run_id AND prompt_id = $prompt_id AND suite <> $validation
UNION ALL
SELECT 'written', 2 FROM prompts WHERE run_id = $run_id AND prompt_id = $prompt_id AND status = 'kept'
UNION ALL
SELECT 'seed', 3 FROM seeds WHERE run_id = $run_id AND seed_id = $prompt_id
UNION ALL
SELECT 'written', 4 FROM prompts WHERE run_id = $run_id AND prompt_id = $prompt_id
ORDER BY rank
LIMIT 1
"""
_LOGPS = """
SELECT p.pair_id, p.iteration, l.iteration AS asked, l.model, l.logp_chosen, l.logp_rejected, l.beta, l.gamma
FROM pairs AS p
JOIN pair_logps AS l ON l.run_id = $run_id AND l.pair_id = p.pair_id
WHERE p.run_id = $run_id AND p.prompt_id = $prompt_id AND p.pair_id IN (SELECT unnest($pairs))
ORDER BY p.iteration, p.pair_id, l.iteration, l.model
"""


@dataclass(frozen=True, slots=True)
class StoryQuery:
    """Which prompts are looked through, and in which order."""

    kind: str = "evaluation"
    order: str = "improved"
    search: str | None = None  # in the text, whatever the case
    topic: int | None = None

    @property
    def list(self) -> tuple[str, str]:
        return known(self.kind, KINDS, "kind of prompt"), known(self.order, ORDERS, "order")

    def bound(self, run_id: str) -> dict[str, Any]:
        which = {"run_id": run_id, "search": self.search or None, "topic": self.topic}
        return which | ({"validation": VALIDATION} if self.kind == "evaluation" else {})


@dataclass(frozen=True, slots=True)
class Beside:
    """Where a prompt stands in a list. Positions count from 0."""

    position: int
    total: int
    previous_id: str | None
    next_id: str | None


def stories(
    database: Database, run_id: str, query: StoryQuery, *, limit: int = 12, offset: int = 0, excerpt: int = 200
) -> Page:
    """Which prompts' answers improved most, which got worse?

    Rows of prompt_id, text (cut), first and last score, change, rounds scored, and position in the list (from 0).
    """
    which = query.bound(run_id) | {"limit": limit, "offset": offset, "excerpt": excerpt}
    rows = database.rows(_PAGES[query.list], which)
    total = rows[0]["total"] if rows else 0
    for position, row in enumerate(rows, offset):
        row["position"] = position
        del row["total"]
    return Page(rows, total)


def beside(database: Database, run_id: str, query: StoryQuery, prompt_id: str) -> Beside | None:
    """What comes before and after a prompt in the list; None when it is not in it."""
    which = query.bound(run_id)
    here = database.row(_POSITIONS[query.list], which | {"prompt_id": prompt_id})
    if here is None or not here["total"]:
        return None
    position = here["position"]
    window = {"limit": 2 + min(position, 1), "offset": max(0, position - 1)}
    ids = [row["prompt_id"] for row in database.rows(_AROUND[query.list], which | window)]
    at = dict(enumerate(ids, window["offset"]))
    return Beside(position, here["total"], at.get(position - 1), at.get(position + 1))


def told_kinds(database: Database, run_id: str) -> list[str]:
    """Which of the lists does the run have anything for?"""
    found = database.row(_TOLD_OF, {"run_id": run_id, "validation": VALIDATION}) or {}
    return [kind for kind in KINDS if found.get(kind)]


def kind_of(database: Database, run_id: str, prompt_id: str) -> str | None:
    """Which of the lists a prompt belongs to; None when the run has no such prompt."""
    found = database.row(_KIND_OF, {"run_id": run_id, "prompt_id": prompt_id, "validation": VALIDATION})
    return None if found is None else str(found["kind"])


def pair_logps_of(database: Database, run_id: str, prompt_id: str, pairs: Sequence[str]) -> list[Row]:
    """How likely do the policies find both sides of some of the prompt's pairs? Rows by pair, iteration asked, and model.

    `pairs`: their ids.
    """
    if not pairs:
        return []
    return database.rows(_LOGPS, {"run_id": run_id, "prompt_id": prompt_id, "pairs": list(pairs)})
