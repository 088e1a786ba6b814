"""Stages are pure: records in, records out."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.config import FilterConfig, KeywordsConfig
from synpo_lab.engines.base import Completion
from synpo_lab.errors import ConfigError, DataError
from synpo_lab.keywords import KeywordList
from synpo_lab.records import Note, Pair, Response, Seed
from synpo_lab.stages.build_pairs import best_and_worst, build_pairs
from synpo_lab.stages.evaluate import compare
from synpo_lab.stages.filter_pairs import filter_pairs
from synpo_lab.stages.generate_prompts import Sieve, generator_rows, prompt_records
from synpo_lab.stages.improve import improver_rows
from synpo_lab.stages.score import score
from synpo_lab.templates import TEMPLATES

POCKET = TEMPLATES["pocket"]


def response(name: str, prompt_id: str = "p1", text: str = "text", role: str = "draft", model: str = "M_0") -> Response:
    return Response(1, name, prompt_id, role, model, text, 3, "stop", "{}")  # type: ignore[arg-type]


def pair(**values: object) -> Pair:
    plain = next(build_pairs({"p1": "q?"}, {"p1": response("a")}, {"p1": response("b")}, {"a": 0.9, "b": 0.4}, 1))
    return replace(plain, **values)  # type: ignore[arg-type]


SEEDS = [
    Seed(0, f"s{i}", prompt, f"gold {i}", "train") for i, prompt in enumerate(("cook rice slowly", "watch night sky"))
]


def test_a_pair_carries_its_scores_gap_and_lengths() -> None:
    chosen, rejected = response("a", text="longer"), response("b", text="abc")
    made = list(build_pairs({"p1": "q?", "p2": "r?"}, {"p1": chosen}, {"p1": rejected}, {"a": 0.9, "b": 0.4}, 2))
    assert len(made) == 1
    assert (made[0].gap, made[0].len_chosen, made[0].len_rejected) == (pytest.approx(0.5), 6, 3)
    assert (made[0].prompt, made[0].iteration, made[0].kept) == ("q?", 2, False)


@pytest.mark.parametrize(
    ("values", "rules", "reason"),
    [
        ({}, {}, None),
        ({"gap": 0.02}, {}, "gap"),  # the gap must be above tau, not at it
        ({"gap": 0.0201}, {}, None),
        ({"gap": -1.0}, {"min_gap": -2.0}, None),
        ({}, {"min_chosen_score": 0.95}, "chosen score"),
        ({}, {"min_chosen_score": 0.9}, None),
        ({"len_chosen": 21, "len_rejected": 10}, {"max_length_ratio": 2.0}, "length"),
        ({"len_chosen": 20, "len_rejected": 10}, {"max_length_ratio": 2.0}, None),
        ({"len_chosen": 1, "len_rejected": 0}, {"max_length_ratio": 2.0}, "length"),
        ({"repetition": 0.51}, {}, "repetition"),
        ({"repetition": 0.5}, {}, None),
        ({"repetition": 0.9, "gap": 0.0}, {}, "gap"),  # the first rule that refuses gives the reason
        ({"gap": float("nan")}, {}, "no score"),  # a pair without a score cannot pass a rule about scores
        ({"gap": None}, {}, "no score"),
        ({"gap": None}, {"min_gap": None, "max_gap": 0.5}, "no score"),
        ({"gap": None}, {"min_gap": None}, None),
        ({"gap": None, "chosen_score": None}, {"min_gap": None, "min_chosen_score": 0.1}, "no score"),
        ({"gap": float("inf")}, {}, None),
        ({}, {"max_gap": 0.49}, "gap"),
        ({"gap": 0.5}, {"max_gap": 0.5}, None),
        ({"len_chosen": 9, "len_rejected": 10}, {"min_length_ratio": 1.0}, "length"),
        ({"len_chosen": 10, "len_rejected": 10}, {"min_length_ratio": 1.0}, None),
        ({"repetition": 0.9}, {"max_repetition": None}, None),
        ({"repetition": float("nan")}, {}, None),
        ({"similarity": 0.96}, {"max_similarity": 0.95}, "similarity"),
        ({"similarity": 0.95}, {"max_similarity": 0.95}, None),
        ({"similarity": None}, {"max_similarity": 0.95}, None),  # written before there was a similarity
        ({"duplicate": True}, {"drop_duplicates": True}, "duplicate"),
        ({"duplicate": True}, {}, None),
        ({}, {"where": "len_chosen > 4"}, "condition"),
        ({}, {"where": "prompt LIKE '%?'"}, None),
        ({}, {"where": "CAST(prompt AS INTEGER) > 3"}, "condition"),  # what cannot be told is not true
        ({}, {"where": "ln(len_chosen - 4) > 0"}, "condition"),
    ],
)
def test_the_filter_names_the_first_rule_that_refuses(values: dict, rules: dict, reason: str | None) -> None:
    (decided,) = filter_pairs([pair(**values)], FilterConfig(**rules), at_most=1, seed=0)
    assert (decided.drop_reason, decided.kept) == (reason, reason is None)


def test_the_latest_verdict_of_each_reader_drops_a_pair() -> None:
    pairs = [pair(pair_id=name) for name in ("said bad", "taken back", "tie", "good", "two readers")]
    notes = [
        Note("said bad", "bad", "", "ana", 1.0), Note("taken back", "bad", "", "ana", 1.0),
        Note("taken back", "chosen", "", "ana", 2.0), Note("tie", "tie", "", "ana", 1.0),
        Note("good", "chosen", "", "ana", 1.0), Note("two readers", "chosen", "", "ana", 3.0),
        Note("two readers", "rejected", "", "bo", 1.0), Note("another pair", "bad", "", "bo", 1.0),
    ]  # fmt: skip

    def dropped(*verdicts: str) -> list[str]:
        rules = FilterConfig(verdicts=list(verdicts))  # type: ignore[arg-type]
        decided = filter_pairs(pairs, rules, at_most=9, seed=0, notes=notes)
        return [made.pair_id for made in decided if made.drop_reason == "verdict"]

    assert dropped() == []
    assert dropped("bad") == ["said bad"]
    assert dropped("tie", "rejected") == ["tie", "two readers"]
    assert not [
        made for made in filter_pairs(pairs, FilterConfig(verdicts=["bad"]), at_most=9, seed=0) if not made.kept
    ]


def test_no_pairs_are_filtered_to_no_pairs() -> None:
    assert filter_pairs([], FilterConfig(where="gap > 1"), at_most=1, seed=0) == []


def test_kept_pairs_are_sampled_down_and_the_rest_say_so() -> None:
    pairs = [pair(pair_id=str(i), gap=1.0 if i % 2 else 0.0) for i in range(20)]
    decided = filter_pairs(pairs, FilterConfig(), at_most=4, seed=1)
    assert [made.pair_id for made in decided] == [made.pair_id for made in pairs]
    assert sum(made.kept for made in decided) == 4
    assert {made.drop_reason for made in decided if not made.kept} == {"gap", "not sampled"}
    assert decided == filter_pairs(pairs, FilterConfig(), at_most=4, seed=1)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_higher_threshold_never_keeps_more(gaps: list[float]) -> None:
    pairs = [pair(pair_id=str(i), gap=gap) for i, gap in enumerate(gaps)]
    counts = [
        sum(made.kept for made in filter_pairs(pairs, FilterConfig(min_gap=tau), at_most=99, seed=0))
        for tau in (0.0, 0.2, 0.5, 1.0)
    ]
    assert counts == sorted(counts, reverse=True)


def test_best_and_worst_are_by_score_and_equal_texts_are_left_out() -> None:
    candidates = [response(name, prompt, text) for name, prompt, text in
                  [("a", "p1", "x"), ("b", "p1", "y"), ("c", "p1", "z"), ("d", "p2", "same"), ("e", "p2", "same")]]  # fmt: skip
    best, worst = best_and_worst(candidates, {"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.3, "e": 0.3})
    assert {prompt: made.response_id for prompt, made in best.items()} == {"p1": "b"}
    assert {prompt: made.response_id for prompt, made in worst.items()} == {"p1": "c"}


def test_improver_rows_are_those_where_gold_beats_the_draft_by_more_than_the_threshold() -> None:
    drafts = [response("a", "s0", "burn it"), response("b", "s1", "look up")]
    rows = improver_rows(SEEDS, drafts, {"a": 0.5, "b": 0.99}, {"s0": 1.0, "s1": 1.0}, POCKET, 0.02)
    assert rows == [(POCKET.ask_to_improve("cook rice slowly", "burn it"), "gold 0")]


def test_generator_rows_hold_two_keywords_of_the_seed_and_one_of_another() -> None:
    rows = generator_rows(SEEDS, KeywordsConfig(), "prompt_and_solution", POCKET, seed=0)
    assert len(rows) == 2
    for seed, (asked, target) in zip(SEEDS, rows, strict=True):
        words = asked.removeprefix("write a question with: ").removesuffix(".").split(", ")
        assert sum(word in seed.prompt.split() for word in words) == 2
        assert len(words) == 3
        assert target == f"question: {seed.prompt} solution: {seed.gold}"


def test_seeds_too_short_for_keywords_are_refused_with_a_hint() -> None:
    with pytest.raises(DataError, match="no seed prompt has 2 keywords"):
        generator_rows([Seed(0, "s", "why", "so", "train")], KeywordsConfig(), "prompt", POCKET, seed=0)


def test_the_sieve_says_why_a_prompt_is_dropped() -> None:
    sieve = Sieve("format", held_out=["held?"], seeds=["seed?"], kept=["old?"])
    cases = [(None, True), ("cut", False), ("x" * 5000, True), ("held?", True), ("seed?", True), ("old?", True)]
    found = [sieve.judge(text, finished=finished) for text, finished in cases]
    assert found == ["malformed", "malformed", "invalid", "evaluation", "seed", "duplicate"]
    assert sieve.judge("new?", finished=True) is None
    assert sieve.judge("new?", finished=True) == "duplicate"


def test_a_prompt_that_differs_by_case_or_white_space_alone_is_the_same_prompt() -> None:
    sieve = Sieve("format", held_out=["Held out?"], seeds=["a seed"], kept=["An  old one"])
    assert [sieve.judge(text, finished=True) for text in ("held  OUT?", "A seed", "an old one")] == [
        "evaluation",
        "seed",
        "duplicate",
    ]


def test_a_scorer_without_a_total_is_said_so() -> None:
    class Partial:
        name = "partial"

        def score(self, rows: Iterable[tuple[str, str]]) -> Iterator[dict[str, float]]:
            yield from ({"style": 1.0} for _ in rows)

    with pytest.raises(ConfigError, match=r"scorer 'partial' gave no 'total', only \['style'\]"):
        list(score(Partial(), [response("a", "p1", "x")], {"p1": "?"}))


def test_an_unknown_validator_is_refused() -> None:
    with pytest.raises(ConfigError, match="no prompt validator 'magic'"):
        Sieve("magic", [], [])


def test_every_keyword_list_becomes_a_prompt_record_and_equal_texts_keep_different_ids() -> None:
    lists = [KeywordList(("a", "b"), ("b",)), KeywordList(("c", "d")), KeywordList(("e", "f"))]
    texts = ["question: one?", "question: one?", "nothing"]
    written = [Completion(str(i), text, 3, "stop") for i, text in enumerate(texts)]
    made = list(prompt_records(lists, written, POCKET, Sieve("format", [], []), 1))
    assert [(p.text, p.status, p.drop_reason) for p in made] == [
        ("one?", "kept", None),
        ("one?", "dropped", "duplicate"),
        ("nothing", "dropped", "malformed"),
    ]
    assert len({p.prompt_id for p in made}) == 3
    assert [p.noise_keyword for p in made] == ["b", None, None]


def test_a_comparison_names_the_winner_by_score() -> None:
    mine = [response("a", "p1", "abc", "eval", "M_2"), response("b", "p2", "d", "eval", "M_2"), response("c", "p3")]
    theirs = {"p1": response("x", "p1", "z", "eval"), "p2": response("y", "p2", "zz", "eval")}
    results = list(compare(mine, theirs, {"a": 0.9, "x": 0.1, "b": 0.5, "y": 0.5}, suite="s", iteration=2))
    assert [(r.prompt_id, r.winner, r.len_a, r.len_b) for r in results] == [("p1", "a", 3, 1), ("p2", "tie", 1, 2)]
    assert {(r.model_a, r.model_b) for r in results} == {("M_2", "M_0")}
