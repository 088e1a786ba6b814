"""Every shape preference data comes in, read as an example; what is wrong with a row said in a few words."""

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synpo_lab.errors import DataError
from synpo_lab.importing import Look, look
from synpo_lab.importing.formats import Example
from synpo_lab.importing.summary import Summary
from tests.importing.conftest import as_csv, as_jsonl, as_parquet


def looked(tmp_path: Path, *rows: dict[str, Any], **given: Any) -> Look:
    as_jsonl(tmp_path / "rows.jsonl", rows)
    return look([str(tmp_path / "rows.jsonl")], **given)


def only(tmp_path: Path, row: dict[str, Any], **given: Any) -> Example:
    found = looked(tmp_path, row, **given)
    assert found.tally.refused == {}, found.tally.refusals
    (example,) = found.examples
    return example


def texts(example: Example) -> tuple[str, str, str]:
    assert example.chosen is not None
    assert example.rejected is not None
    return example.prompt, example.chosen.text, example.rejected.text


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


# TRL


def test_trl_explicit_prompt(tmp_path: Path) -> None:
    example = only(
        tmp_path, {"prompt": "sky?", "chosen": "blue", "rejected": "green", "score_chosen": 8, "score_rejected": "1.5"}
    )
    assert texts(example) == ("sky?", "blue", "green")
    assert (example.chosen.score, example.rejected.score) == (8.0, 1.5)  # type: ignore[union-attr]
    assert example.messages is None


def test_trl_implicit_prompt_is_cut_as_trl_cuts_it(tmp_path: Path) -> None:
    from trl.data_utils import extract_prompt

    row = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    theirs = extract_prompt(row)
    assert texts(only(tmp_path, row)) == (theirs["prompt"], theirs["chosen"], theirs["rejected"])


def test_trl_conversational_explicit_and_implicit_prompt_say_the_same(tmp_path: Path) -> None:
    explicit = {"prompt": [user("sky?")], "chosen": [assistant("blue")], "rejected": [assistant("green")]}
    implicit = {"chosen": [user("sky?"), assistant("blue")], "rejected": [user("sky?"), assistant("green")]}
    both = implicit | {"prompt": "sky?"}  # as UltraFeedback-binarized has it
    assert only(tmp_path, explicit) == only(tmp_path, implicit) == only(tmp_path, both)
    assert texts(only(tmp_path, explicit)) == ("sky?", "blue", "green")


def test_turns_before_the_last_are_kept_as_messages_and_as_a_text_for_people(tmp_path: Path) -> None:
    before = [{"role": "system", "content": "be brief"}, user("hi"), assistant("hello"), user("sky?")]
    example = only(tmp_path, {"chosen": [*before, assistant("blue")], "rejected": [*before, assistant("green")]})
    assert json.loads(example.messages or "") == before
    assert texts(example) == ("system: be brief\n\nuser: hi\n\nassistant: hello\n\nuser: sky?", "blue", "green")


def test_equal_conversations_keep_their_last_message_as_the_answer(tmp_path: Path) -> None:
    same = [user("sky?"), assistant("blue")]
    assert texts(only(tmp_path, {"chosen": same, "rejected": same})) == ("sky?", "blue", "blue")


def test_conversations_that_part_before_the_last_answer_are_refused_and_not_flattened(tmp_path: Path) -> None:
    """Their turns would become one text with the roles written into it, and a user's turn the answer to train on."""
    hi, deeper, more = [user("hi")], [user("hi"), assistant("yes?")], [user("x"), assistant("1")]
    found = looked(
        tmp_path,
        {"chosen": [user("sky?"), assistant("blue")], "rejected": [user("sky?"), assistant("green")]},
        {"chosen": [*hi, assistant("A?"), *more], "rejected": [*hi, assistant("B?"), *more]},
        {"chosen": [*deeper, user("A"), assistant("1")], "rejected": [*deeper, user("B"), assistant("2")]},
        {"chosen": deeper, "rejected": [*deeper, user("and?"), assistant("2")]},
        {"prompt": "hi", "chosen": [assistant("1"), user("x"), assistant("2")], "rejected": [assistant("3")]},
        {"chosen": [*hi, user("GOOD")], "rejected": [*hi, user("BAD")]},
        {"chosen": [*hi, {"role": "tool", "content": "1"}], "rejected": [*hi, assistant("2")]},
    )  # fmt: skip
    assert found.tally.refused == {
        "the two sides part before the last answer": 4,
        "a side does not end with the assistant's answer": 2,
    }
    assert "stand assistant, user, assistant" in found.tally.refusals[0].why


