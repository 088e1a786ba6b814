"""Each way to choose and order pairs, against the same computed from the records."""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from statistics import fmean
from typing import Any

import pytest

from storage import StorageFault, Store, queries
from storage.database import Database
from storage.queries import PairFilter, PairQuery
from storage.queries.eye_conditions import EYE_CONDITIONS
from storage.queries.pairs import finding_kinds, pair_id_at, pair_topics, pairs_screen, run_of_pair
from storage.queries.telling import QUOTAS, Pick, telling_pairs
from storage.queries.verdicts import noted_pairs, verdict_counts, verdicts
from synpo_lab.config import FilterConfig
from synpo_lab.records import Finding, Note, Pair, PairLogp, Topic
from tests.reference_filter import drop_reason

TinyStore = Callable[..., Store]


@pytest.fixture
def database(tiny_store: TinyStore, small_run: list[Any]) -> Iterable[Database]:
    opened = Database(tiny_store(small_run))
    yield opened
    opened.close()


@pytest.fixture
def pairs(small_run: list[Any]) -> list[Pair]:
    return [record for record in small_run if isinstance(record, Pair)]


def of(kind: type, records: list[Any]) -> list[Any]:
    return [record for record in records if isinstance(record, kind)]


def found(database: Database, query: PairQuery, sort: str = "gap") -> list[str]:
    page = queries.pairs_page(database, "run", query, sort=sort, limit=1000)
    assert page.total == len(page.rows)
    return [row["pair_id"] for row in page.rows]


def margins(records: list[Any]) -> dict[str, tuple[float, float]]:
    """(margin, gamma) by pair, under the policy its round made."""
    return {
        logp.pair_id: (logp.beta * (logp.logp_chosen - logp.logp_rejected), logp.gamma)
        for logp in of(PairLogp, records)
        if logp.model != "M_0"
    }


def test_a_finding_shows_the_pairs_it_points_at(database: Database, small_run: list[Any]) -> None:
    pointed = {finding.pair_id for finding in of(Finding, small_run) if finding.kind == "much longer"}
    assert pointed
    assert set(found(database, PairQuery(finding="much longer"))) == pointed
    assert found(database, PairQuery(finding="nothing like it")) == []


@pytest.mark.parametrize("topic", [0, 1, 2, 3])
def test_a_topic_shows_the_pairs_of_its_prompts(
    database: Database, small_run: list[Any], pairs: list[Pair], topic: int
) -> None:
    prompts = {one.prompt_id for one in of(Topic, small_run) if one.topic == topic}
    expected = {pair.pair_id for pair in pairs if pair.prompt_id in prompts}
    assert set(found(database, PairQuery(topic=topic))) == expected
    assert bool(expected) is (topic < 3)


NOTES = [
    ("chosen", "ana", 0),
    ("rejected", "ana", 0),  # changed her mind: this one counts
    ("tie", "bo", 0),
    ("bad", "ana", 1),
    ("chosen", "bo", 2),
    ("tie", "ana", 3),
    ("", "ana", 3),  # took it back
]


@pytest.mark.parametrize(
    ("verdict", "expected"),
    [("chosen", {2}), ("rejected", {0}), ("tie", {0}), ("bad", {1}), ("any", {0, 1, 2})],
)
def test_a_verdict_shows_the_pairs_some_reader_gave_it_last(
    database: Database, pairs: list[Pair], verdict: str, expected: set[int]
) -> None:
    for at, (given, author, which) in enumerate(NOTES):
        database.store.append_note(Note(pairs[which].pair_id, given, "", author, float(at)))  # type: ignore[arg-type]
    assert set(found(database, PairQuery(verdict=verdict))) == {pairs[i].pair_id for i in expected}
    noted = {pairs[i].pair_id for i in (0, 1, 2)}
    assert set(found(database, PairQuery(verdict="none"))) == {pair.pair_id for pair in pairs} - noted


def test_before_any_verdict_every_pair_has_none(database: Database, pairs: list[Pair]) -> None:
    assert len(found(database, PairQuery(verdict="none"))) == len(pairs)
    assert found(database, PairQuery(verdict="any")) == []


