"""What the health report asks: the numbers of every pair, texts of some, and how often each finding was made."""

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from storage.database import Database
from storage.queries.page import Row

# Texts are compared by 63 bits of their hash: among a million rows the chance that any two collide is 5 in 10^8.
_PROMPT = "prompt, coalesce(messages, '')"
_FACTS = f"""
WITH cut AS MATERIALIZED (
    SELECT DISTINCT response_id FROM responses WHERE run_id = $run_id AND finish_reason = 'length'
)
SELECT iteration, pair_id, kept, len_chosen, len_rejected, chosen_score, rejected_score, gap, similarity,
    chosen = rejected AS identical,
    NOT regexp_matches(chosen, '\\S') AS empty_chosen, NOT regexp_matches(rejected, '\\S') AS empty_rejected,
    chosen_id IN (SELECT response_id FROM cut) AS cut_chosen,
    rejected_id IN (SELECT response_id FROM cut) AS cut_rejected,
    CAST(hash(prompt) >> 1 AS BIGINT) AS prompt_key,
    CAST(hash({_PROMPT}, chosen, rejected) >> 1 AS BIGINT) AS row_key,
    CAST(hash({_PROMPT}, rejected, chosen) >> 1 AS BIGINT) AS swapped_key,
    CAST(hash(pair_id) >> 1 AS BIGINT) AS lot
FROM pairs
WHERE run_id = $run_id
ORDER BY iteration, duplicate, pair_id
"""
_TEXTS = """
SELECT iteration, pair_id, prompt, chosen, rejected
FROM pairs
WHERE run_id = $run_id AND CAST(hash(pair_id) >> 1 AS BIGINT) <= $lot
"""
_DRAFTED = """
SELECT iteration, pair_id, prompt, chosen, rejected, draft
FROM pairs LEFT JOIN (
    SELECT iteration, prompt_id, min(text) AS draft FROM responses
    WHERE run_id = $run_id AND role = 'draft'
    GROUP BY ALL
) USING (iteration, prompt_id)
WHERE run_id = $run_id AND CAST(hash(pair_id) >> 1 AS BIGINT) <= $lot
"""
_HAS_DRAFTS = "SELECT 1 AS one FROM responses WHERE run_id = $run_id AND role = 'draft' LIMIT 1"
_PROMPTS = """
SELECT CAST(hash(prompt) >> 1 AS BIGINT) AS prompt_key, left(prompt, $longest) AS prompt
FROM pairs
WHERE run_id = $run_id
"""
_HELD_OUT = "SELECT DISTINCT text FROM prompts WHERE run_id = $run_id AND status = 'held-out' ORDER BY text"
_PAIRS = "SELECT count(*) AS pairs FROM pairs WHERE run_id = $run_id"
_TOPICS = "SELECT count(*) AS prompts FROM topics WHERE run_id = $run_id"
_EDITS_BY_ITERATION = """
SELECT CAST(iteration AS VARCHAR) AS part, iteration, NULL AS topic, kind, count(*) AS pairs
FROM findings
WHERE run_id = $run_id AND starts_with(kind, $prefix)
GROUP BY ALL
ORDER BY iteration, pairs DESC, kind
"""
_EDITS_BY_TOPIC = """
SELECT any_value(label) AS part, NULL AS iteration, topic, kind, count(*) AS pairs
FROM findings
JOIN (SELECT iteration, pair_id, prompt_id FROM pairs WHERE run_id = $run_id) USING (iteration, pair_id)
JOIN (SELECT prompt_id, any_value(topic) AS topic, any_value(label) AS label FROM topics
      WHERE run_id = $run_id GROUP BY prompt_id) USING (prompt_id)
WHERE run_id = $run_id AND starts_with(kind, $prefix)
GROUP BY topic, kind
ORDER BY topic, pairs DESC, kind
"""


def pair_facts(database: Database, run_id: str) -> pa.Table:
    """The numbers of every pair of a run, without its texts, by iteration and id; of equal rows the first of the file first.

    Beside columns of `pairs`: whether the sides are identical, empty, or cut at the token limit; `prompt_key`, `row_key`
    and `swapped_key`, equal where the prompt, the row, or the row with its sides exchanged is equal; and `lot`, a number
    that means nothing, by which rows are drawn.
    """
    return _table(database, _FACTS, {"run_id": run_id})


def pair_texts(database: Database, run_id: str, highest_lot: int) -> Iterator[Row]:
    """The texts of the pairs whose lot is at most this: iteration, pair_id, prompt, chosen, rejected, draft."""
    sql = _DRAFTED if database.row(_HAS_DRAFTS, {"run_id": run_id}) else _TEXTS
    for batch in database.batches(sql, {"run_id": run_id, "lot": highest_lot}, size=500):
        yield from ({"draft": None} | row for row in batch.to_pylist())


def pair_prompts(database: Database, run_id: str, longest: int) -> Iterator[tuple[int, str]]:
    """The `prompt_key` and text (its first `longest` characters) of every pair, in no order; prompts repeat."""
    for batch in database.batches(_PROMPTS, {"run_id": run_id, "longest": longest}):
        yield from zip(batch.column("prompt_key").to_pylist(), batch.column("prompt").to_pylist(), strict=True)


def held_out_prompts(database: Database, run_id: str) -> list[str]:
    """The evaluation prompts of a run, in alphabetical order."""
    return [row["text"] for row in database.rows(_HELD_OUT, {"run_id": run_id})]


def pair_count(database: Database, run_id: str) -> int:
    """How many pairs has the run now?"""
    found = database.row(_PAIRS, {"run_id": run_id})
    return int(found["pairs"]) if found else 0


def topic_count(database: Database, run_id: str) -> int:
    """How many prompts of the run have a topic?"""
    found = database.row(_TOPICS, {"run_id": run_id})
    return int(found["prompts"]) if found else 0


def edit_counts(database: Database, run_id: str, prefix: str, *, by_topic: bool = False) -> list[Row]:
    """How often was each kind of edit made in each round, or topic? Rows of part, iteration, topic, kind and pairs.

    `prefix`: which edits, for example "edit: ".
    """
    sql = _EDITS_BY_TOPIC if by_topic else _EDITS_BY_ITERATION
    return database.rows(sql, {"run_id": run_id, "prefix": prefix})


def _table(database: Database, sql: str, parameters: dict[str, Any]) -> pa.Table:
    batches = list(database.batches(sql, parameters, size=50_000))
    return pa.Table.from_batches(batches) if batches else pa.table({})
