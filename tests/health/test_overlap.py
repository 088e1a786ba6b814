import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.errors import DataError
from synpo_lab.health.evaluation_file import read_evaluation_prompts
from synpo_lab.health.overlap import CONTAINED, EvaluationSet
from synpo_lab.health.words import words

REAL = Path(__file__).parents[3] / "shared" / "data" / "alpaca_eval"
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"the real data is not at {REAL}")
QUESTION = "What is the capital city of Australia and how many people live there at the moment?"


def test_the_same_words_are_an_exact_overlap_whatever_their_case_and_punctuation() -> None:
    found = EvaluationSet([QUESTION, "Name a fruit"]).nearest("what is the capital CITY of australia, and how many people "
                                                              "live there at the moment")  # fmt: skip
    assert found is not None
    assert (found.exact, found.containment, found.evaluation_prompt) == (True, 1.0, QUESTION)


def test_a_prompt_around_an_evaluation_prompt_contains_it() -> None:
    found = EvaluationSet([QUESTION]).nearest(f"You are a helpful guide. {QUESTION} Answer in one line.")
    assert found is not None
    assert (found.exact, found.containment) == (False, 1.0)


def test_half_of_it_is_not_enough_and_other_prompts_share_nothing() -> None:
    evaluation = EvaluationSet([QUESTION])
    half = evaluation.nearest("What is the capital city of Australia and how do kangaroos jump so far?")
    assert half is not None
    assert 0 < half.containment < CONTAINED
    assert evaluation.nearest("Write a poem about kale.") is None


def test_an_evaluation_prompt_without_an_8_gram_is_found_inside_another_as_a_whole() -> None:
    evaluation = EvaluationSet(["What is the capital of France?", QUESTION])
    found = evaluation.nearest("Please answer: What is the capital of France? In one word.")
    assert found is not None
    assert (found.exact, found.containment, found.evaluation_prompt) == (False, 1.0, "What is the capital of France?")
    assert evaluation.nearest("What is the capital of Norway, and of France?") is None


@needs_real
def test_every_real_evaluation_prompt_of_five_words_is_found_behind_please_answer() -> None:
    rows = json.loads((REAL / "outputs" / "gpt4_1106_preview.json").read_text(encoding="utf-8"))
    prompts = [row["instruction"] for row in rows if len(words(row["instruction"])) >= 5]
    evaluation = EvaluationSet(prompts)
    found = [evaluation.nearest(f"Please answer: {prompt} Thank you.") for prompt in prompts]
    assert len(prompts) == 795
    assert [overlap.containment if overlap else 0.0 for overlap in found] == [1.0] * 795


def test_the_shortest_evaluation_prompts_overlap_only_as_a_whole() -> None:
    evaluation = EvaluationSet(["Name a fruit", ""])
    assert len(evaluation) == 1
    assert evaluation.nearest("Name a fruit!") is not None
    assert evaluation.nearest("Name a fruit and a tool") is None
    assert evaluation.nearest("") is None


@given(
    st.lists(st.sampled_from("abcdefgh"), min_size=8, max_size=20), st.lists(st.sampled_from("abcdefgh"), max_size=20)
)
def test_containment_is_the_share_of_its_grams(question: list[str], prompt: list[str]) -> None:
    found = EvaluationSet([" ".join(question)]).nearest(" ".join(prompt))
    asked, has = ({tuple(text[i : i + 8]) for i in range(len(text) - 7)} for text in (question, prompt))
    share = 1.0 if question == prompt else len(asked & has) / len(asked)
    assert (found.containment if found else 0.0) == pytest.approx(share)


def test_words_of_scripts_without_spaces_are_characters() -> None:
    assert words("東京 Is BIG, très") == ["東", "京", "is", "big", "très"]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps([{"instruction": "one", "output": "x"}, {"prompt": "two"}, "three"]),
        '{"instruction": "one"}\n\n{"prompt": "two"}\n"three"\n',
        "\ufeff" + json.dumps(["one", "two", "three"]),
    ],
)
def test_json_and_jsonl_are_read(tmp_path: Path, text: str) -> None:
    path = tmp_path / "suite.json"
    path.write_text(text, encoding="utf-8")
    assert read_evaluation_prompts(path) == ["one", "two", "three"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no rows"),
        (b"[]", "no rows"),
        (b"not json", "line 1: no JSON"),
        (b"[1, 2", "no JSON"),
        (b'"one"\n{"answer": "x"}\n', "line 2: there is no prompt"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "suite.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_evaluation_prompts(path)
    assert caught.value.hint


def test_a_missing_file_or_a_folder_is_a_mistake(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.json", tmp_path):
        with pytest.raises(DataError, match="cannot read"):
            read_evaluation_prompts(path)