RULES = [FilterConfig(), FilterConfig(min_gap=0.3), FilterConfig(min_gap=-2, max_repetition=0.2)]


@pytest.mark.parametrize("rules", RULES)
def test_rules_show_what_the_trainers_filter_keeps(database: Database, pairs: list[Pair], rules: FilterConfig) -> None:
    expected = {pair.pair_id for pair in pairs if drop_reason(pair, rules) is None}
    assert set(found(database, PairQuery(rules=PairFilter(**rules.model_dump())))) == expected
    later = {pair.pair_id for pair in pairs if drop_reason(pair, rules) is None and pair.iteration == 2}
    both = PairQuery(rules=PairFilter(**rules.model_dump()), iteration=2)
    assert set(found(database, both)) == later


def test_ids_show_those_pairs_and_no_other_run_s(database: Database, pairs: list[Pair]) -> None:
    wanted = (pairs[5].pair_id, "nobody", pairs[1].pair_id)
    assert set(found(database, PairQuery(ids=wanted))) == {pairs[5].pair_id, pairs[1].pair_id}
    assert found(database, PairQuery(ids=())) == []
    assert queries.pairs_page(database, "another", PairQuery(ids=wanted)).total == 0


@pytest.mark.parametrize("eye", ["satisfied", "short of gamma", "ranked wrongly"])
def test_the_trainer_s_eye_sorts_pairs_by_their_margin(database: Database, small_run: list[Any], eye: str) -> None:
    told = {
        "satisfied": lambda margin, gamma: margin >= gamma,
        "short of gamma": lambda margin, gamma: 0 < margin < gamma,
        "ranked wrongly": lambda margin, gamma: margin <= 0,
    }[eye]
    expected = {pair_id for pair_id, (margin, gamma) in margins(small_run).items() if told(margin, gamma)}
    assert set(found(database, PairQuery(eye=eye))) == expected


@pytest.mark.parametrize("eye", list(EYE_CONDITIONS))
def test_every_named_condition_of_the_eye_can_be_asked(database: Database, pairs: list[Pair], eye: str) -> None:
    assert set(found(database, PairQuery(eye=eye))) <= {pair.pair_id for pair in pairs}


def test_unknown_names_are_refused_with_those_there_are(database: Database) -> None:
    with pytest.raises(StorageFault, match="rejected, tie"):
        found(database, PairQuery(verdict="good"))
    with pytest.raises(StorageFault, match="ranked wrongly"):
        found(database, PairQuery(eye="blind"))


def disagreement(pair: Pair, known: dict[str, tuple[float, float]], usual: float) -> float:
    opinions = [
        pair.gap / (abs(pair.gap) + usual),
        (pair.len_chosen - pair.len_rejected) / (pair.len_chosen + pair.len_rejected),
    ]
    if pair.pair_id in known:
        margin, gamma = known[pair.pair_id]
        opinions.append(margin / (abs(margin) + gamma))
    return max(opinions) - min(opinions)


@pytest.mark.parametrize("sort", ["margin", "margin-up"])
def test_pairs_are_sorted_by_margin_with_unseen_ones_last(
    database: Database, small_run: list[Any], pairs: list[Pair], sort: str
) -> None:
    known = margins(small_run)
    sign = -1 if sort == "margin" else 1
    key = {p.pair_id: sign * known[p.pair_id][0] if p.pair_id in known else math.inf for p in pairs}
    assert found(database, PairQuery(), sort) == sorted(key, key=lambda pair_id: (key[pair_id], pair_id))


def test_pairs_are_sorted_by_disagreement(database: Database, small_run: list[Any], pairs: list[Pair]) -> None:
    known, usual = margins(small_run), fmean(abs(pair.gap) for pair in pairs)
    key = {pair.pair_id: round(-disagreement(pair, known, usual), 9) for pair in pairs}
    shown = [key[pair_id] for pair_id in found(database, PairQuery(), "disagreement")]
    assert shown == sorted(key.values())


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        ("length-change", lambda p: p.len_rejected - p.len_chosen),
        ("length-change-up", lambda p: p.len_chosen - p.len_rejected),
        ("similarity", lambda p: -p.similarity),
        ("similarity-up", lambda p: p.similarity),
    ],
)
def test_pairs_are_sorted_by_their_own_numbers(
    database: Database, pairs: list[Pair], sort: str, key: Callable[[Pair], float]
) -> None:
    expected = [p.pair_id for p in sorted(pairs, key=lambda p: (key(p), p.pair_id))]
    assert found(database, PairQuery(), sort) == expected


