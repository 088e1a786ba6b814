"""What readers said of a run's pairs, beside what the scorer made of them."""

from collections.abc import Iterator

import pyarrow as pa

from storage.database import Database
from storage.queries.page import Row

_VERDICTS = """
SELECT pair_id, author, verdict, gap
FROM pairs JOIN notes USING (pair_id)
WHERE run_id = $run_id AND verdict <> ''
QUALIFY row_number() OVER (PARTITION BY pair_id, author ORDER BY iteration) = 1
ORDER BY author, pair_id
"""
_COUNTS = """
SELECT verdict, count(DISTINCT pair_id) AS pairs
FROM notes
WHERE verdict <> '' AND pair_id IN (SELECT pair_id FROM pairs WHERE run_id = $run_id)
GROUP BY verdict
"""
_NOTED = """
SELECT run_id, iteration, pair_id, author, verdict, text AS note, notes.at AS noted_at, gap, chosen_score,
    rejected_score, kept, drop_reason, len_chosen, len_rejected, similarity, prompt, chosen, rejected
FROM pairs JOIN notes USING (pair_id)
WHERE run_id = $run_id
ORDER BY iteration, pair_id, author
"""


def verdicts(database: Database, run_id: str) -> list[Row]:
    """Each reader's latest verdict on a pair of the run: pair_id, author, verdict, gap. Ones taken back are left out."""
    return database.rows(_VERDICTS, {"run_id": run_id})


def verdict_counts(database: Database, run_id: str) -> dict[str, int]:
    """How many pairs of the run have some reader's verdict of each kind?"""
    return {row["verdict"]: row["pairs"] for row in database.rows(_COUNTS, {"run_id": run_id})}


def noted_pairs(database: Database, run_id: str) -> Iterator[pa.RecordBatch]:
    """Every note on the run's pairs, with the pair: one row a pair and author."""
    return database.batches(_NOTED, {"run_id": run_id})
