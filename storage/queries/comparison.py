"""What did one run change against another?"""

from dataclasses import dataclass

from storage.database import Database

# Policies of the two runs on the same held-out prompt; several answers to a prompt count by their mean.
_PAIRED = """
WITH tested AS (
    SELECT run_id, iteration, suite, prompt_id, avg(score_a) AS score
    FROM evals
    WHERE run_id IN ($one, $other) AND suite <> 'validation' AND isfinite(score_a)
    GROUP BY ALL
), matched AS (
    SELECT one.suite, one.iteration, other.score - one.score AS change
    FROM tested AS one
    JOIN tested AS other USING (suite, iteration, prompt_id)
    WHERE one.run_id = $one AND other.run_id = $other
)
SELECT suite, iteration, count(*) AS prompts, avg(change) AS change, stddev_samp(change) / sqrt(count(*)) AS se,
    count(*) FILTER (change > 0) AS better, count(*) FILTER (change < 0) AS worse
FROM matched
GROUP BY suite, iteration
ORDER BY suite, iteration
"""
_SHARED = """
WITH asked AS (
    SELECT DISTINCT run_id, prompt_id FROM prompts WHERE run_id IN ($one, $other) AND status = 'kept'
), paired AS (
    SELECT DISTINCT run_id, hash(prompt, chosen, rejected) AS pair FROM pairs WHERE run_id IN ($one, $other) AND kept
)
SELECT
    (SELECT count(*) FROM asked WHERE run_id = $one) AS prompts_one,
    (SELECT count(*) FROM asked WHERE run_id = $other) AS prompts_other,
    (SELECT count(*) FROM (
        SELECT prompt_id FROM asked WHERE run_id = $one INTERSECT SELECT prompt_id FROM asked WHERE run_id = $other
    )) AS prompts_both,
    (SELECT count(*) FROM paired WHERE run_id = $one) AS pairs_one,
    (SELECT count(*) FROM paired WHERE run_id = $other) AS pairs_other,
    (SELECT count(*) FROM (
        SELECT pair FROM paired WHERE run_id = $one INTERSECT SELECT pair FROM paired WHERE run_id = $other
    )) AS pairs_both
"""


@dataclass(frozen=True, slots=True)
class Change:
    """How the other run's policy scores against the one's, on the held-out prompts both were tested on."""

    suite: str
    iteration: int
    prompts: int
    change: float  # mean of score(other) - score(one), prompt by prompt
    se: float | None  # standard error; None below two prompts
    better: int  # prompts on which the other run scores higher
    worse: int


@dataclass(frozen=True, slots=True)
class Shared:
    """What two runs have in common: kept prompts by their text, kept pairs by prompt and both answers."""

    prompts_one: int
    prompts_other: int
    prompts_both: int
    pairs_one: int
    pairs_other: int
    pairs_both: int


def paired_changes(database: Database, one: str, other: str) -> list[Change]:
    """On the same prompts, is the other run's policy better, iteration by iteration?"""
    return [Change(**row) for row in database.rows(_PAIRED, {"one": one, "other": other})]


def shared(database: Database, one: str, other: str) -> Shared:
    """How much of the data of two runs is the same?"""
    (row,) = database.rows(_SHARED, {"one": one, "other": other})
    return Shared(**row)
