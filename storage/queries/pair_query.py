"""Which pairs are meant: one value, and the SQL condition it stands for."""

from dataclasses import dataclass
from typing import Any

from storage.database import Database
from storage.narrow import FOUND, SEARCH, over_texts
from storage.pair_filter import PairFilter, filter_sql
from storage.queries.eye_conditions import EYE_CONDITIONS, eye_sql
from storage.queries.page import Row, known

_NOTED = "SELECT pair_id FROM notes WHERE verdict"
VERDICTS = {
    "chosen": f"pair_id IN ({_NOTED} = 'chosen')",
    "rejected": f"pair_id IN ({_NOTED} = 'rejected')",
    "tie": f"pair_id IN ({_NOTED} = 'tie')",
    "bad": f"pair_id IN ({_NOTED} = 'bad')",
    "any": f"pair_id IN ({_NOTED} <> '')",
    "none": f"pair_id NOT IN ({_NOTED} <> '')",
    "note": "pair_id IN (SELECT pair_id FROM notes WHERE trim(text) <> '')",
}
_IN_NOTES = "pair_id IN (SELECT pair_id FROM notes WHERE contains(lower(text), lower($search)))"
_CONDITIONS = {
    "iteration": "iteration = $iteration",
    "kept": "kept = $kept",
    "drop_reason": "drop_reason = $drop_reason",
    "min_gap": "gap >= $min_gap",
    "max_gap": "gap <= $max_gap",
    "search": f"({SEARCH} OR {_IN_NOTES})",
    "finding": "pair_id IN (SELECT pair_id FROM findings WHERE run_id = $run_id AND kind = $finding)",
    "topic": "prompt_id IN (SELECT prompt_id FROM topics WHERE run_id = $run_id AND topic = $topic)",
    "ids": "pair_id IN (SELECT unnest($ids))",
}

_HELD_SEARCH = f"((iteration, pair_id) IN (SELECT (iteration, pair_id) FROM {FOUND}) OR {_IN_NOTES})"


@dataclass(frozen=True, slots=True)
class PairQuery:
    """Which pairs are meant. Nothing given: all. Several given: those that fit all of them."""

    iteration: int | None = None
    kept: bool | None = None
    drop_reason: str | None = None
    min_gap: float | None = None  # included
    max_gap: float | None = None  # included
    search: str | None = None  # in the prompt, either answer or a reader's note, whatever the case
    finding: str | None = None  # a kind of the view findings
    topic: int | None = None  # number of the prompt's cluster
    verdict: str | None = None  # some reader's latest, or whether there is a note in words: one of VERDICTS
    eye: str | None = None  # how the trained policy, or two judges, rank it: one of EYE_CONDITIONS
    policy: int | None = None  # whose eye: of M_t that t; None: of the latest policy that saw the pair
    rules: PairFilter | None = None  # only pairs these rules keep, whatever the run decided
    ids: tuple[str, ...] | None = None  # only these pairs

    def matches(self, *, held: bool = False) -> str:
        """The condition over a row of `pairs`. Bind exactly `bound(run_id)`.

        `held`: over a row of `parts.pairs` as `Database.pair_rows` gives it, asked with these rules and this search.
        StorageFault when there is no such verdict or no such view of the trainer.
        """
        conditions = _CONDITIONS | ({"search": _HELD_SEARCH} if held else {})
        wanted = ["run_id = $run_id", *(conditions[name] for name in self._plain())]
        if self.verdict is not None:
            wanted.append(VERDICTS[known(self.verdict, VERDICTS, "verdict")])
        if self.eye is not None:
            name = known(self.eye, EYE_CONDITIONS, "view of the trainer")
            wanted.append(eye_sql(name, at_policy=self.policy is not None))
        if self.rules is not None:
            condition = "meets" if held and over_texts(self.rules) else None
            wanted.append(f"({filter_sql(self.rules, 'rules_', condition=condition)}) IS NULL")
        return "\n    AND ".join(wanted)

    def tables(self) -> list[str]:
        """What the answer to a question about these pairs can change with, beside what else the question reads."""
        judged = self.verdict or self.search or self.eye or (self.rules is not None and self.rules.verdicts)
        named = {"notes": judged, "findings": self.finding, "pair_logps": self.eye, "topics": self.topic is not None}
        return ["pairs", *(table for table, reads in named.items() if reads)]

    def bound(self, run_id: str) -> dict[str, Any]:
        """The parameters of `matches()`, no more and no fewer."""
        rules = self.rules.bound("rules_") if self.rules is not None else {}
        eye = {"policy": self.policy} if self.eye is not None and self.policy is not None else {}
        return {"run_id": run_id, **self._plain(), **eye, **rules}

    def _plain(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in _CONDITIONS}
        given = {name: value for name, value in values.items() if value is not None and value != ""}
        return {name: list(value) if name == "ids" else value for name, value in given.items()}


def matching_rows(
    database: Database, run_id: str, query: PairQuery, sql: str, more: dict[str, Any] | None = None
) -> list[Row]:
    """All rows of a question over `parts.pairs` in which `{matches}` stands for a query, `more` bound beside its values.

    Answered from memory (see narrow.py), what the query itself finds in texts too; the question may read none.
    """
    asked, bound = sql.replace("{matches}", query.matches(held=True)), query.bound(run_id) | (more or {})
    return database.pair_rows(run_id, asked, bound, query.rules, query.search or None)
