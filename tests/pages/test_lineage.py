"""A prompt's lineage as the page shows it."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pages import lineage
from pages.lineage_steps import steps_of, story
from pages.shell import Lab, Selection
from storage import Store
from storage.queries import Answer
from storage.queries import lineage as lineage_of
from storage.queries.answers import ANSWERS
from storage.queries.stories import StoryQuery, pair_logps_of, stories
from storage.state import set_state
from synpo_lab.home import open_store
from synpo_lab.records import EvalResult, Pair, PairLogp, Prompt, Response, Seed
from tests.pages.conftest import RUN
from tests.storage.test_queries import many_pairs_of_one_prompt


@pytest.fixture
def small(tiny_store: Any, small_run: list[Any]) -> Iterator[Lab]:
    store: Store = tiny_store(small_run)
    made = Lab(store.home)
    yield made
    made.close()


def answer(t: int, role: Any, model: str, text: str = "") -> Answer:
    return Answer(f"{t}{role}{model}", t, role, model, text, 1, "stop", {}, {})


def shown(lab: Lab, run_id: str, prompt_id: str | None, query: StoryQuery | None = None) -> list[Any]:
    return lineage._show(lab, run_id, prompt_id, query or StoryQuery())


def first_of(kind: type, records: list[Any], **wanted: Any) -> Any:
    return next(
        one for one in records if isinstance(one, kind) and all(getattr(one, k) == v for k, v in wanted.items())
    )


# What is compared with what


def test_a_policy_is_compared_with_the_policy_before_it() -> None:
    steps = steps_of([answer(2, "eval", "M_2"), answer(0, "eval", "M_0"), answer(1, "eval", "M_1")])
    assert [(step.answer.model, step.before and step.before.model) for step in steps] == [
        ("M_0", None), ("M_1", "M_0"), ("M_2", "M_1"),
    ]  # fmt: skip


def test_in_a_round_the_draft_is_compared_with_the_initial_answer_and_the_improved_one_with_the_draft() -> None:
    steps = steps_of([answer(1, "improved", "R_1"), answer(1, "draft", "M_0"), answer(1, "initial", "M_0")])
    assert [(step.answer.role, step.before and step.before.role) for step in steps] == [
        ("initial", None), ("draft", "initial"), ("improved", "draft"),
    ]  # fmt: skip


def test_a_seed_s_draft_is_compared_with_the_draft_of_the_round_before_and_never_with_gold() -> None:
    steps = steps_of([answer(2, "draft", "M_1"), answer(1, "draft", "M_0"), answer(0, "gold", "gold")])
    assert [(step.answer.model, step.before and step.before.model) for step in steps] == [
        ("gold", None), ("M_0", None), ("M_1", "M_0"),
    ]  # fmt: skip


def test_losers_of_the_grid_are_no_step() -> None:
    assert steps_of([answer(1, "eval", "M_1-beta=4")]) == []


# What is shown


def test_an_evaluation_prompt_shows_every_policy_with_what_changed(lab: Lab) -> None:
    first = stories(lab.database, RUN, StoryQuery(), limit=1).rows[0]
    listed, head, place, current, before, after, _, _, chart, told, *_ = shown(lab, RUN, None)
    assert current == first["prompt_id"]
    assert (before, after is not None) == (None, True)
    assert re.findall(r"<span>(M_\d)</span>", told) == ["M_0", "M_1", "M_2"]
    assert f"+{first['change']:.2f}" in listed
    assert "<ins>" in told
    assert first["text"] in head
    assert "1 of 80" in re.sub("<[^>]+>", "", place) or "1 of " in place
    assert chart.visible


def test_a_written_prompt_shows_initial_draft_and_improved_and_the_fate_of_its_pair(
    small: Lab, small_run: list[Any]
) -> None:
    pair = first_of(Pair, small_run, kept=True)
    told = shown(small, "run", pair.prompt_id, StoryQuery("written"))[9]
    assert re.findall(r'<span class="role">(\w+)</span>', told) == ["initial", "draft", "improved"]
    assert 'class="lab-pill kept"' in told
    assert f"pair={pair.pair_id}" in told
    asked = [one for one in small_run if isinstance(one, PairLogp) and one.pair_id == pair.pair_id]
    for one in asked:
        assert f"{one.logp_chosen:.3f}".replace("-", "−") in told
        assert one.model in told


def test_a_dropped_pair_says_why(small: Lab, small_run: list[Any]) -> None:
    pair = first_of(Pair, small_run, drop_reason="repetition")
    assert "dropped: repetition" in shown(small, "run", pair.prompt_id, StoryQuery("written"))[9]


def test_a_seed_shows_its_gold_answer_and_its_drafts(lab: Lab, small: Lab, small_run: list[Any]) -> None:
    seed = first_of(Seed, small_run)
    told = shown(small, "run", seed.seed_id, StoryQuery("seed"))[9]
    assert re.findall(r'<span class="role">(\w+)</span>', told) == ["gold", "draft"]


def test_the_answers_of_the_grid_are_folded_away(lab: Lab) -> None:
    seed = next(iter(lab.store.run(RUN).read(Seed)))
    told = shown(lab, RUN, seed.seed_id, StoryQuery("seed"))[9]
    assert "<details" in told
    assert "M_1-beta=4" in told[told.index("<details") :]
    assert "M_1-beta=4" not in told[: told.index("<details")]


def test_the_address_of_a_prompt_alone_finds_its_list(small: Lab, small_run: list[Any]) -> None:
    for kind, record in (("written", first_of(Prompt, small_run, status="kept")), ("seed", first_of(Seed, small_run))):
        key = record.prompt_id if kind == "written" else record.seed_id
        assert lineage._asked(small, Selection("run", {"prompt": key})).kind == kind
    asked = lineage._asked(small, Selection("run", {"order": "worse", "topic": "1", "search": "x"}))
    assert asked == StoryQuery("evaluation", "worse", "x", 1)
    assert lineage._asked(small, Selection("run", {"order": "?", "kind": "?", "topic": "?"})) == StoryQuery()


def test_a_run_whose_prompts_were_never_evaluated_shows_the_written_ones(tiny_store: Any, small_run: list[Any]) -> None:
    store = tiny_store([one for one in small_run if isinstance(one, Prompt | Pair | Response)])
    made = Lab(store.home)
    assert lineage._asked(made, Selection("run", {})).kind == "written"
    made.close()


def test_an_unknown_prompt_and_an_empty_home_say_so(lab: Lab, empty_lab: Lab) -> None:
    assert "no prompt nobody" in shown(lab, RUN, "nobody")[1]
    assert "No run yet" in shown(empty_lab, None, None)[0]  # type: ignore[arg-type]


def test_of_imported_annotations_the_prompts_are_listed_and_both_models_scores(home: Path) -> None:
    """Issue: every row said "(empty)", and M₀ and a latest policy were told of two models that are neither."""
    run = open_store(home).create_run("set", "recipe: import\n", {"recipe": "import", "created_at": 1.0})
    for i, (score, text) in enumerate(((0.25, "which is larger?"), (0.75, "long " * 100))):
        run.append([
            Prompt(1, f"p{i}", text, [], None, "import", "kept", None),
            EvalResult(1, "imported", f"p{i}", "ours", "theirs", "a", "b", score, 1 - score, "b", 1, 1, "judge"),
        ])  # fmt: skip
    set_state(run.folder, "imported")
    opened = Lab(home)
    listed = shown(opened, "set", None)[0]
    assert (listed.count("which is larger?"), listed.count("(empty)")) == (1, 0)
    assert re.findall(r"[+−]\d\.\d\d", listed) == ["+0.50", "−0.50"]
    assert ("opponent" in listed, "tested model" in listed, "M₀" in listed, "policy" in listed) == (
        True,
        True,
        False,
        False,
    )
    assert "long …</a>" in listed
    assert shown(opened, "set", None, StoryQuery(search="LARGER"))[0].count("<tr>") == 2
    assert lineage._asked(opened, Selection("set", {"prompt": "p0"})).kind == "evaluation"
    run.append([
        Response(1, "a", "p0", "eval", "ours", "this", 0, "given", "{}"),
        Pair(1, "pair", "p0", "?", "a", "b", "this", "that", 1.0, 0.0, 1.0, 4, 4, 0.0, True, None, 0.0),
    ])  # fmt: skip
    story_of = shown(opened, "set", "p0")[9]
    assert '<span class="role">answer</span>' in story_of
    assert "trained" not in story_of
    choices = lineage._filter_updates(opened, "set", StoryQuery())
    assert "judged prompts" in str(choices[1].choices)
    opened.close()


def test_hostile_answers_are_shown_as_text(tiny_store: Any) -> None:
    text = "<script>alert(1)</script>\0\u202e"
    made = [Response(t, f"r{t}", "p", "eval", f"<b>M_{t}", text * t, 1, "length", "{}") for t in (0, 1, 2)]
    held = Prompt(0, "p", text, [text], text, "eval:<i>", "held-out", None)
    opened = Lab(tiny_store([held, *made]).home)
    page = "".join(map(str, shown(opened, "run", "p")))
    assert "<script" not in page
    assert "<b>M_" not in page
    assert "␀" in page
    opened.close()


def test_a_prompt_without_answers_says_so(small: Lab, small_run: list[Any]) -> None:
    dropped = first_of(Prompt, small_run, status="dropped")
    assert "No answers to this prompt" in shown(small, "run", dropped.prompt_id, StoryQuery("written"))[9]


def test_a_models_name_is_no_markup_in_the_chart(lab: Lab) -> None:
    found = lineage_of(lab.database, RUN, stories(lab.database, RUN, StoryQuery(), limit=1).rows[0]["prompt_id"])
    named = replace(found, answers=[replace(answer, model="<b>M</b>") for answer in found.answers])
    told = [text for trace in lineage.score_chart(named, "keep").data for text in trace.customdata]
    assert told
    assert all(text.startswith("&lt;b&gt;M&lt;/b&gt;, ") for text in told)


def test_the_scores_are_drawn_over_the_iterations_by_role(lab: Lab) -> None:
    key = stories(lab.database, RUN, StoryQuery(), limit=1).rows[0]["prompt_id"]
    figure = lineage.score_chart(lineage_of(lab.database, RUN, key), "keep")
    (line,) = figure.data
    assert (line.name, list(line.x)) == ("policy", [0, 1, 2])
    assert figure.layout.xaxis.title.text == "iteration"


def test_a_story_of_nothing_is_empty(small: Lab) -> None:
    nothing = lineage_of(small.database, "run", "nobody")
    assert story("run", nothing, pair_logps_of(small.database, "run", "nobody", [])) == ""


def test_a_prompt_with_hundreds_of_answers_is_shown_a_page_at_a_time(tiny_store: Any) -> None:
    records = many_pairs_of_one_prompt(200)
    opened = Lab(tiny_store(records).home)
    page = shown(opened, "run", "p", StoryQuery("written"))
    assert page[9].count('class="lab-text"') == ANSWERS
    assert page[9].count("pair=") == ANSWERS
    assert "answers 1 to 40 of 401 · pairs 1 to 40 of 200" in page[11]
    assert (page[10].visible, page[13].interactive) == (True, True)
    last = lineage._story(opened, "run", "p", lineage_of(opened.database, "run", "p", 400), 400)
    assert "answers 401 to 401 of 401" in last[3]
    assert not last[5].interactive
    opened.close()
