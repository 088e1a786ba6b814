"""Which pairs are kept: the one implementation, in SQL. The recipe, the pages, the export and the fork all ask it.

A filter judges each pair by itself. A run may train on fewer: it samples what the filter keeps down to the pool's size,
and says so with the drop reason "not sampled".
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from storage import schema
from storage.catalogue import public_views
from storage.condition import alone, columns_of, condition_sql
from storage.sources import NOTE_COLUMNS, declared

NOT_SAMPLED = "not sampled"
# In the order in which the rules are asked: a pair is dropped for the first that refuses it.
REASONS = (
    "no score", "gap", "chosen score", "length", "repetition", "similarity", "duplicate", "verdict", "condition",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PairFilter:
    """The rules a pair must pass, with the names and meanings of the run's config section `filter`. None: no such rule.

    A rule about scores drops a pair that has none ("no score"): it cannot be shown to pass. The others drop a pair only
    for a number it has.
    """

    min_gap: float | None = 0.02  # the gap must be above it
    max_repetition: float | None = 0.5
    min_chosen_score: float | None = None
    max_length_ratio: float | None = None  # len(chosen) / len(rejected)
    min_length_ratio: float | None = None
    max_gap: float | None = None  # the gap must not be above it
    max_similarity: float | None = None
    drop_duplicates: bool = False
    verdicts: tuple[str, ...] = ()  # dropped if some reader's latest verdict is one of these
    where: str | None = None  # a condition over the columns of `pairs` that must be true

    def __post_init__(self) -> None:
        object.__setattr__(self, "verdicts", tuple(self.verdicts))
        object.__setattr__(self, "where", (self.where or "").strip() or None)

    def bound(self, prefix: str = "") -> dict[str, Any]:
        """The parameters of `filter_sql(self, prefix)`, no more and no fewer."""
        values = {name: value for name, value in asdict(self).items() if name not in {"drop_duplicates", "where"}}
        given = {name: value for name, value in values.items() if value is not None and value != ()}
        return {f"{prefix}{name}": list(value) if name == "verdicts" else value for name, value in given.items()}

    def columns(self) -> frozenset[str]:
        """The columns of `pairs` the rules look at."""
        named = {column for name in self.bound() for column in _LOOKS_AT[name]}
        named |= {"duplicate"} if self.drop_duplicates else set()
        return frozenset(named | (columns_of(self.where) if self.where else set()))


NO_RULES = PairFilter(min_gap=None, max_repetition=None)
_LOOKS_AT = {
    "min_gap": ("gap",),
    "max_gap": ("gap",),
    "min_chosen_score": ("chosen_score",),
    "max_length_ratio": ("len_chosen", "len_rejected"),
    "min_length_ratio": ("len_chosen", "len_rejected"),
    "max_repetition": ("repetition",),
    "max_similarity": ("similarity",),
    "verdicts": ("pair_id",),
}


def filter_sql(rules: PairFilter, prefix: str = "", *, condition: str | None = None) -> str:
    """A SQL expression over a row of `pairs`: the first rule that drops it, NULL if it is kept.

    Bind `rules.bound(prefix)`. It reads the view `notes` when verdicts count. `condition`: SQL that stands for what
    `rules.where` says of a row. StorageFault when `rules.where` is not one condition over the columns of `pairs`.
    """
    return _case(rules, {name: f"${name}" for name in rules.bound(prefix)}, prefix, condition)


def reason_code_sql(rules: PairFilter, *, condition: str | None = None) -> str:
    """`filter_sql` with a reason's place in REASONS for its name: counting a million numbers takes less than names."""
    return _case(rules, {name: f"${name}" for name in rules.bound()}, condition=condition, told=_code)


def _code(reason: str) -> str:
    return f"CAST({REASONS.index(reason)} AS UTINYINT)"


def condition_over(rules: PairFilter) -> tuple[frozenset[str], str]:
    """The columns the free condition of a filter names, and the condition as SQL. StorageFault as `filter_sql`."""
    return (columns_of(rules.where), condition_sql(rules.where)) if rules.where else (frozenset(), "true")


_NO_REASON = "CAST(NULL AS VARCHAR)"


