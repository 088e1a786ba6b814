"""Golden tests: what is read and what is trained on, token by token, in the chat formats of five families.

Each tokenizer here has bytes for words and the family's own control tokens; each template is a minimal one written for
these tests that lays turns out as the family's does, and published ones are held to the same. What matters is where a turn
begins and ends, who writes the BOS, and that only in some families the end of a turn is what the tokenizer calls its EOS.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from synpo_lab.chat import IGNORED, encode_examples, encode_prompts, end_tokens
from synpo_lab.errors import ModelError


@dataclass(frozen=True)
class Family:
    template: str
    specials: str
    bos: str | None
    eos: str
    adds_bos: bool  # the tokenizer itself puts a BOS before plain text
    prompt: str  # how "Hello" is read
    trained: str  # what is trained on of "Hi there."


FAMILIES = {
    "Llama 3": Family(
        template=(
            "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
            "{{ m.content | trim }}<|eot_id|>{% endfor %}"
            "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
        ),
        specials="<|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|>",
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        adds_bos=True,
        prompt=(
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n"
        ),
        trained="Hi there.<|eot_id|>",
    ),
    "Llama 3, a base model's EOS": Family(
        template=(
            "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
            "{{ m.content | trim }}<|eot_id|>{% endfor %}"
            "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
        ),
        specials="<|begin_of_text|> <|end_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|>",
        bos="<|begin_of_text|>",
        eos="<|end_of_text|>",
        adds_bos=True,
        prompt=(
            "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|>"
            "<|start_header_id|>assistant<|end_header_id|>\n\n"
        ),
        trained="Hi there.<|eot_id|>",
    ),
    "Mistral": Family(
        template=(
            "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
            "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
        ),
        specials="<s> </s>",
        bos="<s>",
        eos="</s>",
        adds_bos=True,
        prompt="<s>[INST] Hello [/INST]",
        trained=" Hi there.</s>",
    ),
    "Qwen": Family(
        template=(
            "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are helpful.<|im_end|>\n{% endif %}"
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
        ),
        specials="<|endoftext|> <|im_start|> <|im_end|>",
        bos=None,
        eos="<|im_end|>",
        adds_bos=False,
        prompt=(
            "<|im_start|>system\nYou are helpful.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
        ),
        trained="Hi there.<|im_end|>",
    ),
    "Gemma": Family(
        template=(
            "{{ bos_token }}{% for m in messages %}<start_of_turn>"
            "{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
            "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
        ),
        specials="<pad> <eos> <bos> <start_of_turn> <end_of_turn>",
        bos="<bos>",
        eos="<eos>",
        adds_bos=True,
        prompt="<bos><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n",
        trained="Hi there.<end_of_turn>",
    ),
    "Phi": Family(
        template=(
            "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
            "{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}"
        ),
        specials="<s> <|endoftext|> <|user|> <|assistant|> <|end|>",
        bos="<s>",
        eos="<|endoftext|>",
        adds_bos=False,
        prompt="<|user|>\nHello<|end|>\n<|assistant|>\n",
        trained="Hi there.<|end|>",
    ),
}


def tokenizer_of(family: Family, template: str | None = None) -> Any:
    vocabulary = {letter: i for i, letter in enumerate(sorted(ByteLevel.alphabet()))}
    made = Tokenizer(BPE(vocabulary, []))
    made.pre_tokenizer = ByteLevel(add_prefix_space=False)
    made.decoder = ByteDecoder()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in family.specials.split()])
    if family.adds_bos:
        assert family.bos
        made.post_processor = TemplateProcessing(
            single=f"{family.bos} $A", special_tokens=[(family.bos, made.token_to_id(family.bos))]
        )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token=family.bos, eos_token=family.eos)
    tokenizer.chat_template = template or family.template
    return tokenizer


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


def test_exactly_the_answer_and_the_end_of_its_turn_are_trained_on(family: Family) -> None:
    tokenizer = tokenizer_of(family)
    [row] = encode_examples(tokenizer, [("Hello", "Hi there.")])
    assert tokenizer.decode(row.prompt) == family.prompt
    assert tokenizer.decode(row.answer) == family.trained
    assert row.labels() == [IGNORED] * len(row.prompt) + row.answer


PUBLISHED = {
    "llama3": ("Llama 3", FAMILIES["Llama 3"].prompt, "Hi there.<|eot_id|>"),
    "qwen2_5": ("Qwen", "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n", "Hi there.<|im_end|>"),
    "qwen3": (
        "Qwen",
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
        "<think>\n\n</think>\n\nHi there.<|im_end|>",  # not to think is the model's to say, and so it is trained on
    ),
    "qwen3_instruct_2507": (
        "Qwen",
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n",
        "Hi there.<|im_end|>",
    ),
    "gemma": ("Gemma", FAMILIES["Gemma"].prompt, "Hi there.<end_of_turn>"),
    "gemma3": ("Gemma", FAMILIES["Gemma"].prompt, "Hi there.<end_of_turn>"),
    "phi3": ("Phi", FAMILIES["Phi"].prompt, "Hi there.<|end|>"),
}


def published(name: str) -> str:
    """The template as its model's repository has it; TRL ships copies."""
    trl = pytest.importorskip("trl", reason="its copies of chat templates are what is read")
    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_templates_are_read_and_trained_on_as_ours_are(name: str) -> None:
    family, prompt, trained = PUBLISHED[name]
    tokenizer = tokenizer_of(FAMILIES[family], published(name))
    [row] = encode_examples(tokenizer, [("Hello", "Hi there.")])
    assert [row.prompt] == encode_prompts(tokenizer, ["Hello"])
    assert tokenizer.decode(row.prompt).endswith(prompt)
    assert tokenizer.decode(row.answer) == trained


