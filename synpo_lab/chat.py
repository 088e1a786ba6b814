"""Turn (prompt) and (prompt, answer) into token ids. Generation and training both come here, so they agree.

The prompt is the tokenizer's own chat template with its generation prompt; it starts with exactly one BOS where the
tokenizer uses one. The answer is what the template adds after that, up to and including the token that ends its turn:
<|eot_id|>, <|im_end|>, <end_of_turn> or </s>, say, whether or not that is what the tokenizer calls its EOS.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jinja2.exceptions import TemplateError

from synpo_lab.errors import ModelError

IGNORED = -100  # what transformers' losses skip

Turns = tuple[tuple[str, str], ...]  # (user, model), the earliest first


@dataclass(frozen=True, slots=True)
class Example:
    """A prompt and its answer, as token ids. The answer ends with the end token."""

    prompt: list[int]
    answer: list[int]

    def labels(self) -> list[int]:
        """One label per token: the answer's own ids, and -100 over the prompt."""
        return [IGNORED] * len(self.prompt) + self.answer


def cut(answers: Sequence[Example], max_length: int, bos: int | None) -> list[Example]:
    """Answers to one prompt, each of at most `max_length` tokens with it; the prompt stays the same for all.

    As SimPO cuts: the prompt first, which loses what follows its BOS but keeps 1,800 of 2,048 tokens, then the answers
    lose their end. What fits stays as it is.
    """
    prompt, longest = answers[0].prompt, max(len(row.answer) for row in answers)
    kept = min(len(prompt), max(max_length - longest, max_length * 1800 // 2048))
    begin = prompt[:1] if prompt[:1] == [bos] and kept > 1 else []
    prompt = prompt if kept == len(prompt) else begin + prompt[len(prompt) - kept + len(begin) :]
    return [Example(prompt, row.answer[: max_length - kept]) for row in answers]


def encode_prompts(tokenizer: Any, prompts: Sequence[str], histories: Sequence[Turns] | None = None) -> list[list[int]]:
    """Token ids of each prompt, after the turns of its history if there are any, ready for generation."""
    before = histories if histories is not None else [()] * len(prompts)
    asked = zip(prompts, before, strict=True)
    return _token_ids(tokenizer, [_render(tokenizer, prompt, history=turns) for prompt, turns in asked])


def encode_examples(tokenizer: Any, rows: Sequence[tuple[str, str]]) -> list[Example]:
    """Token ids of each (prompt, answer). Raises ModelError if an answer changes how its prompt is rendered."""
    before = [_render(tokenizer, prompt) for prompt, _ in rows]
    after = [_render(tokenizer, prompt, answer) for prompt, answer in rows]
    for prefix, whole in zip(before, after, strict=True):
        if not whole.startswith(prefix):
            raise _not_a_prefix(prefix, whole)
    tails = [whole[len(prefix) :] for prefix, whole in zip(before, after, strict=True)]
    ends = end_tokens(tokenizer) if rows else []
    return [
        Example(prompt, _answer_ids(tokenizer, prompt, whole, tail, ends))
        for prompt, whole, tail in zip(_token_ids(tokenizer, before), _token_ids(tokenizer, after), tails, strict=True)
    ]


def encode_chats(tokenizer: Any, rows: Sequence[tuple[str, str]]) -> list[list[int]]:
    """Token ids of each (prompt, answer) as the template renders it, with all it adds: what reward models are trained on."""
    return _token_ids(tokenizer, [_render(tokenizer, prompt, answer) for prompt, answer in rows])


def end_tokens(tokenizer: Any) -> list[int]:
    """Ids that end an answer: the template's own end of a turn, where it has one, and the tokenizer's EOS."""
    eos: int = tokenizer.eos_token_id
    turn = _turn_end(tokenizer)
    return [eos] if turn in (None, eos) else [turn, eos]


def _turn_end(tokenizer: Any) -> int | None:
    """The first special token after an answer of one letter."""
    prompt, whole = _render(tokenizer, "x"), _render(tokenizer, "x", "x")
    if not whole.startswith(prompt):
        return None  # encode_examples says so
    ids: list[int] = tokenizer(whole[len(prompt) :], add_special_tokens=False)["input_ids"]
    special = {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    special -= {tokenizer.unk_token_id, tokenizer.bos_token_id}
    return next((token for token in ids if token in special), None)


def _render(tokenizer: Any, prompt: str, answer: str | None = None, history: Turns = ()) -> str:
    roles = ("user", "assistant")
    chat = [{"role": role, "content": text} for turn in history for role, text in zip(roles, turn, strict=True)]
    chat.append({"role": "user", "content": prompt})
    if answer is not None:
        chat.append({"role": "assistant", "content": answer})
    try:
        text: str = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=answer is None)
    except TemplateError as error:
        if history:
            raise ModelError(
                f"the chat template refuses a conversation of several turns: {error}", hint="begin a new conversation"
            ) from None
        raise ModelError(
            f"the chat template refuses a plain question{' and answer' if answer else ''}: {error}",
            hint="set chat_template to 'plain', or to a Jinja file that takes one user turn and one assistant turn, without a "
            "system turn",
        ) from None
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair, which JSON can hold, has no tokens


def _token_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Ids of rendered chats, with one BOS where plain text gets one: templates may or may not write it themselves."""
    if not texts:
        return []
    rows: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
    bos = tokenizer.bos_token_id
    if bos is None or tokenizer("")["input_ids"][:1] != [bos]:
        return [_one_bos(row, bos) for row in rows]
    return [_one_bos([bos, *row], bos) for row in rows]


def _one_bos(row: list[int], bos: int | None) -> list[int]:
    while bos is not None and row[:2] == [bos, bos]:
        row = row[1:]
    return row


def _answer_ids(tokenizer: Any, prompt: list[int], whole: list[int], tail: str, ends: list[int]) -> list[int]:
    straddles = whole[: len(prompt)] != prompt  # a token does, the border: keep the prompt that generation sees
    ids: list[int] = tokenizer(tail, add_special_tokens=False)["input_ids"] if straddles else whole[len(prompt) :]
    last = next((place for place, token in enumerate(ids) if token in ends), None)
    return [*ids, ends[0]] if last is None else ids[: last + 1]


def _not_a_prefix(prefix: str, whole: str) -> ModelError:
    same = next((i for i, (a, b) in enumerate(zip(prefix, whole, strict=False)) if a != b), len(whole))
    return ModelError(
        "the chat template renders a prompt differently once it has an answer: "
        f"{prefix[max(0, same - 20) :]!r} became {whole[max(0, same - 20) : same + 40]!r}",
        hint="set chat_template to 'plain', or to a Jinja file whose generation prompt is the start of the full chat (those of "
        "reasoning models, that open a think block and then drop it, are not)",
    )
