"""Are generated prompts drifting or repeating? How new, how alike and how varied the prompts of each round are."""

from dataclasses import dataclass, field
from typing import Any

from storage.database import Database
from storage.queries.page import Page, Row, known

MEASURES = {
    "similarity": "mean similarity to the other prompts of the round",
    "novelty": "1 − similarity to the nearest seed",
    "overlap": "similarity to the nearest evaluation prompt",
}
CLOSE = 0.8  # similarity above which a prompt is called close to another
SAMPLED = (
    1_000  # prompts of a round that its n-grams are counted in: their share of different ones falls with the number
)


@dataclass(frozen=True, slots=True)
class RoundDrift:
    """The prompts of one round in numbers; None where there is nothing to measure."""

    iteration: int
    written: int
    kept: int
    duplicates: int  # dropped: an earlier prompt of the run has the same text
    seed_copies: int  # dropped: a seed
    evaluation_copies: int  # dropped: an evaluation prompt
    words: float | None  # mean, of at most 1,000 kept prompts
    distinct_1: float | None  # different words over words, in the same prompts
    distinct_2: float | None  # the same of pairs of words
    similarity: float | None  # means over kept prompts, once topics were found
    novelty: float | None
    overlap: float | None
    close_to_evaluation: int  # kept prompts with an overlap above .8
    highest_overlap: float | None


@dataclass(frozen=True, slots=True)
class Spread:
    """How one measure is spread over the prompts of each group; bin i spans edges[i] to edges[i + 1]."""

    measure: str
    edges: list[float]
    shares: dict[str, list[float]] = field(default_factory=dict)  # by group: "seeds", "round 1", ...; each sums to 1
    means: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)


# Words are runs of letters, marks and digits. One sample of a thousand a round, always the same.
_DRIFT = r"""
WITH written AS (
    SELECT iteration, count(*) AS written, count(*) FILTER (status = 'kept') AS kept,
        count(*) FILTER (drop_reason = 'duplicate') AS duplicates, count(*) FILTER (drop_reason = 'seed') AS seed_copies,
        count(*) FILTER (drop_reason = 'evaluation') AS evaluation_copies
    FROM prompts
    WHERE run_id = $run_id AND status <> 'held-out'
    GROUP BY iteration
), sampled AS (
    SELECT iteration, prompt_id, regexp_extract_all(lower(left(text, 4000)), '[\p{L}\p{M}\p{N}]+') AS words
    FROM prompts
    WHERE run_id = $run_id AND status = 'kept'
    QUALIFY row_number() OVER (PARTITION BY iteration ORDER BY hash(prompt_id)) <= $sampled
), grams AS (
    SELECT iteration, 1 AS n, unnest(words) AS gram FROM sampled
    UNION ALL
    SELECT iteration, 2, unnest([words[i] || ' ' || words[i + 1] FOR i IN range(1, len(words))]) FROM sampled
), varied AS (
    SELECT iteration, count(DISTINCT gram) FILTER (n = 1) / nullif(count(*) FILTER (n = 1), 0) AS distinct_1,
        count(DISTINCT gram) FILTER (n = 2) / nullif(count(*) FILTER (n = 2), 0) AS distinct_2
    FROM grams
    GROUP BY iteration
), long AS (
    SELECT iteration, avg(len(words)) AS words FROM sampled GROUP BY iteration
), placed AS (
    SELECT iteration, avg(similarity) AS similarity, avg(novelty) AS novelty, avg(overlap) AS overlap,
        count(*) FILTER (overlap > $close) AS close_to_evaluation, max(overlap) AS highest_overlap
    FROM topics
    WHERE run_id = $run_id AND kind = 'written'
    GROUP BY iteration
)
SELECT iteration, written, kept, duplicates, seed_copies, evaluation_copies, words, distinct_1, distinct_2, similarity,
    novelty, overlap, coalesce(close_to_evaluation, 0) AS close_to_evaluation, highest_overlap
FROM written
LEFT JOIN long USING (iteration)
LEFT JOIN varied USING (iteration)
LEFT JOIN placed USING (iteration)
ORDER BY iteration
"""
_SPREAD = """
WITH valued AS (
    SELECT kind, iteration, CASE $measure WHEN 'similarity' THEN similarity WHEN 'novelty' THEN novelty
        WHEN 'overlap' THEN overlap END AS value
    FROM topics
    WHERE run_id = $run_id
), bounds AS (
    SELECT coalesce(min(value), 0) AS low, coalesce(nullif((max(value) - min(value)) / $bins, 0), 1 / $bins) AS width
    FROM valued
)
SELECT kind, iteration, greatest(0, least($bins - 1, CAST(floor((value - low) / width) AS BIGINT))) AS bin, count(*) AS n,
    sum(value) AS total, any_value(low) AS low, any_value(width) AS width
FROM valued, bounds
WHERE value IS NOT NULL
GROUP BY kind, iteration, bin
ORDER BY kind = 'written', kind DESC, iteration, bin
"""
_CLOSEST = """
WITH closest AS (
    SELECT iteration, prompt_id, kind, overlap, nearest_evaluation
    FROM topics
    WHERE run_id = $run_id AND overlap IS NOT NULL AND overlap >= $at_least AND ($kind IS NULL OR kind = $kind)
    ORDER BY overlap DESC, prompt_id
    LIMIT $limit OFFSET $offset
), texts AS (
    SELECT prompt_id, any_value(left(text, $excerpt)) AS text
    FROM (
        SELECT prompt_id, text FROM prompts WHERE run_id = $run_id
        UNION ALL
        SELECT seed_id, prompt FROM seeds WHERE run_id = $run_id
    )
    WHERE prompt_id IN (SELECT prompt_id FROM closest UNION ALL SELECT nearest_evaluation FROM closest)
    GROUP BY prompt_id
)
SELECT c.iteration, c.prompt_id, c.kind, c.overlap, c.nearest_evaluation, mine.text, other.text AS evaluation_text
FROM closest AS c
LEFT JOIN texts AS mine ON mine.prompt_id = c.prompt_id
LEFT JOIN texts AS other ON other.prompt_id = c.nearest_evaluation
ORDER BY c.overlap DESC, c.prompt_id
"""
_CLOSEST_COUNT = """
SELECT count(*) AS total FROM topics
WHERE run_id = $run_id AND overlap IS NOT NULL AND overlap >= $at_least AND ($kind IS NULL OR kind = $kind)
"""


