"""Questions about topics, drift and lineage, against the same worked by hand or from the records."""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from statistics import fmean, stdev
from typing import Any

import pytest

from storage import StorageFault, Store
from storage.database import Database
from storage.queries.drift import closest_to_evaluation, prompt_drift, spread
from storage.queries.stories import KINDS, ORDERS, StoryQuery, beside, kind_of, pair_logps_of, stories, told_kinds
from storage.queries.topics import map_points, topic_labels, topic_results, topic_shares, topic_sizes
from synpo_lab.records import EvalResult, Pair, PairLogp, Prompt, Response, Score, Seed, Topic, content_id

TinyStore = Callable[..., Store]


def of(kind: type, records: list[Any]) -> list[Any]:
    return [record for record in records if isinstance(record, kind)]


@pytest.fixture
def database(tiny_store: TinyStore, small_run: list[Any]) -> Iterator[Database]:
    opened = Database(tiny_store(small_run))
    yield opened
    opened.close()


def evaluated(t: int, prompt_id: str, score: float, suite: str = "pocket") -> EvalResult:
    winner = "a" if score > 0.5 else "tie" if score == 0.5 else "b"
    return EvalResult(t, suite, prompt_id, f"M_{t}", "M_0", f"{t}{prompt_id}", "o", score, 0.5, winner, 5, 5)  # type: ignore[arg-type]


def placed(prompt_id: str, topic: int, **more: Any) -> Topic:
    values: dict[str, Any] = {"kind": "evaluation", "iteration": 0, "novelty": None, "overlap": None} | more
    return Topic(prompt_id=prompt_id, topic=topic, label=f"t{topic}", x=0.0, y=0.0, **values)


# Topics


def test_which_topics_got_worse_by_hand(tiny_store: TinyStore) -> None:
    """Topic 0: prompts a .8 -> .4 and b .6 -> .6: mean change -.2, se = stdev(-.4, 0) / sqrt(2) = .2; a was won and is
    lost. Topic 1: c .5 -> .9, +.4."""
    results = [evaluated(1, "a", 0.8), evaluated(1, "b", 0.6), evaluated(1, "c", 0.5)]
    results += [
        evaluated(2, "a", 0.4),
        evaluated(2, "b", 0.6),
        evaluated(2, "c", 0.9),
        evaluated(2, "a", 0.0, "validation"),
    ]
    store = tiny_store([placed("a", 0), placed("b", 0), placed("c", 1), *results])
    worse, better, *first = topic_results(Database(store), "run")
    assert (worse.iteration, worse.before, worse.topic, worse.label, worse.n) == (2, 1, 0, "t0", 2)
    assert (worse.score, worse.win_rate) == (pytest.approx(0.5), 0.5)
    assert (worse.score_change, worse.score_change_se) == (pytest.approx(-0.2), pytest.approx(0.2))
    assert worse.win_change == -0.5
    assert (better.topic, better.score_change, better.win_change) == (1, pytest.approx(0.4), 0.5)
    assert better.score_change_se is None
    assert {(row.iteration, row.before, row.score_change) for row in first} == {(1, None, None)}


def test_a_prompt_tested_in_one_iteration_only_has_no_change(tiny_store: TinyStore) -> None:
    store = tiny_store([placed("a", 0), evaluated(1, "b", 0.1), evaluated(2, "a", 0.9)])
    (row,) = topic_results(Database(store), "run")
    assert (row.n, row.before, row.score_change) == (1, 1, None)


def test_topics_are_counted_by_kind(tiny_store: TinyStore) -> None:
    rows = [
        placed("a", 0),
        placed("s", 0, kind="seed"),
        placed("b", 1, kind="written", iteration=1, novelty=0.5, overlap=0.2),
    ]
    rows += [placed("c", 1, kind="written", iteration=2, novelty=0.1, overlap=0.9)]
    store = tiny_store(rows)
    first, second = topic_sizes(Database(store), "run")
    assert (first.prompts, first.seeds, first.evaluation, first.novelty, first.overlap) == (0, 1, 1, None, None)
    assert (second.prompts, second.novelty, second.overlap) == (2, pytest.approx(0.3), 0.9)
    assert [row["prompts"] for row in topic_labels(Database(store), "run")] == [2, 2]