@pytest.mark.parametrize("sort", list(queries.PAIR_SORTS))
def test_every_order_is_walked_pair_by_pair_as_it_is_listed(
    tiny_store: TinyStore, pairs: list[Pair], small_run: list[Any], sort: str
) -> None:
    unscored = [Pair(3, f"u{i}", "p", "", "c", "r", "", "", None, None, None, 0, 0, 0.0, True, None) for i in range(3)]
    database = Database(tiny_store([*small_run, *unscored]))
    listed = found(database, PairQuery(), sort)
    for position, pair_id in list(enumerate(listed))[::7] + list(enumerate(listed))[-4:]:
        around = queries.neighbours(database, "run", pair_id, PairQuery(), sort=sort)
        assert around == queries.Neighbours(
            position,
            len(listed),
            listed[position - 1] if position else None,
            listed[position + 1] if position + 1 < len(listed) else None,
        )
    database.close()


def test_pairs_come_in_the_order_they_are_named_in(database: Database, pairs: list[Pair]) -> None:
    wanted = [pairs[i].pair_id for i in (7, 2, 9, 0)]
    assert found(database, PairQuery(ids=tuple(wanted)), "given") == wanted


# The twenty that tell most


def test_the_twenty_that_tell_most_are_twenty_each_once_and_always_the_same(database: Database) -> None:
    picks = telling_pairs(database, "run", PairQuery())
    ids = [pick.pair_id for pick in picks]
    assert len(ids) == len(set(ids)) == 20
    assert telling_pairs(database, "run", PairQuery()) == picks
    assert found(database, PairQuery(), "telling") == ids
    around = queries.neighbours(database, "run", ids[4], PairQuery(), sort="telling")
    assert around == queries.Neighbours(4, 20, ids[3], ids[5])


def test_the_twenty_are_near_the_cut_extreme_disagreed_on_and_typical(
    database: Database, small_run: list[Any], pairs: list[Pair]
) -> None:
    picks = telling_pairs(database, "run", PairQuery(rules=PairFilter(min_gap=-5, max_repetition=1)))
    kinds = [pick.kind for pick in picks]
    assert kinds == sorted(kinds, key=list(QUOTAS).index)
    near = [pick.pair_id for pick in picks if pick.kind == "cut"]
    assert set(near[:4]) == {p.pair_id for p in sorted(pairs, key=lambda p: (abs(p.gap + 5), p.pair_id))[:4]}
    widest = sorted((p for p in pairs if p.pair_id not in near), key=lambda p: (-p.gap, p.pair_id))
    assert [pick.pair_id for pick in picks if pick.kind == "widest"][:2] == [p.pair_id for p in widest[:2]]
    by_id, known, usual = {p.pair_id: p for p in pairs}, margins(small_run), fmean(abs(p.gap) for p in pairs)
    for pick in picks:
        if pick.kind == "disagreement":
            assert pick.value == pytest.approx(disagreement(by_id[pick.pair_id], known, usual))
            assert pick.value >= 0.5


def test_a_typical_pair_is_its_topic_s_medoid(database: Database, small_run: list[Any], pairs: list[Pair]) -> None:
    place = {one.prompt_id: one for one in of(Topic, small_run)}
    picks = {pick.group: pick for pick in telling_pairs(database, "run", PairQuery()) if pick.kind == "typical"}
    assert picks
    for label, pick in picks.items():
        mine = [p for p in pairs if place[p.prompt_id].label == label]
        assert pick.value == len(mine)

        def spread(pair: Pair, mine: list[Pair] = mine) -> float:
            here = place[pair.prompt_id]
            return sum(math.dist((here.x, here.y), (place[p.prompt_id].x, place[p.prompt_id].y)) ** 2 for p in mine)

        assert spread(next(p for p in mine if p.pair_id == pick.pair_id)) == pytest.approx(min(map(spread, mine)))