def test_a_published_template_that_opens_a_think_block_and_drops_it_is_refused() -> None:
    tokenizer = tokenizer_of(FAMILIES["Qwen"], published("deepseek_r1_distill"))
    with pytest.raises(ModelError, match="renders a prompt differently") as caught:
        encode_examples(tokenizer, [("Hello", "Hi there.")])
    assert "chat_template" in caught.value.hint


def test_the_prompt_that_is_trained_after_is_the_prompt_that_is_generated_from(family: Family) -> None:
    tokenizer = tokenizer_of(family)
    for text in ("Hello", "", "two\n\nlines ", "naïve 中 🙂"):
        [row] = encode_examples(tokenizer, [(text, "Hi there.")])
        assert [row.prompt] == encode_prompts(tokenizer, [text])


def test_a_row_has_one_bos_where_the_family_has_one_and_one_end_at_the_end(family: Family) -> None:
    tokenizer = tokenizer_of(family)
    [row] = encode_examples(tokenizer, [("Hello", "Hi there.")])
    uses_bos = family.bos is not None and family.prompt.startswith(family.bos)
    assert (row.prompt + row.answer).count(tokenizer.bos_token_id) == uses_bos
    ends = end_tokens(tokenizer)
    assert [token in ends for token in row.answer] == [False] * (len(row.answer) - 1) + [True]
    assert tokenizer.eos_token_id in ends


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.bos])
def test_a_template_that_writes_a_second_bos_still_gives_one(name: str) -> None:
    family = FAMILIES[name]
    doubled = tokenizer_of(family, "{{ bos_token }}{{ bos_token }}" + family.template.removeprefix("{{ bos_token }}"))
    [row] = encode_examples(doubled, [("Hello", "Hi there.")])
    assert row.prompt.count(doubled.bos_token_id) == 1
    assert doubled.decode(row.prompt[1:]) == family.prompt.removeprefix(family.bos or "")


def test_an_empty_answer_is_its_end_alone(family: Family) -> None:
    tokenizer = tokenizer_of(family)
    [row] = encode_examples(tokenizer, [("Hello", "")])
    assert tokenizer.decode(row.answer).strip() == family.trained.removeprefix(" ").removeprefix("Hi there.")


def test_what_comes_after_a_control_token_that_an_answer_contains_is_not_trained_on() -> None:
    tokenizer = tokenizer_of(FAMILIES["Qwen"])
    [row] = encode_examples(tokenizer, [("Hello", "Hi<|im_end|>\n<|im_start|>user\nobey")])
    assert tokenizer.decode(row.answer) == "Hi<|im_end|>"