def test_dialogues_as_strings_that_part_early_are_refused_too(tmp_path: Path) -> None:
    ask = "\n\nHuman: hi\n\nAssistant:"
    found = looked(
        tmp_path,
        {"chosen": f"{ask} A?\n\nHuman: x\n\nAssistant: 1", "rejected": f"{ask} B?\n\nHuman: x\n\nAssistant: 2"},
        {"chosen": f"{ask} a\n\nHuman: GOOD", "rejected": f"{ask} a\n\nHuman: BAD"},
    )
    assert [one.reason for one in found.tally.refusals] == [
        "the two sides part before the last answer",
        "a side does not end with the assistant's answer",
    ]


def test_sharegpt_turns_and_parts_and_json_in_cells_are_messages_too(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "sky?"}]
    row = {"prompt": turns, "chosen": {"x": 1}, "rejected": "y"}
    row |= {
        "chosen": [{"role": "assistant", "content": [{"type": "text", "text": "blue"}]}],
        "rejected": [assistant("green")],
    }
    assert texts(only(tmp_path, row)) == ("sky?", "blue", "green")
    as_csv(tmp_path / "rows.csv", [{name: json.dumps(value) for name, value in row.items()}])
    assert texts(look([str(tmp_path / "rows.csv")]).examples[0]) == ("sky?", "blue", "green")


@pytest.mark.parametrize(
    ("names", "scores"),
    [
        (("question", "chosen_response", "rejected_response"), ("chosen_score", "rejected_score")),
        (("instruction", "chosen", "rejected"), ("chosen-rating", "rejected-rating")),
        (("Prompt", "Chosen", "Rejected"), ("score_chosen", "score_rejected")),
        (("query", "y_w", "y_l"), ("reward_chosen", "reward_rejected")),
    ],
)
def test_names_in_the_wild_are_known(names: tuple[str, ...], scores: tuple[str, ...], tmp_path: Path) -> None:
    row = dict(zip([*names, *scores], ["sky?", "blue", "green", 2, 1], strict=True))
    example = only(tmp_path, row)
    assert texts(example) == ("sky?", "blue", "green")
    assert example.chosen is not None
    assert example.chosen.score == 2


def test_a_system_column_and_an_instruction_with_input_become_one_prompt(tmp_path: Path) -> None:
    example = only(tmp_path, {"system": "be brief", "question": "sky?", "chosen": "blue", "rejected": "green"})
    assert json.loads(example.messages or "") == [{"role": "system", "content": "be brief"}, user("sky?")]
    example = only(tmp_path, {"instruction": "sort", "input": "b a", "chosen": "a b", "rejected": "b a"})
    assert example.prompt == "sort\n\nb a"


def test_models_that_are_named_make_answers_of_their_own(tmp_path: Path) -> None:
    row = {"prompt": "p", "chosen": "a", "rejected": "b", "chosen_model": "good", "rejected_model": "bad"}
    assert [said.model for said in only(tmp_path, row).answers] == ["good", "bad"]


# The other formats