def test_shares_of_a_round_add_up_to_one(database: Database, small_run: list[Any]) -> None:
    shares = topic_shares(database, "run")
    counts = Counter((one.iteration, one.topic) for one in of(Topic, small_run))
    assert {(one.iteration, one.topic): one.prompts for one in shares} == counts
    totals: defaultdict[int, float] = defaultdict(float)
    for one in shares:
        totals[one.iteration] += one.share
    assert list(totals.values()) == pytest.approx([1, 1])


def test_the_map_is_an_even_sample_that_is_always_the_same(database: Database, small_run: list[Any]) -> None:
    texts = {one.prompt_id: one.text for one in of(Prompt, small_run)}
    every = map_points(database, "run", excerpt=1000)
    assert {(one.prompt_id, one.text) for one in every} == {
        (one.prompt_id, texts[one.prompt_id]) for one in of(Topic, small_run)
    }
    some = map_points(database, "run", limit=5)
    assert len(some) == 5
    assert some == map_points(database, "run", limit=5)
    assert {one.topic for one in map_points(database, "run", topic=1)} == {1}
    assert {one.iteration for one in map_points(database, "run", iteration=2)} == {2}


def test_a_run_without_topics_has_none(tiny_store: TinyStore) -> None:
    database = Database(tiny_store())
    assert topic_sizes(database, "run") == topic_shares(database, "run") == topic_results(database, "run") == []
    assert map_points(database, "run") == topic_labels(database, "run") == prompt_drift(database, "run") == []


# Drift


def test_drift_is_counted_by_hand(tiny_store: TinyStore) -> None:
    """Round 1 keeps "a b a" and "a b": 2 words of 5 are different; pairs ab ba ab: 2 of 3."""

    def written(text: str, status: Any, reason: str | None, t: int = 1) -> Prompt:
        return Prompt(t, content_id(t, text, reason), text, [], None, "generator", status, reason)

    records = [
        written("a b A", "kept", None), written("a, b", "kept", None), written("a b", "dropped", "duplicate"),
        written("s", "dropped", "seed"), written("e", "dropped", "evaluation"), written("x", "dropped", "malformed"),
        written("!", "kept", None, 2),
    ]  # fmt: skip
    near = [
        placed(one.prompt_id, 0, kind="written", iteration=1, novelty=n, overlap=o, similarity=0.1)
        for one, n, o in zip(records[:2], (0.2, 0.4), (0.9, 0.3), strict=True)
    ]
    first, second = prompt_drift(Database(tiny_store([*records, *near])), "run")
    assert (first.written, first.kept, first.duplicates, first.seed_copies, first.evaluation_copies) == (6, 2, 1, 1, 1)
    assert (first.words, first.distinct_1, first.distinct_2) == (2.5, pytest.approx(2 / 5), pytest.approx(2 / 3))
    assert (first.novelty, first.overlap, first.similarity) == (
        pytest.approx(0.3),
        pytest.approx(0.6),
        pytest.approx(0.1),
    )
    assert (first.close_to_evaluation, first.highest_overlap) == (1, 0.9)
    assert (second.kept, second.words, second.distinct_1, second.novelty) == (1, 0.0, None, None)


def test_distinct_words_are_those_counted_in_python(database: Database, small_run: list[Any]) -> None:
    for row in prompt_drift(database, "run"):
        words = [
            re.findall(r"\w+", one.text)
            for one in of(Prompt, small_run)
            if (one.iteration, one.status) == (row.iteration, "kept")
        ]
        grams = [pair for text in words for pair in pairwise(text)]
        assert row.distinct_1 == pytest.approx(len({word for text in words for word in text}) / sum(map(len, words)))
        assert row.distinct_2 == pytest.approx(len(set(grams)) / len(grams))