def kept_sql(rules: PairFilter, run_id: str) -> str:
    """The same filter as a whole query for people: the ids of the pairs of a run that it keeps, values written out."""
    values = {name: _literal(value) for name, value in rules.bound().items()}
    of_run = f"SELECT pair_id\nFROM pairs\nWHERE run_id = {_literal(run_id)}"
    reason = _case(rules, values)
    return of_run if reason == _NO_REASON else f"{of_run} AND {reason} IS NULL"


def drop_reasons(pairs: Sequence[Any], rules: PairFilter, notes: Sequence[Any] = ()) -> list[str | None]:
    """The first rule that drops each of these records, None for one that is kept; of nothing but what is handed in.

    `notes` are all notes there are, oldest first, as a lab home keeps them.
    """
    if not pairs:
        return []
    rows = pa.Table.from_batches([schema.to_batch(pairs, type(pairs[0]))])
    rows = rows.append_column("run_id", pa.nulls(len(rows), pa.string())).append_column(
        "place", pa.array(range(len(rows)))
    )
    with alone() as connection:
        connection.execute("CREATE SCHEMA parts")
        connection.register("given", rows)
        connection.execute("CREATE TABLE parts.pairs AS SELECT * FROM given")
        connection.execute(f"CREATE TABLE parts.notes ({declared(NOTE_COLUMNS)})")
        if notes:
            connection.register("said", pa.Table.from_batches([schema.to_batch(notes, type(notes[0]))]))
            connection.execute("INSERT INTO parts.notes BY NAME SELECT * FROM said")
        connection.execute(public_views()["notes"].sql)
        found = connection.execute(f"SELECT {filter_sql(rules)} FROM parts.pairs ORDER BY place", rules.bound())
        return [reason for (reason,) in found.fetchall()]


def _case(
    rules: PairFilter,
    values: dict[str, str],
    prefix: str = "",
    condition: str | None = None,
    told: Callable[[str], str] = "'{}'".format,
) -> str:
    stated = list(_rules(rules, values, prefix))
    if rules.where:
        stated.append((f"{condition or condition_sql(rules.where)} IS NOT TRUE", "condition"))
    whens = [f"\n    WHEN {refuses} THEN {told(reason)}" for refuses, reason in stated]
    return f"CASE{''.join(whens)}\nEND" if whens else _NO_REASON


def _rules(rules: PairFilter, values: dict[str, str], prefix: str) -> Iterator[tuple[str, str]]:
    """What refuses a pair, and what that is called; in the order of REASONS. NaN is above every number in DuckDB."""
    unscored = {"min_gap": "gap", "max_gap": "gap", "min_chosen_score": "chosen_score"}
    missing = dict.fromkeys(column for name, column in unscored.items() if getattr(rules, name) is not None)
    if missing:
        yield " OR ".join(f"{column} IS NULL OR isnan({column})" for column in missing), "no score"
    for name, refuses, reason in _NUMBERS:
        if (value := values.get(f"{prefix}{name}")) is not None:
            yield refuses.format(value), reason
    if rules.drop_duplicates:
        yield "duplicate", "duplicate"
    if rules.verdicts:
        verdicts = values[f"{prefix}verdicts"]
        yield f"pair_id IN (SELECT pair_id FROM notes WHERE list_contains({verdicts}, verdict))", "verdict"


_NUMBERS = (
    ("min_gap", "gap <= {}", "gap"),
    ("max_gap", "gap > {}", "gap"),
    ("min_chosen_score", "chosen_score < {}", "chosen score"),
    ("max_length_ratio", "len_chosen > {} * len_rejected", "length"),
    ("min_length_ratio", "len_chosen < {} * len_rejected", "length"),
    ("max_repetition", "repetition > {} AND NOT isnan(repetition)", "repetition"),
    ("max_similarity", "similarity > {} AND NOT isnan(similarity)", "similarity"),
)


def _literal(value: Any) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    text = repr(float(value))
    # Up to 15 digits a decimal is that number exactly; with an exponent it is read as a double from the start.
    return text if "e" in text or sum(map(str.isdigit, text)) <= 15 else f"{text}e0"
