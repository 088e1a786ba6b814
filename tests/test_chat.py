from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.chat import IGNORED, Example, cut, encode_examples, encode_prompts
from synpo_lab.errors import ModelError
from tests.tiny_model import TEMPLATE, tiny_tokenizer

BOS, END, USER, BOT = 1, 2, 4, 5


def word(i: int) -> int:
    return 6 + i


def with_template(template: str, **settings: Any) -> Any:
    tokenizer = tiny_tokenizer(26, template=template)
    for name, value in settings.items():
        setattr(tokenizer, name, value)
    return tokenizer


def adding_bos(template: str) -> Any:
    """A tokenizer that, like Llama's, puts a BOS before plain text by itself."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = with_template(template)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", BOS)])
    assert tokenizer("w0")["input_ids"] == [BOS, word(0)]
    return tokenizer


def test_a_row_is_bos_prompt_answer_and_one_end_token() -> None:
    [row] = encode_examples(tiny_tokenizer(26), [("w1 w2", "w3")])
    assert row == Example([BOS, USER, word(1), word(2), BOT], [word(3), END])
    assert row.labels() == [IGNORED] * 5 + [word(3), END]


def test_generation_and_training_see_the_same_prompt() -> None:
    tokenizer = tiny_tokenizer(26)
    prompts = ["w1 w2", "", "w3  w4\nw5"]
    assert encode_prompts(tokenizer, prompts) == [
        row.prompt for row in encode_examples(tokenizer, [(p, "w0") for p in prompts])
    ]


@pytest.mark.parametrize("template", [TEMPLATE, TEMPLATE.replace("{{ bos_token }}", ""), "{{ bos_token }}" + TEMPLATE])
def test_there_is_exactly_one_bos_whoever_writes_it(template: str) -> None:
    [row] = encode_examples(adding_bos(template), [("w1", "w2")])
    assert row == Example([BOS, USER, word(1), BOT], [word(2), END])


def test_a_tokenizer_that_uses_no_bos_gets_none() -> None:
    tokenizer = with_template(TEMPLATE.replace("{{ bos_token }}", ""))
    assert encode_prompts(tokenizer, ["w1"]) == [[USER, word(1), BOT]]


@pytest.mark.parametrize(
    "ending", ["", "{{ eos_token }}", "{{ eos_token }} w9", "{{ eos_token }}{{ eos_token }}"],
    ids=["template without end", "with end", "with text after the end", "with two ends"],
)  # fmt: skip
def test_there_is_exactly_one_end_token_whoever_writes_it(ending: str) -> None:
    template = TEMPLATE.replace("{{ eos_token }}{% endif %}", ending + "{% endif %}")
    [row] = encode_examples(with_template(template), [("w1", "w2")])
    assert row.answer == [word(2), END]


def test_an_empty_answer_is_its_end_token() -> None:
    [row] = encode_examples(tiny_tokenizer(26), [("w1", "")])
    assert row.answer == [END]


def test_a_template_that_changes_the_prompt_is_an_error_that_shows_where() -> None:
    thinking = TEMPLATE + "{% if add_generation_prompt %} w7{% endif %}"
    with pytest.raises(ModelError, match=r"renders a prompt differently .* w7' became '.* w2</s>'") as caught:
        encode_examples(with_template(thinking), [("w1", "w2")])
    assert "think" in caught.value.hint


def test_a_template_that_refuses_is_an_error_with_a_hint() -> None:
    refusing = "{{ raise_exception('Only with a system turn') }}"
    with pytest.raises(ModelError, match="Only with a system turn") as caught:
        encode_prompts(with_template(refusing), ["w1"])
    assert "one user turn" in caught.value.hint


def test_a_token_that_straddles_the_border_is_split_so_that_the_prompt_stays() -> None:
    """The template glues the answer to its marker: whole, '<bot>' and 'w3' would be one unknown word."""
    tokenizer = with_template(
        "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'user' %} w8{% endif %}{% endfor %}"
    )
    [row] = encode_examples(tokenizer, [("w1", "w3")])
    assert row.prompt == encode_prompts(tokenizer, ["w1"])[0] == [word(1), word(8)]
    assert row.answer == [word(3), END]


def test_cutting_takes_from_the_start_of_the_prompt_what_an_answer_needs() -> None:
    row, bos = Example([1, *range(10, 29)], [6, 7, 8]), 1
    assert cut([row], 23, bos) == [row]
    assert cut([row], 22, bos) == [Example([1, *range(11, 29)], [6, 7, 8])]
    assert cut([row], 22, None) == [Example([*range(10, 29)], [6, 7, 8])]


def test_a_long_answer_leaves_its_prompt_the_share_that_simpo_gives_it() -> None:
    """SimPO cuts to 2,048 tokens: the prompt to 1,800, then the answer."""
    [row] = cut([Example([*range(300)], [7] * 2047)], 2048, bos=0)
    assert row == Example([*range(300)], [7] * 1748)
    [row] = cut([Example([*range(3000)], [7] * 2047)], 2048, bos=0)
    assert row == Example([0, *range(1201, 3000)], [7] * 248)


def test_two_answers_are_cut_after_the_same_prompt() -> None:
    prompt = [1, *range(10, 29)]
    pair = cut([Example(prompt, [6, 7, 8]), Example(prompt, [9])], 20, bos=1)
    assert pair == [Example([1, *range(13, 29)], [6, 7, 8]), Example([1, *range(13, 29)], [9])]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(8, 50))
def test_a_cut_pair_fits_and_keeps_something_of_every_part(prompt: int, a: int, b: int, limit: int) -> None:
    asked = [Example([1, *range(2, prompt + 1)], [0] * a), Example([1, *range(2, prompt + 1)], [0] * b)]
    rows = cut(asked, limit, bos=1)
    assert all(0 < len(row.answer) <= limit - len(row.prompt) for row in rows)
    assert rows[0].prompt == rows[1].prompt
    assert rows[0].prompt[:1] == [1]
    assert (rows == asked) == (prompt + max(a, b) <= limit)


def test_no_rows_are_no_work() -> None:
    assert encode_examples(tiny_tokenizer(26), []) == []
    assert encode_prompts(tiny_tokenizer(26), []) == []


def test_the_turns_before_stand_before_the_prompt() -> None:
    tokenizer = tiny_tokenizer(26)
    [alone, after] = encode_prompts(tokenizer, ["w5", "w5"], [(), (("w1", "w2"), ("w3", "w4"))])
    assert alone == [BOS, USER, word(5), BOT]
    before = [BOS, USER, word(1), BOT, word(2), END, USER, word(3), BOT, word(4), END]
    assert after == [*before, USER, word(5), BOT]


def test_a_template_for_one_turn_refuses_a_conversation_with_a_hint() -> None:
    only_one = "{% if messages | length > 2 %}{{ raise_exception('one turn') }}{% endif %}" + TEMPLATE
    tokenizer = with_template(only_one)
    with pytest.raises(ModelError, match="several turns: one turn") as caught:
        encode_prompts(tokenizer, ["w5"], [(("w1", "w2"),)])
    assert caught.value.hint == "begin a new conversation"
