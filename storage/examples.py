"""Questions to start from on the SQL page, as examples.sql has them."""

import re
from functools import cache
from pathlib import Path

from storage.quoting import quoted

_QUESTION = re.compile(r"^-- (?P<question>.+\?)\n(?P<sql>(?:SELECT|WITH)[^;]+;)", re.MULTILINE)


def example_queries(run_id: str | None = None) -> dict[str, str]:
    """SQL by question, about that run (the newest when none is given)."""
    newest = "(SELECT run_id FROM runs ORDER BY created_at DESC LIMIT 1)"
    run = newest if run_id is None else quoted(run_id)
    return {question: sql.replace("$run", run) for question, sql in _examples().items()}


@cache
def _examples() -> dict[str, str]:
    text = (Path(__file__).parent / "examples.sql").read_text(encoding="utf-8")
    return {match["question"]: match["sql"] for match in _QUESTION.finditer(text)}
