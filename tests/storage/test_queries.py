"""Each question against a plain recomputation over the same records."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import StorageFault, Store, queries
from storage.database import Database
from storage.queries import Page, PairFilter, PairQuery
from synpo_lab.records import TABLES, EvalResult, Event, Note, Pair, Prompt, Response, Score, Topic, TrainStep

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


def test_runs_are_listed_with_what_their_folders_say(tiny_store: TinyStore) -> None:
    store = tiny_store(run_id="older")
    newer = store.create_run("newer", "recipe: [not, a, name\n", {"created_at": 1_700_000_001.5})
    newer.event("x", "y")
    listed = queries.list_runs(Database(store))
    assert [run.run_id for run in listed] == ["newer", "older"]
    assert (listed[1].recipe, listed[1].title, listed[1].seed, listed[1].state) == (
        "synpo",
        "A small run",
        7,
        "finished",
    )
    assert listed[1].created_at.isoformat() == "2023-11-14T22:13:20"
    assert listed[0].recipe == ""


def test_a_run_made_after_the_database_was_opened_is_listed(tiny_store: TinyStore, small_run: list[Any]) -> None:
    store = tiny_store()
    database = Database(store)
    assert queries.run_overview(database, "second") == []
    tiny_store(small_run, run_id="second")
    assert [run.run_id for run in queries.list_runs(database)] == ["run", "second"]
    assert [row.iteration for row in queries.run_overview(database, "second")] == [1, 2]


def test_the_overview_counts_and_averages_what_was_written(database: Database, small_run: list[Any]) -> None:
    totals = {score.response_id: score.value for score in of(Score, small_run) if score.aspect == "total"}
    for row in queries.run_overview(database, "run"):
        t = row.iteration
        prompts = [p for p in of(Prompt, small_run) if p.iteration == t and p.status != "held-out"]
        pairs = [p for p in of(Pair, small_run) if p.iteration == t]
        paired = {p.prompt_id for p in pairs}
        results = [e for e in of(EvalResult, small_run) if e.iteration == t and e.suite == "pocket"]
        points = [{"a": 1.0, "tie": 0.5, "b": 0.0}[e.winner] for e in results]

        def mean_of(role: str, t: int = t, paired: set[str] = paired) -> float:
            answers = [
                r for r in of(Response, small_run) if (r.iteration, r.role) == (t, role) and r.prompt_id in paired
            ]
            return fmean(totals[r.response_id] for r in answers)

        assert (row.prompts_generated, row.prompts_kept) == (len(prompts), sum(p.status == "kept" for p in prompts))
        assert (row.pairs, row.pairs_kept) == (len(pairs), sum(p.kept for p in pairs))
        assert row.mean_gap == pytest.approx(fmean(p.gap for p in pairs))
        assert row.mean_gap_kept == pytest.approx(fmean(p.gap for p in pairs if p.kept))
        assert row.mean_initial == pytest.approx(mean_of("initial"))
        assert row.mean_draft == pytest.approx(mean_of("draft"))
        assert row.mean_improved == pytest.approx(mean_of("improved"))
        assert row.mean_policy == pytest.approx(fmean(e.score_a for e in results))
        assert row.mean_opponent == pytest.approx(fmean(e.score_b for e in results))
        assert row.win_rate == pytest.approx(fmean(points))
        assert (row.n, row.ties) == (len(results), sum(e.winner == "tie" for e in results))
        assert row.length_ratio == pytest.approx(sum(e.len_a for e in results) / sum(e.len_b for e in results))


def test_one_comparison_has_a_win_rate_and_no_length_ratio_against_an_empty_answer(tiny_store: TinyStore) -> None:
    result = EvalResult(1, "pocket", "p", "M_1", "M_0", "a", "b", 1.0, 0.5, "a", 3, 0)
    (row,) = queries.run_overview(Database(tiny_store([result])), "run")
    assert (row.win_rate, row.n, row.length_ratio, row.pairs) == (1.0, 1, None, 0)


def test_win_rates_of_several_runs_leave_validation_out(tiny_store: TinyStore, small_run: list[Any]) -> None:
    tiny_store(small_run, run_id="b")
    database = Database(tiny_store(small_run, run_id="a"))
    curve = queries.win_rate_curve(database)
    assert [(point.run_id, point.iteration, point.suite) for point in curve] == [
        ("a", 1, "pocket"), ("a", 2, "pocket"), ("b", 1, "pocket"), ("b", 2, "pocket"),
    ]  # fmt: skip
    (overview, _) = queries.run_overview(database, "a")
    assert curve[0].win_rate == overview.win_rate
    grid = queries.win_rate_curve(database, ["b"], "validation")
    assert [(point.run_id, point.iteration, point.model_a.partition("-")[2]) for point in grid] == [
        ("b", 1, "beta=10"), ("b", 1, "beta=4"), ("b", 2, "beta=10"), ("b", 2, "beta=4"),
    ]  # fmt: skip
    assert queries.win_rate_curve(database, []) == []


def test_models_that_are_compared_in_one_suite_are_never_one_win_rate(tiny_store: TinyStore) -> None:
    verdicts = [("good", "a", "a"), ("good", "b", "a"), ("bad", "a", "b"), ("bad", "b", "b"), ("good", "b", "tie")]
    results = [
        EvalResult(1, "imported", prompt, model, "base", f"{model}{n}", f"base{prompt}", 1.0, 0.0, winner, 1, 1)
        for n, (model, prompt, winner) in enumerate(verdicts)
    ]  # fmt: skip
    prompt = Prompt(1, "a", "a prompt", [], None, "import", "kept", None)
    database = Database(tiny_store([prompt, *results]))
    told = [(row.model_a, row.win_rate, row.n, row.ties) for row in queries.win_rate_curve(database)]
    assert told == [("bad", 0.0, 2, 0), ("good", pytest.approx(5 / 6), 3, 1)]
    (overview,) = queries.run_overview(database, "run")
    assert (overview.win_rate, overview.n) == (None, 0)


def test_suites_are_listed_with_validation_last(database: Database) -> None:
    assert queries.suites(database, "run") == ["pocket", "validation"]


def test_aspects_are_averaged_by_role(database: Database, small_run: list[Any]) -> None:
    rows = {(r["iteration"], r["role"], r["aspect"]): r for r in queries.aspect_means(database, "run")}
    improved = {r.response_id for r in of(Response, small_run) if r.iteration == 2 and r.role == "improved"}
    polite = [s.value for s in of(Score, small_run) if s.response_id in improved and s.aspect == "polite"]
    assert rows[2, "improved", "polite"]["mean"] == pytest.approx(fmean(polite))
    assert rows[2, "improved", "polite"]["answers"] == len(polite)


def test_attrition_ends_at_the_pairs_trained_on(database: Database, pairs: list[Pair]) -> None:
    steps = queries.attrition(database, "run", 1)
    assert [(step.what, step.reason, step.dropped, step.left) for step in steps[:3]] == [
        ("prompts", "generated", 0, 30), ("prompts", "malformed", 6, 24), ("prompts", "duplicate", 6, 18),
    ]  # fmt: skip
    assert steps[3].reason == "paired"
    assert steps[-1].left == sum(pair.kept for pair in pairs if pair.iteration == 1)


def test_attrition_of_a_run_without_rows_is_empty(tiny_store: TinyStore) -> None:
    assert queries.attrition(Database(tiny_store()), "run") == []


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"search": "WORD7"},
        {"search": "trumpet"},
        {"iteration": 2},
        {"status": "held-out"},
        {"keyword": "plum"},
        {"source": "eval:pocket"},
        {"drop_reason": "malformed", "iteration": 1},
        {"search": "nothing like it"},
    ],
)
def test_prompts_are_found_by_what_is_asked_for(
    database: Database, small_run: list[Any], wanted: dict[str, Any]
) -> None:
    def matches(p: Prompt) -> bool:
        search = wanted.get("search", "").lower()
        return (
            (search in p.text.lower() or search in " ".join(p.keywords).lower())
            and wanted.get("iteration", p.iteration) == p.iteration
            and wanted.get("status", p.status) == p.status
            and wanted.get("drop_reason", p.drop_reason) == p.drop_reason
            and wanted.get("source", p.source) == p.source
            and ("keyword" not in wanted or wanted["keyword"] in p.keywords)
        )

    expected = sorted((p for p in of(Prompt, small_run) if matches(p)), key=lambda p: (p.iteration, p.prompt_id))
    page = queries.prompts_page(database, "run", limit=7, offset=0, **wanted)
    assert page.total == len(expected)
    assert page.rows == [_with_topic(p, small_run) for p in expected[:7]]
    assert queries.prompts_page(database, "run", limit=7, offset=7, **wanted).rows == [
        _with_topic(p, small_run) for p in expected[7:14]
    ]


def _with_topic(prompt: Prompt, records: list[Any]) -> dict[str, Any]:
    """A row of the page: the prompt, and where it stands among the others."""
    key = (prompt.iteration, prompt.prompt_id)
    place = next((asdict(one) for one in of(Topic, records) if (one.iteration, one.prompt_id) == key), {})
    return asdict(prompt) | {name: place.get(name) for name in ("topic", "label", "novelty", "overlap")}


@pytest.mark.parametrize("topic", [0, 2, 9])
def test_prompts_of_a_topic_are_found(database: Database, small_run: list[Any], topic: int) -> None:
    expected = {one.prompt_id for one in of(Topic, small_run) if one.topic == topic}
    page = queries.prompts_page(database, "run", topic=topic, limit=100)
    assert {row["prompt_id"] for row in page.rows} == expected
    assert page.total == len(expected)


def test_prompts_are_sorted_by_novelty_those_without_last(database: Database, small_run: list[Any]) -> None:
    places = {one.prompt_id: one.novelty for one in of(Topic, small_run)}
    ids = [one.prompt_id for one in of(Prompt, small_run)]
    for sort, sign in (("newest", -1), ("known", 1)):
        rows = queries.prompts_page(database, "run", sort=sort, limit=100).rows
        expected = sorted(ids, key=lambda key: (key not in places, sign * places.get(key, 0.0), key))
        assert [row["prompt_id"] for row in rows] == expected


@pytest.mark.parametrize(("sort", "key"), [("text", lambda p: p.text), ("longest", lambda p: -len(p.text))])
def test_prompts_are_sorted_as_asked(database: Database, small_run: list[Any], sort: str, key: Any) -> None:
    expected = sorted(of(Prompt, small_run), key=lambda p: (key(p), p.prompt_id))
    page = queries.prompts_page(database, "run", sort=sort, limit=100)
    assert [row["prompt_id"] for row in page.rows] == [p.prompt_id for p in expected]


def test_an_unknown_sort_is_refused_with_those_there_are(database: Database) -> None:
    with pytest.raises(StorageFault, match="shortest"):
        queries.prompts_page(database, "run", sort="text; DROP TABLE runs")
    with pytest.raises(StorageFault, match="length-ratio"):
        queries.pairs_page(database, "run", PairQuery(), sort="")


def test_drop_reasons_are_counted(database: Database, small_run: list[Any], pairs: list[Pair]) -> None:
    reasons = Counter((p.iteration, p.drop_reason or p.status) for p in of(Prompt, small_run))
    rows = queries.prompt_drop_reasons(database, "run")
    assert {(row["iteration"], row["reason"]): row["prompts"] for row in rows} == reasons
    kept = Counter((p.iteration, p.drop_reason or "kept") for p in pairs)
    assert {(r["iteration"], r["reason"]): r["pairs"] for r in queries.pair_drop_reasons(database, "run")} == kept


def test_keywords_and_sources_are_counted(database: Database, small_run: list[Any]) -> None:
    counts = Counter(keyword for p in of(Prompt, small_run) for keyword in p.keywords)
    rows = queries.keyword_counts(database, "run", limit=3)
    assert [row["prompts"] for row in rows] == [count for _, count in counts.most_common(3)]
    sources = {row["source"]: row["prompts"] for row in queries.prompt_sources(database, "run")}
    assert sources == {"eval:pocket": 8, "generator": 60}


SORT_KEYS: dict[str, Callable[[Pair], float]] = {
    "gap": lambda p: -p.gap,
    "gap-up": lambda p: p.gap,
    "chosen-score": lambda p: -p.chosen_score,
    "chosen-score-up": lambda p: p.chosen_score,
    "rejected-score": lambda p: -p.rejected_score,
    "length-ratio": lambda p: -(p.len_chosen / p.len_rejected),
    "repetition": lambda p: -p.repetition,
}


SEARCHES = [
    PairQuery(iteration=2),
    PairQuery(kept=True),
    PairQuery(drop_reason="gap"),
    PairQuery(min_gap=0.1, max_gap=0.5),
    PairQuery(search="WORD1"),
]


@pytest.mark.parametrize(
    ("sort", "query"), [*((sort, PairQuery()) for sort in SORT_KEYS), *(("gap", query) for query in SEARCHES)]
)
def test_pairs_are_found_and_sorted_as_asked(
    database: Database, pairs: list[Pair], query: PairQuery, sort: str
) -> None:
    expected = sorted((p for p in pairs if matches(p, query)), key=lambda p: (SORT_KEYS[sort](p), p.pair_id))
    ids = [p.pair_id for p in expected]
    page = queries.pairs_page(database, "run", query, sort=sort, limit=5, offset=2)
    assert (page.total, [row["pair_id"] for row in page.rows]) == (len(ids), ids[2:7])
    assert queries.pairs_page(database, "run", query, sort=sort, offset=10_000) == Page([], len(ids))
    for position, pair_id in list(enumerate(ids))[:: max(1, len(ids) // 4)]:
        detail = queries.pair_at(database, "run", query, sort=sort, position=position)
        assert detail is not None
        assert detail.pair["pair_id"] == pair_id
        around = queries.neighbours(database, "run", pair_id, query, sort=sort)
        assert around is not None
        assert (around.position, around.total, around.matches) == (position, len(ids), True)
        assert around.previous_id == (ids[position - 1] if position else None)
        assert around.next_id == (ids[position + 1] if position + 1 < len(ids) else None)


def matches(pair: Pair, query: PairQuery) -> bool:
    return (
        query.iteration in (None, pair.iteration)
        and query.kept in (None, pair.kept)
        and query.drop_reason in (None, pair.drop_reason)
        and (query.min_gap is None or pair.gap >= query.min_gap)
        and (query.max_gap is None or pair.gap <= query.max_gap)
        and (query.search or "").lower() in pair.prompt.lower()
    )


def test_a_pair_outside_the_query_stands_between_two_inside(database: Database, pairs: list[Pair]) -> None:
    ordered = sorted(pairs, key=lambda p: (-p.gap, p.pair_id))
    kept = [p.pair_id for p in ordered if p.kept]
    outside = next(p for p in ordered if not p.kept and p.gap < max(q.gap for q in pairs if q.kept))
    before = [p.pair_id for p in ordered[: ordered.index(outside)] if p.kept]
    around = queries.neighbours(database, "run", outside.pair_id, PairQuery(kept=True))
    assert around is not None
    assert (around.position, around.total) == (len(before), len(kept))
    assert not around.matches
    assert around.previous_id == before[-1]
    assert around.next_id == next(iter(kept[len(before) :]), None)


def test_no_such_pair_has_no_details_and_no_neighbours(database: Database) -> None:
    assert queries.pair(database, "run", "nothing") is None
    assert queries.pair(database, "no run", "nothing") is None
    assert queries.neighbours(database, "run", "nothing", PairQuery()) is None
    assert queries.pair_at(database, "run", PairQuery(), position=10_000) is None


def test_a_pair_comes_with_the_answers_it_was_made_from_and_their_scores(
    database: Database, small_run: list[Any], pairs: list[Pair]
) -> None:
    detail = queries.pair(database, "run", pairs[3].pair_id)
    assert detail is not None
    assert detail.pair == {"run_id": "run", **asdict(pairs[3])}
    assert [answer.role for answer in detail.answers] == ["initial", "draft", "improved"]
    improved = detail.answer("improved")
    assert improved is not None
    assert (improved.response_id, improved.text) == (pairs[3].chosen_id, pairs[3].chosen)
    expected = {s.aspect: s.value for s in of(Score, small_run) if s.response_id == improved.response_id}
    assert improved.scores == expected
    assert improved.sampling == {"temperature": 0.7, "seed": 1}


def many_pairs_of_one_prompt(n: int) -> list[Any]:
    """A prompt with one draft and n pairs of two candidates each, every answer scored."""
    ids = [f"{side}{i:04}" for i in range(n) for side in "cr"]
    answers = [Response(1, key, "p", "candidate", "a", f"text {key}", 1, "stop", "{}") for key in ids]
    pairs = [
        Pair(1, f"pair{i:04}", "p", "asked", f"c{i:04}", f"r{i:04}", "c", "r", 1.0, 0.0, 1.0, 1, 1, 0.0, True, None)
        for i in range(n)
    ]
    prompt = Prompt(1, "p", "asked", [], None, "import", "kept", None)
    draft = Response(1, "draft", "p", "draft", "M_0", "a draft", 1, "stop", "{}")
    return [prompt, draft, *answers, *pairs, *(Score(1, key, "given", "total", 0.5) for key in ids)]


def test_a_pair_of_a_prompt_with_many_answers_comes_with_its_own(tiny_store: TinyStore) -> None:
    database = Database(tiny_store(many_pairs_of_one_prompt(300)))
    detail = queries.pair(database, "run", "pair0007")
    assert detail is not None
    assert [answer.response_id for answer in detail.answers] == ["draft", "c0007", "r0007"]
    assert [answer.scores for answer in detail.answers] == [{}, {"total": 0.5}, {"total": 0.5}]


def test_the_latest_note_of_each_author_comes_with_the_pair(database: Database, pairs: list[Pair]) -> None:
    pair_id = pairs[0].pair_id
    for note in [
        Note(pair_id, "chosen", "first", "ana", 1.0),
        Note(pair_id, "bad", "second\n\ud800", "ana", 2.0),
        Note(pair_id, "tie", "", "bo", 1.5),
        Note("another", "tie", "", "bo", 9.0),
    ]:
        database.store.append_note(note)
    detail = queries.pair(database, "run", pair_id)
    assert detail is not None
    assert [(note["author"], note["verdict"], note["text"]) for note in detail.notes] == [
        ("ana", "bad", "second\n\ufffd"), ("bo", "tie", ""),
    ]  # fmt: skip


def test_scores_of_two_scorers_keep_their_names(tiny_store: TinyStore) -> None:
    answer = Response(1, "r", "p", "draft", "M_0", "text", 1, "stop", "not json")
    scores = [Score(1, "r", "rubric", "total", 0.5), Score(1, "r", "judge", "total", 0.7)]
    detail = queries.response_detail(Database(tiny_store([answer, *scores])), "run", "r")
    assert detail is not None
    assert detail.answer.scores == {"rubric: total": 0.5, "judge: total": 0.7}
    assert detail.answer.sampling == {}
    assert detail.prompt is None


def test_a_response_comes_with_what_was_asked(database: Database, small_run: list[Any]) -> None:
    for response in of(Response, small_run)[::25]:
        detail = queries.response_detail(database, "run", response.response_id)
        assert detail is not None
        assert (detail.answer.text, detail.answer.model) == (response.text, response.model)
        prompt = queries.lineage(database, "run", response.prompt_id).prompt
        assert prompt is not None
        assert detail.prompt == prompt["text"]
    assert queries.response_detail(database, "run", "nothing") is None


def test_lineage_follows_a_prompt_through_the_iterations(database: Database, small_run: list[Any]) -> None:
    held_out = next(p for p in of(Prompt, small_run) if p.status == "held-out")
    line = queries.lineage(database, "run", held_out.prompt_id)
    assert line.prompt == asdict(held_out)
    assert [answer.iteration for answer in line.answers] == [0, 1, 1, 1, 2, 2, 2]
    assert len(line.evals) == 6
    assert line.pairs == []


def test_training_curves_are_read_back_in_order(database: Database, small_run: list[Any]) -> None:
    found = {(v["iteration"], v["trainee"], v["variant"]) for v in queries.variants(database, "run")}
    assert found == {(s.iteration, s.trainee, s.variant) for s in of(TrainStep, small_run)}
    policies = [v["variant"] for v in queries.variants(database, "run", 1) if v["trainee"] == "policy"]
    assert policies == ["beta=4", "beta=10"]
    curve = queries.train_curve(database, "run", 2, "policy", "beta=4")
    assert [row["step"] for row in curve] == [1, 2, 3, 4, 5]
    assert [row["loss"] for row in curve] == [1 / step for step in range(1, 6)]
    assert queries.train_curve(database, "run", 2, "generator") == []


def test_a_long_training_curve_is_thinned_and_keeps_its_end(tiny_store: TinyStore) -> None:
    steps = [TrainStep(1, "policy", "", i, float(i), 0.1, *[None] * 6) for i in range(1_005)]
    curve = queries.train_curve(Database(tiny_store(steps)), "run", 1, "policy", points=100)
    assert 90 <= len(curve) <= 101
    assert (curve[0]["step"], curve[-1]["step"]) == (0, 1_004)


def test_the_grid_says_what_each_beta_scored_and_which_won(database: Database, small_run: list[Any]) -> None:
    database.store.run("run").mark("iteration=1/policy", {"beta": 10})
    scores = defaultdict(list)
    for result in of(EvalResult, small_run):
        if result.suite == "validation":
            scores[result.iteration, result.model_a.partition("-")[2]].append(result.score_a)
    grid = queries.grid_results(database, "run")
    assert [(row.iteration, row.beta) for row in grid] == [(1, 4), (1, 10), (2, 4), (2, 10)]
    for row in grid:
        mine = scores[row.iteration, row.variant]
        assert row.score == pytest.approx(fmean(mine))
        assert row.se == pytest.approx(stdev(mine) / math.sqrt(len(mine)))
        assert row.n == len(mine)
    assert [row.won for row in grid] == [False, True, None, None]


def test_evaluations_come_with_both_texts_and_the_clearest_win_first(database: Database, small_run: list[Any]) -> None:
    page = queries.evals_page(database, "run", iteration=2, suite="pocket", limit=100)
    results = [e for e in of(EvalResult, small_run) if e.iteration == 2 and e.suite == "pocket"]
    assert page.total == len(page.rows) == len(results)
    margins = [row["score_a"] - row["score_b"] for row in page.rows]
    assert margins == sorted(margins, reverse=True)
    texts = {r.response_id: r.text for r in of(Response, small_run)}
    assert all(row["answer_a"] == texts[row["response_a"]] for row in page.rows)
    assert all(row["answer_b"] == texts[row["response_b"]] for row in page.rows)
    assert all(row["prompt"].startswith("held out") for row in page.rows)


def test_events_are_paged_from_the_latest(database: Database) -> None:
    run = database.store.run("run")
    for i in range(5):
        event = Event(float(i), "draft", 1, i, 5, f"message {i}", "warning" if i == 3 else "info")
        run.event(**asdict(event))
    page = queries.events_page(database, "run", limit=2, offset=1)
    assert (page.total, [row["done"] for row in page.rows]) == (5, [3, 2])
    assert [row["message"] for row in queries.events_page(database, "run", level="warning").rows] == ["message 3"]


def test_a_quote_in_a_search_is_only_text(database: Database) -> None:
    for text in ["'", "%' OR 1=1 --", "\\", "\x00", "$iteration"]:
        assert queries.prompts_page(database, "run", search=text).total == 0
        assert queries.pairs_page(database, text, PairQuery(search=text)).total == 0


@given(text=st.text(max_size=20))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_text_breaks_a_search(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    database = Database(Store(tmp_path_factory.mktemp("lab"), TABLES))
    assert queries.prompts_page(database, "run", search=text, keyword=text, source=text, iteration=1).total == 0
    database.close()


def test_questions_about_an_empty_lab_home_have_empty_answers(tmp_path: Path) -> None:
    database = Database(Store(tmp_path / "none", TABLES, read_only=True))
    assert queries.list_runs(database) == []
    assert queries.run_overview(database, "run") == []
    assert queries.grid_results(database, "run") == []
    assert queries.threshold_counts(database, "run", PairFilter()) == []
    assert queries.events_page(database, "run").total == 0