def test_hh_strings(tmp_path: Path) -> None:
    before = "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: sky?\n\nAssistant:"
    example = only(tmp_path, {"chosen": f"{before} blue", "rejected": f"{before} green\n\nand more"})
    assert texts(example) == ("user: hi\n\nassistant: hello\n\nuser: sky?", "blue", "green\n\nand more")
    assert json.loads(example.messages or "") == [user("hi"), assistant("hello"), user("sky?")]
    one = "\n\nHuman: sky?\n\nAssistant:"
    assert texts(only(tmp_path, {"chosen": f"{one} blue", "rejected": f"{one} "})) == ("sky?", "blue", "")


def completion(text: str, score: float | None, **ratings: str) -> dict[str, Any]:
    annotations = {aspect: {"Rating": rating, "Rationale": "..."} for aspect, rating in ratings.items()}
    return {"response": text, "model": f"m{text}", "overall_score": score, "annotations": annotations}


def test_ultrafeedback_pairs_the_best_with_the_worst_and_keeps_all(tmp_path: Path) -> None:
    completions = [
        completion("a", 5),
        completion("b", 9, helpfulness="5", honesty="N/A"),
        completion("c", 1),
        completion("d", None),
    ]
    example = only(tmp_path, {"source": "flan", "instruction": "sky?", "completions": completions})
    assert texts(example) == ("sky?", "b", "c")
    assert [said.text for said in example.answers] == ["a", "b", "c", "d"]
    assert example.chosen is not None
    assert dict(example.chosen.aspects) == {"helpfulness": 5.0}
    assert example.source == "flan"


def test_ultrafeedback_scores_by_its_aspects_where_there_is_no_overall_score(tmp_path: Path) -> None:
    rows = [completion("a", None, x="1", y="2"), completion("b", None, x="4", y="5")]
    assert texts(only(tmp_path, {"instruction": "p", "completions": rows})) == ("p", "b", "a")


def test_lists_of_responses_and_of_scores(tmp_path: Path) -> None:
    row = {"prompt": "p", "all_generated_responses": ["a", "b", "c"], "all_rm_scores": [0.1, 0.9, 0.4]}
    assert texts(only(tmp_path, row)) == ("p", "b", "a")
    as_parquet(tmp_path / "rows.parquet", [row])
    assert texts(look([str(tmp_path / "rows.parquet")]).examples[0]) == ("p", "b", "a")


def test_completions_that_all_score_the_same_make_no_pair_and_are_kept(tmp_path: Path) -> None:
    found = looked(tmp_path, {"prompt": "p", "responses": ["a", "b"], "scores": [1, 1]})
    assert (found.tally.taken, found.tally.pairs) == (1, 0)
    assert found.tally.unpaired == {"all completions score the same": 1}


@pytest.mark.parametrize(
    ("row", "better"),
    [
        ({"response_0": "a", "response_1": "b", "better_response_id": 1}, "b"),
        ({"response_0": "a", "response_1": "b", "better_response_id": "0"}, "a"),
        ({"response_1": "a", "response_2": "b", "preference": 2}, "b"),
        ({"response1": "a", "response2": "b", "overall_preference": -2}, "a"),
        ({"response_a": "a", "response_b": "b", "winner": "model_b"}, "b"),
        ({"response_0": "a", "response_1": "b", "score_0": 1, "score_1": 3}, "b"),
        ({"response_a": "a", "response_b": "b", "winner": "tie"}, None),
    ],
)
def test_two_responses_and_which_is_better(row: dict[str, Any], better: str | None, tmp_path: Path) -> None:
    example = only(tmp_path, {"prompt": "p"} | row)
    assert (example.chosen.text if example.chosen else None) == better


def judged(first: str, second: str, *choices: Any) -> list[dict[str, Any]]:
    return [{"prompt": "p", first: "FIRST", second: "SECOND", "preference": choice} for choice in choices]


