"""The trainer's eye and the disagreement board, against the same sums in Python."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from storage import Store
from storage.database import Database
from storage.errors import StorageFault
from storage.queries import PairQuery, pairs_page
from storage.queries.eye import (
    EYE_SORTS,
    EyeCount,
    agreement_cells,
    eye_counts,
    eye_histogram,
    eye_page,
    eye_points,
    opinion_points,
)
from storage.queries.eye_conditions import JUDGES, LOOKS, QUADRANTS, quadrant
from synpo_lab.records import Note, Pair, PairLogp, content_id

TinyStore = Callable[..., Store]
Margins = dict[tuple[int, str], tuple[float, float, PairLogp, PairLogp]]  # (t, pair): under M_0, under M_t


def a_pair(
    name: str, *, iteration: int = 1, gap: float | None = 0.5, kept: bool = True, sides: Any = ("xx", "x")
) -> Pair:
    chosen, rejected = sides
    return Pair(
        iteration, name, f"prompt of {name}", f"Tell me of {name}", f"c{name}", f"r{name}", chosen, rejected, 0.9,
        0.4, gap, len(chosen), len(rejected), 0.0, kept, None if kept else "gap",
    )  # fmt: skip


@pytest.fixture
def records() -> list[Any]:
    rng = random.Random(11)
    pairs = [
        a_pair(
            content_id(i), iteration=1 + i % 2, gap=rng.choice([None, -0.2, 0.0, 0.4, float("nan")]),
            kept=i % 3 > 0, sides=("w" * rng.randint(1, 4), "w" * rng.randint(1, 4)),
        )
        for i in range(80)
    ]  # fmt: skip
    logps = [
        PairLogp(t, pair.pair_id, model, -rng.random(), -rng.random(), 2.0 * t, 0.5)
        for t in (1, 2)
        for pair in pairs
        if pair.iteration <= t and rng.random() < 0.8
        for model in ("M_0", f"M_{t}")
    ]
    return [*pairs, *logps]


@pytest.fixture
def store(tiny_store: TinyStore, records: list[Any]) -> Store:
    other = [replace(r, logp_chosen=-9.0) if isinstance(r, PairLogp) else r for r in records]
    tiny_store(other, run_id="another")  # the same ids, another run's numbers
    made = tiny_store(records)
    for place, pair in enumerate(pairs_of(records)[:30]):
        verdict = ("chosen", "rejected", "tie", "bad", "")[place % 5]
        made.append_note(Note(pair.pair_id, verdict, "", "ann", 1.0))  # type: ignore[arg-type]
        made.append_note(Note(pair.pair_id, "chosen", "", "bob", 1.0)) if place % 2 else None
    return made


@pytest.fixture
def database(store: Store) -> Iterator[Database]:
    database = Database(store)
    yield database
    database.close()


def pairs_of(records: list[Any]) -> list[Pair]:
    return [record for record in records if isinstance(record, Pair)]


def margins(records: list[Any]) -> Margins:
    logps = {(x.iteration, x.pair_id, x.model): x for x in records if isinstance(x, PairLogp)}
    found = {}
    for (t, pair_id, model), after in logps.items():
        if model != "M_0":
            before = logps[t, pair_id, "M_0"]
            both = (after.beta * (x.logp_chosen - x.logp_rejected) for x in (before, after))
            found[t, pair_id] = (*both, before, after)
    return found  # type: ignore[return-value]


TOLD: dict[str, Callable[[float, float, PairLogp, PairLogp], bool]] = {
    "satisfied": lambda before, after, m0, mt: after > mt.gamma,
    "short of gamma": lambda before, after, m0, mt: 0 < after <= mt.gamma,
    "ranked wrongly": lambda before, after, m0, mt: after <= 0,
    "learned": lambda before, after, m0, mt: before <= 0 < after,
    "unlearned": lambda before, after, m0, mt: after <= 0 < before,
    "right before and after": lambda before, after, m0, mt: min(before, after) > 0,
    "wrong before and after": lambda before, after, m0, mt: max(before, after) <= 0,
    "chosen less likely": lambda before, after, m0, mt: mt.logp_chosen < m0.logp_chosen,
    "seen by the policy": lambda before, after, m0, mt: True,
}


def test_a_hand_worked_margin(tiny_store: TinyStore) -> None:
    """beta 10, M_0: -1.0 and -0.9 -> 10 x -0.1 = -1; M_1: -0.7 and -0.9 -> 10 x 0.2 = 2 > gamma 1.6: learned."""
    logps = [PairLogp(1, "p", "M_0", -1.0, -0.9, 10.0, 1.6), PairLogp(1, "p", "M_1", -0.7, -0.9, 10.0, 1.6)]
    database = Database(tiny_store([a_pair("p"), *logps]))
    (row,) = eye_page(database, "run", 1).rows
    assert (row["margin_0"], row["margin"]) == pytest.approx((-1.0, 2.0))
    (told,) = eye_counts(database, "run")
    assert (told.satisfied, told.learned, told.unlearned, told.ranked_wrongly, told.right_0) == (1, 1, 0, 0, 0)
    assert (told.margin, told.margin_0, told.chosen_less_likely) == pytest.approx((2.0, -1.0, 0))
    database.close()


@pytest.mark.parametrize("kept", [True, False, None])
def test_counts_say_what_python_counts(database: Database, records: list[Any], kept: bool | None) -> None:
    wanted = {pair.pair_id for pair in pairs_of(records) if kept is None or pair.kept == kept}
    for told in eye_counts(database, "run", kept=kept):
        here = [values for (t, pair_id), values in margins(records).items() if t == told.policy and pair_id in wanted]
        assert told.pairs == len(here) > 0
        for look, holds in TOLD.items():
            assert getattr(told, look.replace(" ", "_")) == sum(holds(*values) for values in here), look
        assert told.right_0 == sum(before > 0 for before, *_ in here)
        assert told.margin == pytest.approx(sum(after for _, after, *_ in here) / len(here))
        assert told.satisfied + told.short_of_gamma + told.ranked_wrongly == told.pairs


def test_flips_are_counted_alike_from_either_side(tiny_store: TinyStore, records: list[Any]) -> None:
    """Exchange M_0 and M_t: what was learned is unlearned. Exchange the sides: so it is as well."""

    def counted(run_id: str, change: Callable[[PairLogp], PairLogp]) -> list[EyeCount]:
        changed = [change(record) if isinstance(record, PairLogp) else record for record in records]
        database = Database(tiny_store(changed, run_id=run_id))
        try:
            return eye_counts(database, run_id, kept=None)
        finally:
            database.close()

    plain = counted("plain", lambda x: x)
    models = counted("models", lambda x: replace(x, model=f"M_{x.iteration}" if x.model == "M_0" else "M_0"))
    sides = counted("sides", lambda x: replace(x, logp_chosen=x.logp_rejected, logp_rejected=x.logp_chosen))
    flips = [(one.learned, one.unlearned) for one in plain]
    assert flips == [(one.unlearned, one.learned) for one in models]
    assert flips == [(one.unlearned, one.learned) for one in sides]
    assert all(min(flip) > 0 for flip in flips)


@pytest.mark.parametrize("look", LOOKS)
def test_a_look_opens_the_rows_it_counts(database: Database, records: list[Any], look: str) -> None:
    kept = {pair.pair_id for pair in pairs_of(records) if pair.kept}
    for t in (1, 2):
        expected = {key for (at, key), values in margins(records).items() if at == t and TOLD[look](*values)}
        rows = eye_page(database, "run", t, kept=None, look=look, limit=200)
        assert {row["pair_id"] for row in rows.rows} == expected
        assert rows.total == len(expected)
        opened = pairs_page(database, "run", PairQuery(eye=look, policy=t), limit=200)
        assert {row["pair_id"] for row in opened.rows} == expected
        opened = pairs_page(database, "run", PairQuery(eye=look, policy=t, kept=True), limit=200)
        assert {row["pair_id"] for row in opened.rows} == expected & kept


def test_without_a_policy_the_latest_that_saw_the_pair_is_meant(database: Database, records: list[Any]) -> None:
    latest: dict[str, float] = {}
    for (_, pair_id), (_, after, *_) in sorted(margins(records).items(), key=lambda item: item[0][0]):
        latest[pair_id] = after
    opened = pairs_page(database, "run", PairQuery(eye="ranked wrongly"), limit=200)
    assert {row["pair_id"] for row in opened.rows} == {key for key, margin in latest.items() if margin <= 0}


@pytest.mark.parametrize("sort", EYE_SORTS)
def test_pages_follow_one_another_in_order(database: Database, sort: str) -> None:
    whole = eye_page(database, "run", 2, kept=None, sort=sort, limit=500)
    paged = [
        eye_page(database, "run", 2, kept=None, sort=sort, limit=7, offset=at).rows for at in range(0, whole.total, 7)
    ]
    assert [row["pair_id"] for page in paged for row in page] == [row["pair_id"] for row in whole.rows]
    column, sign = {"margin-up": ("margin", 1), "margin": ("margin", -1), "before-up": ("margin_0", 1)}.get(
        sort, ("key", 1)
    )
    values = [sign * row[column] for row in whole.rows if row[column] is not None and row[column] == row[column]]
    assert values == sorted(values)
    assert eye_page(database, "run", 2, kept=None, sort=sort, offset=10_000).total == whole.total


def test_the_histogram_holds_every_margin_once(database: Database, records: list[Any]) -> None:
    here = [values for (t, _), values in margins(records).items() if t == 2]
    rows = eye_histogram(database, "run", 2, kept=None, bins=10)
    assert sum(row["before"] for row in rows) == sum(row["after"] for row in rows) == len(here)
    for row in rows[1:-1]:
        inside = [after for _, after, *_ in here if row["left"] <= after < row["left"] + row["width"]]
        assert row["after"] == len(inside)
    assert len(eye_points(database, "run", 2, kept=None, limit=5)) == 5


def test_nothing_is_said_of_a_run_nobody_looked_at(tiny_store: TinyStore) -> None:
    database = Database(tiny_store([a_pair("p")]))
    assert eye_counts(database, "run") == []
    assert eye_page(database, "run", 1).total == 0
    assert eye_histogram(database, "run", 1) == eye_points(database, "run", 1) == []
    cells, judged = agreement_cells(database, "run")
    assert judged == {"label": 1, "scorer": 1, "policy": 0, "training": 0, "length": 1, "readers": 0}
    assert sum(cell.both for cell in cells) == 3  # of the label, the scorer and length
    database.close()


def opinions(records: list[Any]) -> dict[str, dict[str, int]]:
    """By judge and pair: 1 for the chosen side, -1 for the rejected one, 0 for neither."""

    def sign(value: float) -> int:
        return (value > 0) - (value < 0)

    found: dict[str, dict[str, int]] = {judge: {} for judge in JUDGES}
    for pair in pairs_of(records):
        found["label"][pair.pair_id] = 1
        if pair.gap is not None and pair.gap == pair.gap:
            found["scorer"][pair.pair_id] = sign(pair.gap)
        found["length"][pair.pair_id] = sign(pair.len_chosen - pair.len_rejected)
    for (_, key), (before, after, *_) in sorted(margins(records).items(), key=lambda item: item[0][0]):
        found["policy"][key], found["training"][key] = sign(after), sign(after - before)
    votes = {"chosen": 1, "rejected": -1, "tie": 0}
    for place, pair in enumerate(pairs_of(records)[:30]):
        said = [("chosen", "rejected", "tie", "bad", "")[place % 5], *(["chosen"] if place % 2 else [])]
        if counted := [votes[word] for word in said if word in votes]:
            found["readers"][pair.pair_id] = sign(sum(counted))
    return found


def test_agreement_is_what_python_counts(database: Database, records: list[Any]) -> None:
    told = opinions(records)
    cells, judged = agreement_cells(database, "run")
    assert judged == {judge: len(said) for judge, said in told.items()}
    for cell in cells:
        both = [(told[cell.one][key], told[cell.other][key]) for key in told[cell.one].keys() & told[cell.other].keys()]
        expected = [both.count(x) for x in ((1, 1), (1, -1), (-1, 1), (-1, -1))]
        assert [cell.both, cell.first, cell.second, cell.neither] == expected, (cell.one, cell.other)
        assert cell.ties == sum(0 in x for x in both)


def test_every_quadrant_opens_its_rows(database: Database, records: list[Any]) -> None:
    told, sides = opinions(records), {"chosen": 1, "rejected": -1}
    for one, other in combinations(JUDGES, 2):
        for a, b in ((a, b) for a in sides for b in sides):
            expected = {
                key
                for key in told[one].keys() & told[other].keys()
                if (told[one][key], told[other][key]) == (sides[a], sides[b])
            }
            opened = pairs_page(database, "run", PairQuery(eye=quadrant(one, a, other, b)), limit=200)
            assert {row["pair_id"] for row in opened.rows} == expected
    assert len(QUADRANTS) == 60


def test_points_of_two_judges_are_their_own_numbers(database: Database, records: list[Any]) -> None:
    pairs = {pair.pair_id: pair for pair in pairs_of(records)}
    points = opinion_points(database, "run", "scorer", "length", kept=None, limit=500)
    assert {p["pair_id"]: (p["x"], p["y"]) for p in points} == {
        key: (pair.gap, pair.len_chosen - pair.len_rejected)
        for key, pair in pairs.items()
        if pair.gap is not None and pair.gap == pair.gap
    }
    assert {p["pair_id"] for p in opinion_points(database, "run", "policy", "scorer", policy=1, iteration=1)} <= {
        key for t, key in margins(records) if t == 1
    }


def test_an_unknown_look_or_judge_is_refused_with_those_there_are(database: Database) -> None:
    with pytest.raises(StorageFault, match="ranked wrongly"):
        eye_page(database, "run", 1, look="1=1")
    with pytest.raises(StorageFault, match="scorer"):
        opinion_points(database, "run", "moon", "length")
