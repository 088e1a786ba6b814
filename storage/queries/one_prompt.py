"""One prompt by its id."""

from storage.database import Database
from storage.queries.page import Row

_PROMPT = """
SELECT iteration, prompt_id, text, keywords, noise_keyword, source, status, drop_reason
FROM prompts
WHERE run_id = $run_id AND prompt_id = $prompt_id
LIMIT 1
"""
_PAIR_ID = """
SELECT pair_id FROM parts.pairs WHERE run_id = $run_id AND prompt_id = $prompt_id ORDER BY iteration, pair_id LIMIT 1
"""


def one_prompt(database: Database, run_id: str, prompt_id: str) -> Row | None:
    """Which keywords was it written from, and what became of it? None when the run has no such prompt."""
    which = {"run_id": run_id, "prompt_id": prompt_id}
    return next(iter(database.rows_of(run_id, "prompts", "prompt_id", [prompt_id], _PROMPT, which)), None)


def pair_of_prompt(database: Database, run_id: str, prompt_id: str) -> str | None:
    """Which pair was the first made of its answers? None when there is none."""
    found = database.pair_rows(run_id, _PAIR_ID, {"run_id": run_id, "prompt_id": prompt_id})
    return str(found[0]["pair_id"]) if found else None