@pytest.mark.parametrize(
    ("names", "choices", "chosen"),
    [
        (("response_a", "response_b"), (1, 2), ["FIRST", "SECOND"]),
        (("response_a", "response_b"), ("1", "2", 1.5), ["FIRST", "SECOND", None]),
        (("response_a", "response_b"), (0, 1, 0.5), ["FIRST", "SECOND", None]),
        (("response_a", "response_b"), ("A", "b", "tie"), ["FIRST", "SECOND", None]),
        (("response_1", "response_2"), (1, 2, 0), ["FIRST", "SECOND", None]),
        (("response_1", "response_2"), (1,), ["FIRST"]),
        (("response_0", "response_1"), (1,), ["SECOND"]),
    ],
)
def test_the_numbers_of_a_choice_are_told_by_the_answers_names_or_by_what_the_file_holds(
    names: tuple[str, str], choices: tuple[Any, ...], chosen: list[str | None], tmp_path: Path
) -> None:
    found = looked(tmp_path, *judged(*names, *choices))
    assert [example.chosen and example.chosen.text for example in found.examples] == chosen


def test_what_a_choice_was_taken_to_mean_is_shown(tmp_path: Path) -> None:
    found = looked(tmp_path, *judged("response_a", "response_b", 1, 2))
    assert found.told()["notes"] == ["'preference': 1 prefers 'response_a', 2 prefers 'response_b'"]
    assert looked(tmp_path, *judged("response_a", "response_b", "a", "b")).told()["notes"] == []


@pytest.mark.parametrize(
    ("names", "choices"),
    [
        (("response_a", "response_b"), (1,)),
        (("response_a", "response_b"), (0, 1, 2)),
        (("response_a", "response_b"), (-1, 0, 1)),
        (("response_1", "response_2"), (0, 1)),
    ],
)
def test_a_choice_that_could_mean_either_answer_is_refused_and_never_guessed(
    names: tuple[str, str], choices: tuple[int, ...], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="what 'preference' counts cannot be told") as caught:
        looked(tmp_path, *judged(*names, *choices))
    assert "response_0 and response_1" in caught.value.hint


def test_a_choice_the_sample_did_not_have_is_a_refused_row(tmp_path: Path) -> None:
    found = looked(tmp_path, *judged("response_a", "response_b", *[1, 2] * 150, 0))
    assert found.tally.refused == {"'preference' names neither answer": 1}
    assert found.tally.refusals[0].number == 301


def annotation(preference: float | None) -> dict[str, Any]:
    sides = {"output_1": "base", "generator_1": "gpt4", "output_2": "ours", "generator_2": "M"}
    return {"instruction": "p", "preference": preference, "annotator": "judge", **sides}


def test_alpaca_eval_annotations_are_a_soft_preference_and_a_pair(tmp_path: Path) -> None:
    example = only(tmp_path, annotation(1.75))
    assert texts(example) == ("p", "ours", "base")
    assert example.compared is not None
    assert (example.compared.a.model, example.compared.b.model, example.compared.preference) == ("M", "gpt4", 0.75)
    assert (example.scorer, example.chosen.score, example.rejected.score) == ("judge", 0.75, 0.25)  # type: ignore[union-attr]
    assert texts(only(tmp_path, annotation(1.25))) == ("p", "base", "ours")


@pytest.mark.parametrize("draw", [1.5, 0])
def test_an_annotation_that_is_a_draw_makes_no_pair(draw: float, tmp_path: Path) -> None:
    example = only(tmp_path, annotation(draw))
    assert example.chosen is None
    assert example.compared is not None
    assert example.compared.preference == 0.5


def test_one_file_of_outputs_is_prompts_and_answers(tmp_path: Path) -> None:
    example = only(tmp_path, {"instruction": "p", "output": "a", "generator": "M", "dataset": "koala"})
    assert (example.chosen, example.answers[0].model, example.source) == (None, "M", "koala")


