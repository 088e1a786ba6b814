"""Which prompts have a story to tell: those whose answers changed most, in either direction."""

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
# One row a prompt: its mean score at first and at last, and how many iterations it was scored in.
_STORIES = {
    "evaluation": """
        SELECT prompt_id, arg_min(score, iteration) AS first, arg_max(score, iteration) AS last, count(*) AS rounds
        FROM (
            SELECT prompt_id, iteration, avg(score_a) AS score
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
    "evaluation": "SELECT prompt_id, text FROM prompts WHERE run_id = $run_id AND status = 'held-out'",
    "seed": "SELECT seed_id AS prompt_id, prompt AS text FROM seeds WHERE run_id = $run_id",
    "written": "SELECT prompt_id, any_value(prompt) AS text FROM pairs WHERE run_id = $run_id GROUP BY prompt_id",
}
_KEYS = {
    "improved": "change DESC NULLS LAST",
    "worse": "change NULLS LAST",
    "text": "text",
    "shuffled": "hash(prompt_id)",
}


def _listed(kind: str, order: str) -> str:
    return f"""
WITH told AS (
    SELECT prompt_id, left(text, $excerpt) AS text, first, last, last - first AS change, rounds
    FROM ({_STORIES[kind]}) JOIN ({_TEXTS[kind]}) USING (prompt_id)
    WHERE ($search IS NULL OR contains(lower(text), lower($search)))
        AND ($topic IS NULL OR prompt_id IN (SELECT prompt_id FROM topics WHERE run_id = $run_id AND topic = $topic))
), ranked AS (
    SELECT *, row_number() OVER (ORDER BY {_KEYS[order]}, prompt_id) - 1 AS position, count(*) OVER () AS total FROM told
)
"""


_PAGES = {
    (kind, order): f"{_listed(kind, order)} SELECT * FROM ranked ORDER BY position LIMIT $limit OFFSET $offset"
    for kind in KINDS
    for order in ORDERS
}
_BESIDE = {
    (kind, order): f"""{_listed(kind, order)}
SELECT prompt_id, position, total FROM ranked
WHERE position BETWEEN (SELECT position FROM ranked WHERE prompt_id = $prompt_id) - 1
    AND (SELECT position FROM ranked WHERE prompt_id = $prompt_id) + 1
ORDER BY position"""
    for kind in KINDS
    for order in ORDERS
}
_KIND_OF = """
SELECT 'evaluation' AS kind, 1 AS rank FROM prompts
WHERE run_id = $run_id AND prompt_id = $prompt_id AND status = 'held-out'
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
WHERE p.run_id = $run_id AND p.prompt_id = $prompt_id
ORDER BY p.iteration, p.pair_id, l.iteration, l.model
"""


@dataclass(frozen=True, slots=True)
class StoryQuery:
    """Which prompts are looked through, and in which order."""

    kind: str = "evaluation"
    order: str = "improved"
    search: str | None = None  # in the text, whatever the case
    topic: int | None = None

    def bound(self, run_id: str, excerpt: int) -> dict[str, Any]:
        known(self.kind, KINDS, "kind of prompt")
        known(self.order, ORDERS, "order")
        which = {"run_id": run_id, "search": self.search or None, "topic": self.topic, "excerpt": excerpt}
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

    Rows of prompt_id, text, first and last score, change, rounds scored, and position in the list.
    """
    which = query.bound(run_id, excerpt) | {"limit": limit, "offset": offset}
    rows = database.rows(_PAGES[query.kind, query.order], which)
    total = rows[0]["total"] if rows else 0
    return Page([{name: value for name, value in row.items() if name != "total"} for row in rows], total)


def beside(database: Database, run_id: str, query: StoryQuery, prompt_id: str) -> Beside | None:
    """What comes before and after a prompt in the list; None when it is not in it."""
    rows = database.rows(_BESIDE[query.kind, query.order], query.bound(run_id, 200) | {"prompt_id": prompt_id})
    here = next((row for row in rows if row["prompt_id"] == prompt_id), None)
    if here is None:
        return None
    at = {row["position"] - here["position"]: row["prompt_id"] for row in rows}
    return Beside(here["position"], here["total"], at.get(-1), at.get(1))


def kind_of(database: Database, run_id: str, prompt_id: str) -> str | None:
    """Which of the lists a prompt belongs to; None when the run has no such prompt."""
    found = database.row(_KIND_OF, {"run_id": run_id, "prompt_id": prompt_id})
    return None if found is None else str(found["kind"])


def pair_logps_of(database: Database, run_id: str, prompt_id: str) -> list[Row]:
    """How likely do the policies find both sides of the prompt's pairs? Rows by pair, iteration asked, and model."""
    return database.rows(_LOGPS, {"run_id": run_id, "prompt_id": prompt_id})