@pytest.mark.parametrize("measure", ["similarity", "novelty", "overlap"])
def test_a_spread_holds_every_value_once(tiny_store: TinyStore, measure: str) -> None:
    values = [0.0, 0.1, 0.1, 0.35, 1.0]
    rows = [placed(f"w{i}", 0, kind="written", iteration=1 + i % 2, **{measure: v}) for i, v in enumerate(values)]
    rows += [placed("s", 0, kind="seed", **{measure: 0.5}), placed("none", 0)]
    found = spread(Database(tiny_store(rows)), "run", measure, bins=4)
    assert found.edges == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert list(found.shares) == ["seeds", "round 1", "round 2"]
    assert found.shares["round 1"] == pytest.approx([2 / 3, 0, 0, 1 / 3])  # 0, .1, 1
    assert found.shares["seeds"] == [0, 0, 1, 0]
    assert found.means["round 2"] == pytest.approx(0.225)
    assert found.sizes == {"seeds": 1, "round 1": 3, "round 2": 2}


def test_equal_values_and_no_values_have_a_spread_too(tiny_store: TinyStore) -> None:
    database = Database(tiny_store([placed("a", 0, kind="written", iteration=1, novelty=0.5)]))
    assert sum(spread(database, "run", "novelty").shares["round 1"]) == 1
    assert spread(database, "run", "overlap").shares == {}
    with pytest.raises(StorageFault, match="no measure 'length'"):
        spread(database, "run", "length")


def test_the_closest_to_the_evaluation_set_stand_beside_what_they_are_close_to(tiny_store: TinyStore) -> None:
    held = Prompt(0, "e", "name a fruit", [], None, "eval:pocket", "held-out", None)
    made = [Prompt(1, key, f"text {key}", [], None, "generator", "kept", None) for key in "ab"]
    seed = Seed(0, "s", "a seed", "gold", "train")
    rows = [
        placed("a", 0, kind="written", iteration=1, overlap=0.3, nearest_evaluation="e"),
        placed("b", 0, kind="written", iteration=1, overlap=0.95, nearest_evaluation="e"),
        placed("s", 0, kind="seed", overlap=0.9, nearest_evaluation="e"), placed("e", 0),
    ]  # fmt: skip
    database = Database(tiny_store([held, *made, seed, *rows]))
    page = closest_to_evaluation(database, "run", at_least=0.8)
    assert [(row["prompt_id"], row["text"], row["evaluation_text"]) for row in page.rows] == [
        ("b", "text b", "name a fruit"), ("s", "a seed", "name a fruit"),
    ]  # fmt: skip
    assert (page.total, closest_to_evaluation(database, "run").total) == (2, 3)
    assert closest_to_evaluation(database, "run", kind="written").total == 2


# Lineage


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", KINDS)
def test_stories_go_from_the_first_score_to_the_last(
    database: Database, small_run: list[Any], kind: str, order: str
) -> None:
    expected = {key: (scores[min(scores)], scores[max(scores)]) for key, scores in _scores(kind, small_run).items()}
    page = stories(database, "run", StoryQuery(kind, order), limit=1000)
    found = {row["prompt_id"]: (row["first"], row["last"]) for row in page.rows}
    assert found == {key: pytest.approx(value) for key, value in expected.items()}
    assert page.total == len(expected) > 0
    changes = [row["change"] for row in page.rows]
    if order in {"improved", "worse"}:
        assert changes == sorted(changes, reverse=order == "improved")