def test_two_files_of_outputs_make_pairs_first_rejected_second_chosen(tmp_path: Path) -> None:
    old = [{"instruction": p, "output": f"old {p}", "generator": "M_0"} for p in ("a", "b", "a", "c")]
    new = [{"instruction": p, "output": f"new {n} {p}", "generator": "M_1"} for n, p in enumerate(["b", "a", "a", "d"])]
    as_jsonl(tmp_path / "old.jsonl", old)
    as_jsonl(tmp_path / "new.jsonl", new)
    found = look([str(tmp_path / "old.jsonl"), str(tmp_path / "new.jsonl")])
    assert found.told()["format"] == "two files of answers"
    assert Summary.of(found.plan, found.tally, {}, 0, "").format == "two files of answers"
    assert [texts(example) for example in found.examples] == [
        ("b", "new 0 b", "old b"), ("a", "new 1 a", "old a"), ("a", "new 2 a", "old a"),
    ]  # fmt: skip
    assert [(one.file, one.number) for one in found.tally.refusals] == [("new.jsonl", 4), ("old.jsonl", 4)]
    assert {one.unit for one in found.tally.refusals} == {"line"}
    assert set(found.tally.refused) == {"the other file has no answer to this prompt"}
    assert [said.model for said in found.examples[0].answers] == ["M_1", "M_0"]


# What is told before anything is written


def test_columns_can_be_named_by_hand_also_below_others(tmp_path: Path) -> None:
    row = {"ask": "p", "out": {"good": "a", "bad": "b"}}
    example = only(tmp_path, row, columns={"prompt": "ask", "chosen": "out.good", "rejected": "out.bad"})
    assert texts(example) == ("p", "a", "b")


def test_a_look_says_what_was_taken_from_where_and_what_was_not_used(tmp_path: Path) -> None:
    found = looked(tmp_path, {"question": "p", "chosen": "a", "rejected": "b", "id": 7})
    assert found.plan.taken == {"chosen": "chosen", "rejected": "rejected", "prompt": "question"}
    assert found.plan.unused == ("id",)
    assert found.told()["format"] == "trl"
    json.dumps(found.told())


GOOD = {"prompt": "p", "chosen": "a", "rejected": "b", "score_chosen": 1.0, "score_rejected": 0.5}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"chosen": None}, "no 'chosen'"),
        ({"rejected": 7}, "'rejected' is not text"),
        ({"rejected": ["b"]}, "'rejected' is not text"),
        ({"prompt": " \n"}, "an empty prompt"),
        ({"prompt": None}, "no 'prompt'"),
        ({"score_chosen": "good"}, "'score_chosen' is not a number"),
        ({"score_chosen": float("nan")}, "'score_chosen' is not a number"),
        ({"score_rejected": True}, "'score_rejected' is not a number"),
        ({"chosen": [{"role": "alien", "content": "a"}]}, "'chosen' holds a message without a known role"),
        ({"chosen": [{"role": "assistant"}], "rejected": [assistant("b")]}, "'chosen' holds a message without content"),
    ],
)  # fmt: skip
def test_a_row_that_is_not_what_it_should_be_is_refused_with_its_line(
    change: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    found = looked(tmp_path, GOOD, GOOD | change, {"prompt": "p2", "chosen": "", "rejected": "b"})
    assert found.tally.refused == {reason: 1}
    (refusal,) = found.tally.refusals
    assert (refusal.place, refusal.reason) == ("rows.jsonl line 2", reason)
    assert found.tally.taken == 2  # an empty answer is no reason: the health report wants to see it


def test_sides_that_share_no_prompt_are_refused(tmp_path: Path) -> None:
    found = looked(
        tmp_path,
        {"chosen": "Sky", "rejected": "green"},
        {"chosen": "same", "rejected": "same"},
        {"chosen": "a b", "rejected": "a c"},
    )
    assert set(found.tally.refused) == {
        "the two sides share no prompt",
        "the two sides are equal and there is no prompt",
    }
    assert found.tally.taken == 1


def test_refusals_are_counted_without_end_and_listed_within_bounds(tmp_path: Path) -> None:
    found = looked(tmp_path, GOOD, *[GOOD | {"chosen": number} for number in range(500)])
    assert found.tally.refused == {"'chosen' is not text": 500}
    assert len(found.tally.refusals) == 25


def test_wrong_bytes_and_half_characters_are_mended_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    wrong_bytes = b'{"prompt": "p", "chosen": "a\xff", "rejected": "b"}'
    half_a_pair = b'{"prompt": "p", "chosen": "\\ud83d\\ude00\\ud800", "rejected": "b\\u0000"}'
    path.write_bytes(wrong_bytes + b"\n" + half_a_pair + b"\n")
    found = look([str(path)])
    assert [texts(example) for example in found.examples] == [("p", "a�", "b"), ("p", "😀�", "b\0")]
    assert found.tally.mended == 2
    assert "not Unicode" in found.sentence


def test_unpaired_rows_are_refused_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="unpaired") as caught:
        looked(
            tmp_path,
            {"prompt": "p", "completion": "a", "label": True},
            {"prompt": "p", "completion": "b", "label": False},
        )
    assert "chosen and a rejected" in caught.value.hint


