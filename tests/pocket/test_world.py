"""The pocket world agrees with itself: what it writes it can read, what it calls gold its rubric calls gold."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.pocket import answers, data, lexicon, rubric, tasks

FAMILIES = st.sampled_from(tasks.FAMILIES)
SEEDS = st.integers(0, 10_000)


def test_every_noun_is_in_one_category_and_categories_are_of_equal_size() -> None:
    assert len(lexicon.WORDS) == len(set(lexicon.WORDS)) == 12 * 14
    assert {len(words) for words in lexicon.CATEGORIES.values()} == {14}


def test_every_misconception_takes_a_noun_for_one_of_another_category() -> None:
    assert sorted(answers.PARTNERS.values()) == sorted(lexicon.WORDS)
    for word, partner in answers.PARTNERS.items():
        assert lexicon.CATEGORY_OF[word] != lexicon.CATEGORY_OF[partner]


@given(FAMILIES, SEEDS)
def test_a_written_task_is_parsed_back(family: str, seed: int) -> None:
    rng = random.Random(seed)
    task = tasks.sample(rng, family)
    assert tasks.parse(tasks.write(task, rng)) == task


@given(FAMILIES, SEEDS)
def test_gold_answers_have_full_marks_in_every_aspect(family: str, seed: int) -> None:
    rng = random.Random(seed)
    task = tasks.sample(rng, family)
    assert set(rubric.grade(tasks.write(task, rng), answers.gold(task, rng)).values()) == {1.0}


@given(FAMILIES, SEEDS)
def test_a_gold_repair_of_any_draft_has_full_marks(family: str, seed: int) -> None:
    rng = random.Random(seed)
    task = tasks.sample(rng, family)
    draft = answers.answer(task, answers.BLURTED, rng)
    repaired = answers.answer(task, answers.GOLD, rng, draft=draft)
    assert rubric.grade(tasks.write(task, rng), repaired)["total"] == 1.0


@given(st.text(), st.text())
def test_the_rubric_grades_any_text_between_0_and_1(prompt: str, answer: str) -> None:
    assert all(0 <= value <= 1 for value in rubric.grade(prompt, answer).values())


@given(FAMILIES, SEEDS, st.text(max_size=60))
def test_the_rubric_grades_any_answer_to_a_real_prompt(family: str, seed: int, answer: str) -> None:
    rng = random.Random(seed)
    prompt = tasks.write(tasks.sample(rng, family), rng)
    assert all(0 <= value <= 1 for value in rubric.grade(prompt, answer).values())


@pytest.mark.parametrize("family", tasks.FAMILIES)
def test_blurted_answers_are_worse_than_reviewed_ones(family: str) -> None:
    rng = random.Random(family)
    blurted, reviewed = [], []
    for _ in range(200):
        task = tasks.sample(rng, family)
        prompt = tasks.write(task, rng)
        draft = answers.answer(task, answers.BLURTED, rng)
        blurted.append(rubric.grade(prompt, draft)["total"])
        reviewed.append(rubric.grade(prompt, answers.answer(task, answers.REVIEWED, rng, draft=draft))["total"])
    assert sum(reviewed) > sum(blurted)


# Marks worked by hand: correct, complete, polite, well_formed.
@pytest.mark.parametrize(
    ("prompt", "answer", "marks"),
    [
        ("name three fruits.", "sure! apple, fig and kiwi.", (1, 1, 1, 1)),
        ("name three fruits.", "apple, fig and kiwi.", (1, 1, 0, 1)),
        ("name three fruits.", "sure! apple, fig and hammer.", (2 / 3, 2 / 3, 1, 1)),
        ("name three fruits.", "sure! apple, apple and fig.", (2 / 3, 2 / 3, 1, 1)),
        ("name three fruits.", "sure! apple, fig", (1, 2 / 3, 1, 0)),
        ("name two fruits but not fig.", "sure! fig and kiwi.", (1 / 2, 1 / 2, 1, 1)),
        ("name two fruits in alphabetical order.", "sure! kiwi and fig.", (1 / 2, 1, 1, 1)),
        ("is fig a tool?", "sure! no, fig is a fruit.", (1, 1, 1, 1)),
        ("is fig a tool?", "sure! no.", (1, 0, 1, 0.5)),
        ("is fig a tool?", "sure! yes, fig is a tool.", (0, 0, 1, 1)),
        ("which is not a fruit: fig, axe or kiwi?", "sure! axe is not a fruit, it is a tool.", (1, 1, 1, 1)),
        ("which is not a fruit: fig, axe or kiwi?", "sure! axe is not a fruit.", (1, 0, 1, 0.5)),
        ("count the fruits here: fig, axe, kiwi.", "sure! two, fig and kiwi.", (1, 1, 1, 1)),
        ("count the fruits here: fig, axe, kiwi.", "sure! three, fig, axe and kiwi.", (0, 2 / 3, 1, 1)),
        ("reverse this list: fig, axe, kiwi.", "sure! kiwi, fig and axe.", (1 / 3, 1, 1, 1)),
        ("say fig three times.", "sure! fig and fig.", (1, 2 / 3, 1, 1)),
        ("what is fig?", "sure! fig is a fruit, like fig.", (1, 0, 1, 1)),
        ("use fig and axe in a sentence.", "sure! i eat fig and use axe at home.", (1, 1, 1, 1)),
        ("use fig and axe in a sentence.", "sure! i use fig and use axe.", (0.5, 0.5, 1, 1)),
        ("who are you?", "sure! fig.", (0, 0, 1, 0.5)),
    ],
)
def test_marks_worked_by_hand(prompt: str, answer: str, marks: tuple[float, ...]) -> None:
    graded = rubric.grade(prompt, answer)
    assert [graded[name] for name in rubric.WEIGHTS] == pytest.approx(marks)
    weighted = sum(w * m for w, m in zip((0.55, 0.25, 0.1, 0.1), marks, strict=True))
    assert graded["total"] == pytest.approx(weighted, abs=1e-6)


@pytest.mark.parametrize(
    "prompt",
    [
        "use plum and plum in a sentence.",
        "which is not a job: rake, rake or rake?",
        "which is not a fruit: fig, kiwi or mango?",
        "which is not a fruit: axe, saw or fig?",
        "name a fruit that starts with z.",
        "name two fruits and two fruits.",
        "name three fruits but not axe.",
        "is fig a animal?",
        "name three unicorns.",
        "",
    ],
)
def test_a_request_without_a_right_answer_is_no_task(prompt: str) -> None:
    assert tasks.parse(prompt) is None
    assert not data.is_valid_prompt(prompt)


def test_a_prompt_in_another_spelling_is_not_counted_as_new() -> None:
    assert data.is_valid_prompt("name three fruits.")
    assert not data.is_valid_prompt("name three fruits .")
    assert not data.is_valid_prompt("Name three fruits.")


def test_there_are_1000_evaluation_prompts_and_240_seeds_and_they_are_disjoint() -> None:
    evaluation = data.evaluation_prompts()
    prompts = [prompt for prompt, _ in data.seeds()]
    assert len(set(evaluation)) == 1000
    assert len(set(prompts)) == 240
    assert not set(evaluation) & set(prompts)
    assert all(data.is_valid_prompt(prompt) for prompt in (*evaluation, *prompts))


def test_evaluation_prompts_cover_every_family() -> None:
    found = [task.family for prompt in data.evaluation_prompts() if (task := tasks.parse(prompt))]
    assert min(found.count(family) for family in tasks.FAMILIES) >= 8


def test_m0_is_never_trained_on_an_evaluation_prompt_or_a_seed() -> None:
    reserved = data.reserved()
    for prompt, target in data.training_rows(30_000, seed=3):
        for text in (prompt, target):
            inner = text.partition("question: ")[2] or text
            asked = inner.partition(" answer:")[0].partition(" solution:")[0]
            assert asked not in reserved


def test_the_evaluation_set_and_the_seeds_never_change() -> None:
    """They are constants: results of different days can be compared."""
    from synpo_lab.records import content_id

    assert content_id(list(data.evaluation_prompts())) == EVALUATION_FINGERPRINT
    assert content_id([list(row) for row in data.seeds()]) == SEEDS_FINGERPRINT


EVALUATION_FINGERPRINT = "06fab88fea3ca37b"
SEEDS_FINGERPRINT = "d9d565d0cbe95e16"
