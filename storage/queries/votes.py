"""Votes of the playground."""

from dataclasses import dataclass

from storage.database import Database

# Each vote once, the two models in the order of their names; a reader's last vote on the same two answers counts.
_WINS = """
WITH last AS (
    SELECT * FROM votes WHERE run_id = $run_id
    QUALIFY row_number() OVER (
        PARTITION BY least(response_a, response_b), greatest(response_a, response_b), author ORDER BY votes.at DESC
    ) = 1
), sorted AS (
    SELECT least(model_a, model_b) AS one, greatest(model_a, model_b) AS other, blind,
        CASE WHEN winner IN ('tie', 'bad') THEN winner
            WHEN (winner = 'a') = (model_a <= model_b) THEN 'one' ELSE 'other' END AS winner
    FROM last
)
SELECT one, other, count(*) FILTER (winner = 'one') AS one_won, count(*) FILTER (winner = 'other') AS other_won,
    count(*) FILTER (winner = 'tie') AS ties, count(*) FILTER (winner = 'bad') AS bad, count(*) FILTER (blind) AS blind
FROM sorted
GROUP BY one, other
ORDER BY one, other
"""


@dataclass(frozen=True, slots=True)
class Duel:
    """Two models of a run against each other, in readers' votes."""

    one: str
    other: str
    one_won: int
    other_won: int
    ties: int
    bad: int  # both answers were
    blind: int  # votes of all these that were given blind


def duels(database: Database, run_id: str) -> list[Duel]:
    """Which model do readers prefer?"""
    return [Duel(**row) for row in database.rows(_WINS, {"run_id": run_id})]