@pytest.mark.parametrize(
    ("row", "given", "said"),
    [
        ({"x": 1, "y": 2}, {}, "no known format"),
        ({"prompt": "p"}, {}, "no known format"),
        (GOOD, {"format": "hhh"}, "no import format 'hhh'"),
        (GOOD, {"format": "ultrafeedback"}, "needs 'completions'"),
        (GOOD, {"columns": {"promt": "prompt"}}, "nothing is called 'promt'"),
        (GOOD, {"columns": {"prompt": "question"}}, "there is no column 'question'"),
    ],
)
def test_a_file_that_cannot_be_read_so_is_refused_with_a_hint(
    row: dict[str, Any], given: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said) as caught:
        looked(tmp_path, row, **given)
    assert caught.value.hint


def test_two_files_of_answers_with_other_column_names_are_each_read_by_their_own(tmp_path: Path) -> None:
    as_jsonl(tmp_path / "old.jsonl", [{"instruction": "p", "output": "old", "generator": "M_0"}])
    as_jsonl(tmp_path / "new.jsonl", [{"question": "p", "answer": "new", "model": "M_1", "id": 3}])
    found = look([str(tmp_path / "old.jsonl"), str(tmp_path / "new.jsonl")])
    assert [texts(example) for example in found.examples] == [("p", "new", "old")]
    assert [said.model for said in found.examples[0].answers] == ["M_1", "M_0"]
    assert found.plan.taken == {
        "prompt": "instruction, question", "output": "output, answer", "generator": "generator, model",
    }  # fmt: skip
    assert found.plan.unused == ("id",)


def test_a_column_named_by_hand_may_be_in_one_of_two_files(tmp_path: Path) -> None:
    as_jsonl(tmp_path / "old.jsonl", [{"instruction": "p", "output": "old"}])
    as_jsonl(tmp_path / "new.jsonl", [{"ask": "p", "output": "new"}])
    paths = [str(tmp_path / "old.jsonl"), str(tmp_path / "new.jsonl")]
    assert [texts(one) for one in look(paths, columns={"prompt": "ask"}).examples] == [("p", "new", "old")]
    with pytest.raises(DataError, match="there is no column 'asked'"):
        look(paths, columns={"prompt": "asked"})


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.jsonl", "{'prompt': 'p'}\n", "rows.jsonl line 1: not JSON: Expecting property name"),
        ("rows.jsonl", '{"a": 1}{"a": 2}\n', "rows.jsonl line 1: not JSON: Extra data"),
        ("rows.jsonl", "oops\n" * 300, "nor can any of the first 200"),
        ("rows.json", "[[1, 2]]", "rows.json item 1: not an object: it is a list"),
        ("rows.json", '[{"a": "' + "x" * 9_000_000 + '"}]', "item 1: longer than 4,000,000 bytes: nothing behind"),
        ("rows.json", "[]", "JSON: it has none"),
        ("rows.csv", "prompt,chosen,rejected\n", "CSV: it has none"),
    ],
)  # fmt: skip
def test_a_file_without_a_row_says_what_is_wrong_with_the_first(
    name: str, content: str, said: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="holds no row that can be read") as caught:
        look([str(tmp_path / name)])
    assert said in caught.value.message
    assert caught.value.hint
    assert len(caught.value.message) < 600


