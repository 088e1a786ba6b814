"""The prompts of a run."""

from storage.database import Database
from storage.queries.page import Page, Row, known_sort

PROMPT_SORTS = {
    "written": "in the order of rounds",
    "text": "in alphabetical order",
    "shortest": "shortest first",
    "longest": "longest first",
    "shuffled": "in an order that means nothing and is always the same",
}
_MATCHES = """run_id = $run_id
    AND ($iteration IS NULL OR iteration = $iteration)
    AND ($status IS NULL OR status = $status)
    AND ($drop_reason IS NULL OR drop_reason = $drop_reason)
    AND ($family IS NULL OR source = $family OR list_contains(keywords, $family))
    AND ($search IS NULL OR contains(lower(text), lower($search))
        OR contains(lower(array_to_string(keywords, ' ')), lower($search)))"""
_COUNT = f"SELECT count(*) AS total FROM prompts WHERE {_MATCHES}"
_PAGE = f"""
SELECT iteration, prompt_id, text, keywords, noise_keyword, source, status, drop_reason
FROM prompts
WHERE {_MATCHES}
ORDER BY
    CASE $sort WHEN 'text' THEN text END,
    CASE $sort
        WHEN 'written' THEN iteration
        WHEN 'shortest' THEN len(text)
        WHEN 'longest' THEN -len(text)
        WHEN 'shuffled' THEN CAST(hash(prompt_id) AS DOUBLE)
    END,
    prompt_id
LIMIT $limit OFFSET $offset
"""
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
    family: str | None = None,
    sort: str = "written",
    limit: int = 20,
    offset: int = 0,
) -> Page:
    """Which prompts are there? `search`: in text or keywords, whatever the case. `family`: a keyword, or a source."""
    which = {
        "run_id": run_id,
        "search": search or None,
        "iteration": iteration,
        "status": status,
        "drop_reason": drop_reason,
        "family": family,
    }
    order = {"sort": known_sort(sort, PROMPT_SORTS), "limit": limit, "offset": offset}
    found = database.row(_COUNT, which)
    return Page(database.rows(_PAGE, which | order), found["total"] if found else 0)


def prompt_drop_reasons(database: Database, run_id: str, iteration: int | None = None) -> list[Row]:
    """Why were prompts dropped? Rows of iteration, reason ("kept" and "held-out" among them) and prompts."""
    return database.rows(_REASONS, {"run_id": run_id, "iteration": iteration})


def prompt_sources(database: Database, run_id: str) -> list[Row]:
    """Where do prompts come from? Rows of source and prompts."""
    return database.rows(_SOURCES, {"run_id": run_id})


def keyword_counts(database: Database, run_id: str, iteration: int | None = None, limit: int = 50) -> list[Row]:
    """Which keywords are used most? Rows of keyword, prompts and kept."""
    return database.rows(_KEYWORDS, {"run_id": run_id, "iteration": iteration, "limit": limit})