def test_without_scores_topics_and_training_there_still_is_something_to_read(tiny_store: TinyStore) -> None:
    made = [
        Pair(1, f"u{i}", f"p{i}", "", "c", "r", "", "", None, None, None, i, 9, 0.0, True, None, i / 30)
        for i in range(30)
    ]
    opened = Database(tiny_store(made))
    picks = telling_pairs(opened, "run", PairQuery())
    assert len({pick.pair_id for pick in picks}) == 20
    assert {pick.kind for pick in picks} == {"longer", "shorter", "typical", "unlike"}
    assert {pick.group for pick in picks if pick.kind == "typical"} == {
        "chosen longer, more alike",
        "chosen longer, less alike",
        "chosen not longer, less alike",
    }
    assert telling_pairs(opened, "run", PairQuery(ids=("u3",))) == [
        Pick("u3", "shorter", 6.0),
    ]
    assert telling_pairs(opened, "another", PairQuery()) == []
    opened.close()


# What belongs to a pair


def test_a_pair_comes_with_its_log_probs_findings_and_topic(
    database: Database, small_run: list[Any], pairs: list[Pair]
) -> None:
    for finding in of(Finding, small_run)[:3]:
        detail = queries.pair(database, "run", finding.pair_id)
        assert detail is not None
        assert detail.findings == [{"kind": finding.kind, "value": finding.value, "detail": finding.detail}]
    kept = next(pair for pair in pairs if pair.kept)
    detail = queries.pair(database, "run", kept.pair_id)
    assert detail is not None
    assert [row["model"] for row in detail.logps] == ["M_0", f"M_{kept.iteration}"]
    assert detail.logps[1]["margin"] == pytest.approx(margins(small_run)[kept.pair_id][0])
    topic = next(one for one in of(Topic, small_run) if one.prompt_id == kept.prompt_id)
    assert detail.topic == {"topic": topic.topic, "label": topic.label}


# Verdicts


def test_verdicts_come_with_the_scorer_s_gap_and_are_counted(database: Database, pairs: list[Pair]) -> None:
    for at, (given, author, which) in enumerate(NOTES):
        database.store.append_note(Note(pairs[which].pair_id, given, "", author, float(at)))  # type: ignore[arg-type]
    database.store.append_note(Note("of no run", "bad", "", "ana", 1.0))
    said = {(row["author"], row["pair_id"]): (row["verdict"], row["gap"]) for row in verdicts(database, "run")}
    assert said == {
        ("ana", pairs[0].pair_id): ("rejected", pairs[0].gap),
        ("bo", pairs[0].pair_id): ("tie", pairs[0].gap),
        ("ana", pairs[1].pair_id): ("bad", pairs[1].gap),
        ("bo", pairs[2].pair_id): ("chosen", pairs[2].gap),
    }
    assert verdict_counts(database, "run") == {"rejected": 1, "tie": 1, "bad": 1, "chosen": 1}
    rows = [row for batch in noted_pairs(database, "run") for row in batch.to_pylist()]
    assert len(rows) == 5  # the one taken back is among them
    assert {row["pair_id"] for row in rows} == {pairs[i].pair_id for i in range(4)}
    assert rows[0]["prompt"] in {pair.prompt for pair in pairs}


@pytest.mark.parametrize("sort", ["gap", "margin-up", "telling"])
@pytest.mark.parametrize("offset", [0, 7, 14, 21, 700])
def test_a_screen_of_pairs_knows_where_a_turn_leads(database: Database, sort: str, offset: int) -> None:
    listed = found(database, PairQuery(), sort)
    screen = pairs_screen(database, "run", PairQuery(), sort=sort, rows=7, offset=offset, excerpt=10)
    assert [row["pair_id"] for row in screen.page.rows] == listed[offset : offset + 7]
    assert screen.page.total == len(listed)
    if offset < len(listed):
        assert screen.previous_id == (listed[max(0, offset - 7)] if offset else None)
        assert screen.next_id == (listed[offset + 7] if offset + 7 < len(listed) else None)
    assert pair_id_at(database, "run", PairQuery(), sort=sort, position=offset) == next(iter(listed[offset:]), None)