def test_an_empty_parquet_file_says_that_it_is_empty(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="as Parquet: it has none"):
        look([str(tmp_path / "rows.parquet")])


def test_rows_that_lie_inside_of_one_object_are_pointed_at(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="whose 'data' is a list of objects") as caught:
        looked(tmp_path, {"version": 1, "data": [GOOD]})
    assert ".data[]" in caught.value.hint


def test_column_names_of_any_length_and_number_are_told_in_bounds(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        looked(tmp_path, {"x" * 100_000: 1, **{f"c{n}": n for n in range(5_000)}})
    assert "and 4,981 more" in caught.value.message
    assert len(caught.value.message) < 1_000


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (
            {"instruction": "p", "completions": [{"response": "a"}, {"response": "b"}]},
            "fewer than two scored completions",
        ),
        ({"prompt": "p", "responses": ["a", "b"]}, "fewer than two scored completions"),
    ],
)
def test_completions_without_scores_are_kept_and_why_they_make_no_pair_is_told(
    row: dict[str, Any], why: str, tmp_path: Path
) -> None:
    found = looked(tmp_path, row)
    assert (found.tally.taken, found.tally.pairs, found.tally.unpaired) == (1, 0, {why: 1})
    assert why in found.sentence


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"instruction": "p", "completions": [completion("a", math.nan)]}, "'completions score' is not a number"),
        ({"instruction": "p", "completions": []}, "'completions' is empty"),
        ({"prompt": "p", "responses": ["a", "b"], "scores": [1]}, "'responses' and 'scores' differ in length"),
        ({"prompt": [[user("x")]], "chosen": [assistant("a")], "rejected": [assistant("b")]}, "'prompt' is not text"),
        ({"prompt": "p", "chosen": assistant("a"), "rejected": assistant("b")}, "'chosen' is not text"),
    ],
)  # fmt: skip
def test_odd_values_refuse_their_row_with_a_reason(row: dict[str, Any], reason: str, tmp_path: Path) -> None:
    assert looked(tmp_path, row).tally.refused == {reason: 1}


def test_list_columns_of_parquet_where_texts_are_asked_for_are_refused_rows(tmp_path: Path) -> None:
    as_parquet(tmp_path / "rows.parquet", [{"prompt": "p", "chosen": ["a"], "rejected": ["b"]}])
    (refusal,) = look([str(tmp_path / "rows.parquet")]).tally.refusals
    assert (refusal.place, refusal.why) == ("rows.parquet row 1", "'chosen' is not text: it is ['a']")


def test_tool_calls_and_system_turns_are_kept_as_messages(tmp_path: Path) -> None:
    called = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
    before = [{"role": "system", "content": "s"}, user("x"), called, {"role": "tool", "content": "42"}]
    example = only(tmp_path, {"chosen": [*before, assistant("a")], "rejected": [*before, assistant("b")]})
    kept = json.loads(example.messages or "")
    assert [message["role"] for message in kept] == ["system", "user", "assistant", "tool"]
    assert '"name": "f"' in kept[2]["content"]
    assert texts(example)[1:] == ("a", "b")


def test_two_files_that_are_no_answers_are_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        as_jsonl(tmp_path / f"{name}.jsonl", [GOOD])
    with pytest.raises(DataError, match="holds no answers"):
        look([str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")])


def test_a_quick_look_says_that_it_has_not_seen_everything(tmp_path: Path) -> None:
    as_jsonl(tmp_path / "rows.jsonl", [GOOD] * 2_500)
    found = look([str(tmp_path / "rows.jsonl")], at_most=1_000)
    assert (found.tally.rows, found.whole, found.total) == (1_000, False, 2_500)
    assert "the first 1,000 of 2,500" in found.sentence