def prompt_drift(database: Database, run_id: str) -> list[RoundDrift]:
    """Are the prompts of later rounds less new, more alike or less varied?"""
    return [RoundDrift(**row) for row in database.rows(_DRIFT, {"run_id": run_id, "sampled": SAMPLED, "close": CLOSE})]


def spread(database: Database, run_id: str, measure: str, bins: int = 30) -> Spread:
    """How is similarity, novelty or overlap spread over the seeds, the evaluation prompts and each round's prompts?

    Similarity is that of SynPO's figure 5 (arXiv 2410.06961). Groups without a value are left out.
    """
    which = {"run_id": run_id, "measure": known(measure, MEASURES, "measure"), "bins": bins}
    groups: dict[str, list[Row]] = {}
    for row in database.rows(_SPREAD, which):
        groups.setdefault(_group(row), []).append(row)
    if not groups:
        return Spread(measure, [])
    first = next(iter(groups.values()))[0]
    sizes = {name: sum(row["n"] for row in rows) for name, rows in groups.items()}
    return Spread(
        measure=measure,
        edges=[first["low"] + i * first["width"] for i in range(bins + 1)],
        shares={name: _shares(rows, bins, sizes[name]) for name, rows in groups.items()},
        means={name: sum(row["total"] for row in rows) / sizes[name] for name, rows in groups.items()},
        sizes=sizes,
    )


def closest_to_evaluation(
    database: Database,
    run_id: str,
    *,
    at_least: float = 0.0,
    kind: str | None = None,
    limit: int = 10,
    offset: int = 0,
    excerpt: int = 300,
) -> Page:
    """Do any prompts or seeds overlap the evaluation set? The closest first, beside what they are close to."""
    which: dict[str, Any] = {"run_id": run_id, "at_least": at_least, "kind": kind}
    found = database.row(_CLOSEST_COUNT, which)
    rows = database.rows(_CLOSEST, which | {"limit": limit, "offset": offset, "excerpt": excerpt})
    return Page(rows, found["total"] if found else 0)


def _group(row: Row) -> str:
    return {"seed": "seeds", "evaluation": "evaluation"}.get(row["kind"], f"round {row['iteration']}")


def _shares(rows: list[Row], bins: int, size: int) -> list[float]:
    counts = {row["bin"]: row["n"] for row in rows}
    return [counts.get(i, 0) / size for i in range(bins)]