def test_a_pair_s_run_is_found_by_its_id_or_its_prompt_s(tiny_store: TinyStore, small_run: list[Any]) -> None:
    tiny_store(run_id="another")
    opened = Database(tiny_store(small_run))
    one = of(Pair, small_run)[0]
    assert run_of_pair(opened, pair_id=one.pair_id) == run_of_pair(opened, prompt_id=one.prompt_id) == "run"
    assert run_of_pair(opened, pair_id="nobody") is None
    assert run_of_pair(opened) is None
    opened.close()


def test_findings_and_topics_of_the_pairs_are_counted(database: Database, small_run: list[Any]) -> None:
    (kind,) = finding_kinds(database, "run")
    assert kind == {"kind": "much longer", "pairs": len(of(Finding, small_run))}
    topics = {row["topic"]: row["prompts"] for row in pair_topics(database, "run")}
    assert topics == Counter(one.topic for one in of(Topic, small_run))


def asked_sql(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of DuckDB from now on."""
    told, ask = [], database._rows

    def spy(sql: str, parameters: Any) -> Any:
        told.append(sql)
        return ask(sql, parameters)

    monkeypatch.setattr(database, "_rows", spy)
    return told


def test_the_twenty_are_picked_once_until_a_pair_comes(
    database: Database, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = telling_pairs(database, "run", PairQuery(kept=True))
    told = asked_sql(database, monkeypatch)
    assert telling_pairs(database, "run", PairQuery(kept=True)) == first
    assert not any("medoids" in sql for sql in told)
    assert telling_pairs(database, "run", PairQuery()) != first
    widest = replace(pairs[0], pair_id="widest", gap=1e6, kept=True, drop_reason=None)
    database.store.run("run").append([widest])
    assert "widest" in [pick.pair_id for pick in telling_pairs(database, "run", PairQuery(kept=True))]


@pytest.mark.parametrize(
    "query",
    [
        PairQuery(search="Word1"),
        PairQuery(rules=PairFilter(where="prompt LIKE '%word1%'")),
        PairQuery(search="word", rules=PairFilter(min_gap=0.1, where="chosen <> '' AND iteration = 2")),
    ],
)
def test_what_is_found_in_texts_is_held_for_the_next_question(
    database: Database, query: PairQuery, monkeypatch: pytest.MonkeyPatch
) -> None:
    matches, bound = query.matches(), query.bound("run")
    by_texts = {row["pair_id"] for row in database.rows(f"SELECT pair_id FROM pairs WHERE {matches}", bound)}
    told = asked_sql(database, monkeypatch)
    assert set(found(database, query)) == by_texts
    assert by_texts
    assert queries.neighbours(database, "run", next(iter(by_texts)), query) is not None
    of_pairs = [sql for sql in told if "narrow.pairs" in sql]
    assert of_pairs
    assert not any("lower(prompt)" in sql or "LIKE" in sql or "parts.pairs" in sql for sql in told)


def test_a_search_looks_again_when_pairs_have_come(database: Database, pairs: list[Pair]) -> None:
    query = PairQuery(search="NOBODY said this")
    assert found(database, query) == []
    database.store.run("run").append([replace(pairs[0], pair_id="new", prompt="nobody Said This before")])
    assert found(database, query) == ["new"]


def test_a_note_without_a_verdict_is_found_by_having_one_and_by_its_words(
    database: Database, pairs: list[Pair]
) -> None:
    one, other, third = (pair.pair_id for pair in pairs[:3])
    for note in [
        Note(one, "", "The chosen answer is Évasive.", "ana", 1.0),
        Note(other, "tie", "", "ana", 1.0),
        Note(third, "bad", "first words", "ana", 1.0),
        Note(third, "bad", " ", "ana", 2.0),
    ]:
        database.store.append_note(note)
    assert found(database, PairQuery(verdict="note")) == [one]
    assert found(database, PairQuery(search="is évasive")) == [one]
    assert found(database, PairQuery(search="first words")) == []  # it was taken back
    matches = PairQuery(search="is évasive").matches()
    rows = database.rows(f"SELECT pair_id FROM pairs WHERE {matches}", PairQuery(search="is évasive").bound("run"))
    assert [row["pair_id"] for row in rows] == [one]
