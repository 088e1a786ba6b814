"""Topics of a run's prompts: their sizes, the map, and how the policy does on each."""

from dataclasses import dataclass

from storage.database import Database
from storage.queries.page import Row
from storage.queries.runs import VALIDATION


@dataclass(frozen=True, slots=True)
class TopicSize:
    """One topic in numbers; None where there is nothing to average."""

    topic: int
    label: str
    prompts: int  # written by the generator, or imported
    seeds: int
    evaluation: int
    novelty: float | None  # mean over the written prompts
    overlap: float | None  # the highest of a written prompt


@dataclass(frozen=True, slots=True)
class TopicShare:
    """How much of a round's prompts is about a topic."""

    iteration: int
    topic: int
    label: str
    prompts: int
    share: float  # 0 to 1, of the round's written prompts


@dataclass(frozen=True, slots=True)
class TopicResult:
    """How the policy of one iteration does on the test prompts of a topic, and against the iteration before.

    Changes are means over the prompts that both iterations answered; None where there is no iteration before.
    """

    iteration: int
    before: int | None  # the iteration before it that was tested
    topic: int
    label: str
    n: int  # prompts
    win_rate: float  # against M_0, a tie is half a win
    score: float  # mean total score
    win_change: float | None
    score_change: float | None
    score_change_se: float | None  # standard error; None below two prompts


@dataclass(frozen=True, slots=True)
class MapPoint:
    """A prompt on the map."""

    prompt_id: str
    iteration: int
    kind: str  # written, seed or evaluation
    topic: int
    label: str
    x: float
    y: float
    text: str  # cut


_SIZES = """
SELECT topic, min(label) AS label, count(*) FILTER (kind = 'written') AS prompts,
    count(*) FILTER (kind = 'seed') AS seeds, count(*) FILTER (kind = 'evaluation') AS evaluation,
    avg(novelty) FILTER (kind = 'written') AS novelty, max(overlap) FILTER (kind = 'written') AS overlap
FROM topics
WHERE run_id = $run_id
GROUP BY topic
ORDER BY topic
"""
_SHARES = """
SELECT iteration, topic, min(label) AS label, count(*) AS prompts,
    count(*) / sum(count(*)) OVER (PARTITION BY iteration) AS share
FROM topics
WHERE run_id = $run_id AND kind = 'written'
GROUP BY iteration, topic
ORDER BY iteration, topic
"""
_SUITE = """
SELECT suite FROM evals WHERE run_id = $run_id AND suite <> $validation GROUP BY suite ORDER BY suite LIMIT 1
"""
# A prompt may have been answered several times in an iteration: its mean counts.
_RESULTS = """
WITH tested AS (
    SELECT iteration, prompt_id, avg(score_a) AS score,
        avg(CASE winner WHEN 'a' THEN 1 WHEN 'tie' THEN 0.5 ELSE 0 END) AS win
    FROM evals
    WHERE run_id = $run_id AND suite = $suite
    GROUP BY iteration, prompt_id
), rounds AS (
    SELECT iteration, lag(iteration) OVER (ORDER BY iteration) AS before FROM tested GROUP BY iteration
), compared AS (
    SELECT now.iteration, rounds.before, now.prompt_id, now.score, now.win, now.score - old.score AS score_change,
        now.win - old.win AS win_change
    FROM tested AS now
    JOIN rounds USING (iteration)
    LEFT JOIN tested AS old ON old.iteration = rounds.before AND old.prompt_id = now.prompt_id
)
SELECT compared.iteration, before, topic, min(label) AS label, count(*) AS n, avg(win) AS win_rate, avg(score) AS score,
    avg(win_change) AS win_change, avg(score_change) AS score_change,
    stddev_samp(score_change) / sqrt(count(score_change)) AS score_change_se
FROM compared
JOIN (SELECT prompt_id, any_value(topic) AS topic, any_value(label) AS label
      FROM topics WHERE run_id = $run_id GROUP BY prompt_id) USING (prompt_id)
GROUP BY compared.iteration, before, topic
ORDER BY compared.iteration DESC, score_change NULLS LAST, topic
"""
# The order of a hash is an order that means nothing and is always the same.
_POINTS = """
WITH sampled AS (
    SELECT prompt_id, iteration, kind, topic, label, x, y
    FROM topics
    WHERE run_id = $run_id AND ($topic IS NULL OR topic = $topic)
        AND ($iteration IS NULL OR (iteration = $iteration AND kind = 'written'))
    ORDER BY hash(prompt_id)
    LIMIT $limit
), texts AS (
    SELECT prompt_id, any_value(left(text, $excerpt)) AS text
    FROM (
        SELECT prompt_id, text FROM prompts WHERE run_id = $run_id AND prompt_id IN (SELECT prompt_id FROM sampled)
        UNION ALL
        SELECT seed_id, prompt FROM seeds WHERE run_id = $run_id AND seed_id IN (SELECT prompt_id FROM sampled)
    )
    GROUP BY prompt_id
)
SELECT prompt_id, iteration, kind, topic, label, x, y, coalesce(text, '') AS text
FROM sampled LEFT JOIN texts USING (prompt_id)
ORDER BY topic, prompt_id
"""


def topic_sizes(database: Database, run_id: str) -> list[TopicSize]:
    """What are the prompts about? The largest topic first; none before they were found."""
    return [TopicSize(**row) for row in database.rows(_SIZES, {"run_id": run_id})]


def topic_shares(database: Database, run_id: str) -> list[TopicShare]:
    """Do the topics shift from round to round?"""
    return [TopicShare(**row) for row in database.rows(_SHARES, {"run_id": run_id})]


def topic_results(database: Database, run_id: str, suite: str | None = None) -> list[TopicResult]:
    """Which topics did an iteration get worse at? The last iteration first, its largest fall first.

    `suite`: of test prompts; None: the first that is not the validation.
    """
    if suite is None:
        found = database.row(_SUITE, {"run_id": run_id, "validation": VALIDATION})
        suite = "" if found is None else found["suite"]
    return [TopicResult(**row) for row in database.rows(_RESULTS, {"run_id": run_id, "suite": suite})]


def map_points(
    database: Database,
    run_id: str,
    *,
    topic: int | None = None,
    iteration: int | None = None,
    limit: int = 2_000,
    excerpt: int = 140,
) -> list[MapPoint]:
    """Where do prompts lie on the map? At most `limit` of them, an even sample; texts cut to `excerpt` characters."""
    which = {"run_id": run_id, "topic": topic, "iteration": iteration, "limit": limit, "excerpt": excerpt}
    return [MapPoint(**row) for row in database.rows(_POINTS, which)]


def topic_labels(database: Database, run_id: str) -> list[Row]:
    """Which topics are there to choose from? Rows of topic, label and prompts, all kinds counted."""
    return database.rows(_LABELS, {"run_id": run_id})


_LABELS = """
SELECT topic, min(label) AS label, count(*) AS prompts FROM topics WHERE run_id = $run_id GROUP BY topic ORDER BY topic
"""