def _scores(kind: str, records: list[Any]) -> dict[str, dict[int, float]]:
    """Mean score by prompt and iteration (written prompts: rejected, then chosen)."""
    if kind == "written":
        return {one.prompt_id: {0: one.rejected_score, 1: one.chosen_score} for one in of(Pair, records)}
    values: defaultdict[str, defaultdict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    if kind == "evaluation":
        for one in of(EvalResult, records):
            if one.suite != "validation":
                values[one.prompt_id][one.iteration].append(one.score_a)
    else:
        totals = {one.response_id: one.value for one in of(Score, records) if one.aspect == "total"}
        seeds = {one.seed_id for one in of(Seed, records)}
        for one in of(Response, records):
            if one.role == "draft" and one.prompt_id in seeds:
                values[one.prompt_id][one.iteration].append(totals[one.response_id])
    return {key: {t: fmean(scores) for t, scores in by_round.items()} for key, by_round in values.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_previous_and_next_walk_through_the_whole_list(database: Database, kind: str) -> None:
    query = StoryQuery(kind, "worse")
    expected = [row["prompt_id"] for row in stories(database, "run", query, limit=1000).rows]
    walked, here = [], expected[0]
    while here is not None:
        around = beside(database, "run", query, here)
        assert around is not None
        assert (around.position, around.total) == (len(walked), len(expected))
        assert around.previous_id == (walked[-1] if walked else None)
        walked.append(here)
        here = around.next_id
    assert walked == expected


def test_stories_are_searched_and_paged(database: Database) -> None:
    page = stories(database, "run", StoryQuery("evaluation", "text", "OUT 3"))
    assert [row["text"] for row in page.rows] == ["held out 3"]
    assert stories(database, "run", StoryQuery(search="nothing")).total == 0
    second = stories(database, "run", StoryQuery(order="text"), limit=3, offset=3)
    assert [row["position"] for row in second.rows] == [3, 4, 5]


def test_stories_of_a_topic(database: Database, small_run: list[Any]) -> None:
    wanted = {one.prompt_id for one in of(Topic, small_run) if one.topic == 2}
    found = stories(database, "run", StoryQuery("written", topic=2), limit=1000).rows
    assert {row["prompt_id"] for row in found} == wanted


def test_only_lists_that_hold_something_are_told(
    database: Database, tiny_store: TinyStore, small_run: list[Any]
) -> None:
    assert told_kinds(database, "run") == list(KINDS)
    assert told_kinds(database, "nobody") == []
    tiny_store(of(Pair, small_run), run_id="imported")
    assert told_kinds(database, "imported") == ["written"]


def test_a_prompt_that_is_not_listed_stands_nowhere(database: Database) -> None:
    assert beside(database, "run", StoryQuery(), "nobody") is None
    assert kind_of(database, "run", "nobody") is None


def test_a_prompt_belongs_to_one_list(database: Database, small_run: list[Any]) -> None:
    for one in of(Prompt, small_run):
        assert kind_of(database, "run", one.prompt_id) == ("evaluation" if one.status == "held-out" else "written")
    assert {kind_of(database, "run", one.seed_id) for one in of(Seed, small_run)} == {"seed"}


def test_log_probs_are_those_of_the_prompt_s_pairs(database: Database, small_run: list[Any]) -> None:
    pairs = {one.pair_id: one.prompt_id for one in of(Pair, small_run)}
    asked = of(PairLogp, small_run)
    prompt_id = pairs[asked[0].pair_id]
    rows = pair_logps_of(database, "run", prompt_id, list(pairs))
    expected = {(one.pair_id, one.model, one.logp_chosen) for one in asked if pairs[one.pair_id] == prompt_id}
    assert {(row["pair_id"], row["model"], row["logp_chosen"]) for row in rows} == expected


def test_an_unknown_order_is_refused(database: Database) -> None:
    with pytest.raises(StorageFault, match="no order 'best'"):
        stories(database, "run", StoryQuery(order="best"))


def test_the_standard_error_is_that_of_the_mean_change(tiny_store: TinyStore) -> None:
    before, after = [0.1, 0.9, 0.4, 0.7], [0.5, 0.6, 0.4, 0.8]
    results = [
        evaluated(t, f"p{i}", score) for t, scores in ((1, before), (2, after)) for i, score in enumerate(scores)
    ]
    store = tiny_store([*(placed(f"p{i}", 0) for i in range(4)), *results])
    changes = [now - then for now, then in zip(after, before, strict=True)]
    assert topic_results(Database(store), "run")[0].score_change_se == pytest.approx(stdev(changes) / 2)
