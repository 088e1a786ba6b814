"""The prompts of a run."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from storage.database import Database
from storage.queries.page import Page, Row, known_sort

PROMPT_SORTS = {
    "written": "in the order of rounds",
    "text": "in alphabetical order",
    "shortest": "shortest first",
    "longest": "longest first",
    "newest": "least like any seed first",
    "known": "most like a seed first",
    "overlap": "most like an evaluation prompt first",
    "typical": "most like the others of its round first",
    "shuffled": "in an order that means nothing and is always the same",
}
_KEYS = {
    "written": "iteration",
    "text": "text",
    "shortest": "len(text)",
    "longest": "len(text) DESC",
    "newest": "novelty DESC NULLS LAST",
    "known": "novelty NULLS LAST",
    "overlap": "overlap DESC NULLS LAST",
    "typical": "similarity DESC NULLS LAST",
    "shuffled": "hash(prompt_id)",
}
_BY_TOPIC = {"newest", "known", "overlap", "typical"}  # sorts by what stands in the view topics
_MATCHES = """run_id = $run_id
    AND ($iteration IS NULL OR iteration = $iteration)
    AND ($status IS NULL OR status = $status)
    AND ($drop_reason IS NULL OR drop_reason = $drop_reason)
    AND ($source IS NULL OR source = $source)
    AND ($keyword IS NULL OR list_contains(keywords, $keyword))
    AND ($topic IS NULL OR (iteration, prompt_id) IN (
        SELECT (iteration, prompt_id) FROM topics WHERE run_id = $run_id AND topic = $topic AND kind <> 'seed'))
    AND ($search IS NULL OR contains(lower(text), lower($search))
        OR contains(lower(array_to_string(keywords, ' ')), lower($search)))"""
_COUNT = f"SELECT count(*) AS total FROM prompts WHERE {_MATCHES}"
_TOPICS = """(
    SELECT iteration, prompt_id, topic, label, novelty, overlap, similarity
    FROM topics
    WHERE run_id = $run_id AND kind <> 'seed'
)"""


def _page(sort: str) -> str:
    """A page in one order: its rows are found first, by as few columns as that takes, and then read."""
    placed = f"LEFT JOIN {_TOPICS} USING (iteration, prompt_id)" if sort in _BY_TOPIC else ""
    return f"""
WITH found AS (
    SELECT part, place
    FROM (SELECT * FROM parts.prompts WHERE {_MATCHES}) {placed}
    ORDER BY {_KEYS[sort]}, prompt_id
    LIMIT $limit OFFSET $offset
)
SELECT iteration, prompt_id, text, keywords, noise_keyword, source, status, drop_reason, topic, label, novelty, overlap
FROM (SELECT * FROM parts.prompts WHERE run_id = $run_id AND part IN (SELECT part FROM found)) JOIN found USING (part, place)
LEFT JOIN {_TOPICS} USING (iteration, prompt_id)
ORDER BY {_KEYS[sort]}, prompt_id
"""


_FILTERS = ("search", "iteration", "status", "drop_reason", "source", "keyword", "topic")
_NO_END = 2**62
_PAGES = {sort: _page(sort) for sort in PROMPT_SORTS}
_REASONS = """
SELECT iteration, coalesce(drop_reason, status) AS reason, count(*) AS prompts
FROM prompts
WHERE run_id = $run_id AND ($iteration IS NULL OR iteration = $iteration)
GROUP BY ALL
ORDER BY iteration, prompts DESC, reason
"""
_SOURCES = "SELECT source, count(*) AS prompts FROM prompts WHERE run_id = $run_id GROUP BY source ORDER BY source"
_KEYWORDS = """
SELECT keyword, count(*) AS prompts, count(*) FILTER (status = 'kept') AS kept
FROM (SELECT unnest(keywords) AS keyword, status FROM prompts
      WHERE run_id = $run_id AND ($iteration IS NULL OR iteration = $iteration))
GROUP BY keyword
ORDER BY prompts DESC, keyword
LIMIT $limit
"""


def prompts_page(
    database: Database,
    run_id: str,
    *,
    search: str | None = None,
    iteration: int | None = None,
    status: str | None = None,
    drop_reason: str | None = None,
    source: str | None = None,
    keyword: str | None = None,
    topic: int | None = None,
    sort: str = "written",
    limit: int = 20,
    offset: int = 0,
) -> Page:
    """Which prompts are there? `search`: in text or keywords, whatever the case. `keyword`: a member of the list.

    Beside a prompt's columns: topic, label, novelty and overlap, None before topics were found.
    """
    which = {
        "run_id": run_id,
        "search": search or None,
        "iteration": iteration,
        "status": status,
        "drop_reason": drop_reason,
        "source": source,
        "keyword": keyword,
        "topic": topic,
    }
    order = {"limit": limit, "offset": offset}
    rows = database.rows(_PAGES[known_sort(sort, PROMPT_SORTS)], which | order)
    found = database.row(_COUNT, which)
    return Page(rows, found["total"] if found else 0)


def all_prompts(database: Database, run_id: str, *, sort: str = "written", **chosen: Any) -> Iterator[pa.RecordBatch]:
    """Every prompt of the filters that `prompts_page` takes, with its columns, in batches."""
    which = {"run_id": run_id, **dict.fromkeys(_FILTERS), **chosen}
    window = {"search": chosen.get("search") or None, "limit": _NO_END, "offset": 0}
    return database.batches(_PAGES[known_sort(sort, PROMPT_SORTS)], which | window)


def prompt_drop_reasons(database: Database, run_id: str, iteration: int | None = None) -> list[Row]:
    """Why were prompts dropped? Rows of iteration, reason ("kept" and "held-out" among them) and prompts."""
    return database.rows(_REASONS, {"run_id": run_id, "iteration": iteration})


def prompt_sources(database: Database, run_id: str) -> list[Row]:
    """Where do prompts come from? Rows of source and prompts."""
    return database.rows(_SOURCES, {"run_id": run_id})


def keyword_counts(database: Database, run_id: str, iteration: int | None = None, limit: int = 50) -> list[Row]:
    """Which keywords are used most? Rows of keyword, prompts and kept."""
    return database.rows(_KEYWORDS, {"run_id": run_id, "iteration": iteration, "limit": limit})
