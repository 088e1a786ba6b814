"""The shapes preference data comes in. Each reads one row of its file as an `Example`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from synpo_lab.importing import chats, choices
from synpo_lab.importing.columns import MISSING, Row, RowRefused, number_of, unpacked

TIE = "a tie"


@dataclass(frozen=True, slots=True)
class Said:
    """One answer."""

    text: str
    model: str = ""  # who gave it, where that is known
    score: float | None = None
    aspects: Mapping[str, float] = field(default_factory=dict)  # further scores by name


@dataclass(frozen=True, slots=True)
class Compared:
    """A judge's verdict on two answers: `a` is the model under test, `preference` 0..1 how much it is preferred."""

    a: Said
    b: Said
    preference: float


@dataclass(frozen=True, slots=True)
class Example:
    """What one row says."""

    prompt: str
    messages: str | None = None  # JSON; None where the prompt is one user turn
    chosen: Said | None = None
    rejected: Said | None = None
    answers: tuple[Said, ...] = ()  # answers that are stored of their own, because a pair does not hold all of them
    compared: Compared | None = None
    scorer: str = "given"
    source: str = ""  # where the row itself says it is from
    unpaired: str = ""  # why the row makes no pair although nothing is wrong with it


Read = Callable[[Row], Example]
Fits = Callable[[Mapping[str, str], Sequence[Mapping[str, Any]]], bool]


@dataclass(frozen=True, slots=True)
class Format:
    """A shape: which columns it needs and may use, how it is recognised, and how a row is read."""

    name: str
    title: str
    needs: tuple[str, ...]
    uses: tuple[str, ...]
    fits: Fits
    read: Read


def _preference_pair(row: Row) -> Example:
    """Chosen and rejected, plain or conversational, the prompt of its own or the part that both begin with."""
    chosen, rejected = row.given("chosen"), row.given("rejected")
    if chats.is_chat(chosen) or chats.is_chat(rejected):
        return _conversation(row, chosen, rejected)
    better, worse = row.whole(chosen, row.name("chosen")), row.whole(rejected, row.name("rejected"))
    if row.value("prompt") is MISSING:
        prompt, better, worse = _split_texts(better, worse)
        return _paired(row, prompt, None, better, worse)
    prompt, messages = _prompt(row)
    return _paired(row, prompt, messages, better, worse)


def _conversation(row: Row, chosen: Any, rejected: Any) -> Example:
    better = chats.messages_of(row, chosen, row.name("chosen"))
    worse = chats.messages_of(row, rejected, row.name("rejected"))
    if not better or not worse:
        raise RowRefused("a side without messages")
    asked = _asked(row)
    # Some files repeat the prompt in both sides, whether or not they have it in a column of its own.
    if asked and not _repeats(asked, better, worse):
        return _paired(row, chats.transcript(asked), chats.stored(asked), _answer_of(better), _answer_of(worse))
    return _parted(row, better, worse)


def _parted(row: Row, better: list[chats.Message], worse: list[chats.Message]) -> Example:
    """Two whole conversations: what both begin with is the prompt, the one message behind it the answer."""
    cut = chats.shared(better, worse)
    if cut < 1:
        raise RowRefused("the two sides share no prompt")
    prompt = better[:cut]
    return _paired(
        row, chats.transcript(prompt), chats.stored(prompt), _answer_of(better[cut:]), _answer_of(worse[cut:])
    )


def _answer_of(behind: list[chats.Message]) -> str:
    """The answer to the prompt. A pair holds one message of the assistant's a side; more turns would become one text."""
    if len(behind) > 1:
        roles = ", ".join(message["role"] for message in behind[:6])
        raise RowRefused("the two sides part before the last answer", f"behind what they share stand {roles}")
    if behind[0]["role"] != "assistant":
        raise RowRefused(
            "a side does not end with the assistant's answer", f"its last message is the {behind[0]['role']}'s"
        )
    return behind[0]["content"]


def _asked(row: Row) -> list[chats.Message]:
    """The messages of the prompt column; none where there is no such column."""
    value = row.value("prompt")
    if value is MISSING or value is None:
        return []
    if chats.is_chat(value):
        return [*_system(row), *chats.messages_of(row, value, row.name("prompt"))]
    return [*_system(row), {"role": "user", "content": _not_empty(row, row.text("prompt"))}]


def _repeats(asked: list[chats.Message], better: list[chats.Message], worse: list[chats.Message]) -> bool:
    """Whether both sides begin with a turn that is not the assistant's, as the prompt does."""
    return better[0]["role"] != "assistant" and worse[0]["role"] != "assistant" and min(len(better), len(worse)) > 1


def _split_texts(better: str, worse: str) -> tuple[str, str, str]:
    """The prompt both texts begin with, as TRL's `extract_prompt` cuts it: a space before the answers is the answers'."""
    cut = next((i for i, (a, b) in enumerate(zip(better, worse, strict=False)) if a != b), min(len(better), len(worse)))
    if better == worse:
        raise RowRefused("the two sides are equal and there is no prompt", "where the prompt ends cannot be told")
    if cut and better[cut - 1] == " ":
        cut -= 1
    if not better[:cut].strip():
        raise RowRefused("the two sides share no prompt")
    return better[:cut], better[cut:], worse[cut:]


def _hh(row: Row) -> Example:
    """HH-RLHF: two dialogues as strings, equal up to the last answer."""
    better = chats.turns(row, row.text("chosen"), row.name("chosen"))
    worse = chats.turns(row, row.text("rejected"), row.name("rejected"))
    return _parted(row, better, worse)


def _paired(row: Row, prompt: str, messages: str | None, better: str, worse: str) -> Example:
    chosen = Said(better, row.word("chosen_model"), row.number("chosen_score"))
    rejected = Said(worse, row.word("rejected_model"), row.number("rejected_score"))
    named = (chosen, rejected) if chosen.model or rejected.model else ()
    return Example(_not_empty(row, prompt), messages, chosen, rejected, named, source=row.word("source"))


def _prompt(row: Row) -> tuple[str, str | None]:
    """The prompt's text and its messages where it is more than one user turn."""
    value = row.given("prompt")
    if chats.is_chat(value):
        messages = [*_system(row), *chats.messages_of(row, value, row.name("prompt"))]
        return _not_empty(row, chats.transcript(messages)), chats.stored(messages)
    text = _not_empty(row, row.text("prompt"))
    if row.has("input") and row.name("input") != row.name("prompt"):  # Alpaca's: an instruction and what it is about
        text = f"{text}\n\n{row.text('input')}"
    if system := _system(row):
        messages = [*system, {"role": "user", "content": text}]
        return chats.transcript(messages), chats.stored(messages)
    return text, None


def _system(row: Row) -> list[chats.Message]:
    return [{"role": "system", "content": row.word("system")}] if row.word("system") else []


def _not_empty(row: Row, text: str) -> str:
    if not text.strip():
        raise RowRefused("an empty prompt")
    return text


def _ranked(row: Row) -> Example:
    """UltraFeedback: several completions with scores; the best over the worst makes the pair."""
    prompt, messages = _prompt(row)
    answers = tuple(_completions(row))
    if not answers:
        raise RowRefused(f"{row.name('completions')!r} is empty")
    scored = [answer for answer in answers if answer.score is not None]
    example = Example(prompt, messages, answers=answers, source=row.word("source"))
    if len(scored) < 2:
        return replace(example, unpaired="fewer than two scored completions")
    best, worst = max(scored, key=_score), min(scored, key=_score)
    if best.score == worst.score:
        return replace(example, unpaired="all completions score the same")
    return replace(example, chosen=best, rejected=worst)


def _score(answer: Said) -> float:
    return answer.score or 0.0


def _completions(row: Row) -> list[Said]:
    items = row.listed("completions")
    if items and isinstance(items[0], dict):
        return [_completion(row, item) for item in items]
    name = row.name("completions")
    scores = row.listed("scores") if row.value("scores") is not MISSING else [None] * len(items)
    models = row.listed("models") if row.has("models") else [""] * len(items)
    if len(scores) != len(items) or len(models) != len(items):
        raise RowRefused(
            f"{name!r} and {row.name('scores')!r} differ in length", f"{len(items)} and {len(scores)} of them"
        )
    return [
        Said(row.whole(text, name), str(model or ""), number_of(score, row.name("scores")))
        for text, score, model in zip(items, scores, models, strict=True)
    ]


def _completion(row: Row, item: Any) -> Said:
    """One of UltraFeedback's completions: `response`, `model`, `overall_score`, `annotations` by aspect."""
    name = row.name("completions")
    if not isinstance(item, dict):
        raise RowRefused(f"{name!r} holds something that is not an object")
    text = next(
        (item[key] for key in ("response", "text", "output", "completion", "content", "answer") if key in item), None
    )
    if text is None:
        raise RowRefused(f"{name!r} holds one without a response")
    aspects = dict(_aspects(unpacked(item.get("annotations"))))
    total = next((item[key] for key in ("overall_score", "score", "rating", "reward") if key in item), None)
    score = number_of(total, f"{name} score")
    if score is None and aspects:
        score = sum(aspects.values()) / len(aspects)
    return Said(row.whole(text, name), str(item.get("model") or ""), score, aspects)


def _aspects(annotations: Any) -> list[tuple[str, float]]:
    """Ratings by aspect; "N/A" is none."""
    if not isinstance(annotations, dict):
        return []
    found = []
    for aspect, told in annotations.items():
        rating = told.get("Rating", told.get("rating")) if isinstance(told, dict) else told
        try:
            value = number_of(rating, aspect)
        except RowRefused:
            continue
        if value is not None:
            found.append((aspect, value))
    return found


def _two_responses(row: Row) -> Example:
    """Two answers and which of them is better: a column that says it, or two scores."""
    prompt, messages = _prompt(row)
    first = Said(row.text("first"), row.word("first_model"), row.number("first_score"))
    second = Said(row.text("second"), row.word("second_model"), row.number("second_score"))
    better = _better(row, first, second)
    named = (first, second) if first.model or second.model or not better else ()
    example = Example(prompt, messages, answers=named, source=row.word("source"))
    if not better:
        return replace(example, unpaired=TIE)
    return replace(example, chosen=first if better == 1 else second, rejected=second if better == 1 else first)


def _better(row: Row, first: Said, second: Said) -> int:
    """1 or 2, or 0 for a tie."""
    if row.has("choice"):
        return choices.chosen_of(row, row.counts_from)
    if first.score is None or second.score is None:
        raise RowRefused("nothing says which answer is better")
    return 0 if first.score == second.score else 1 if first.score > second.score else 2


def _annotation(row: Row) -> Example:
    """AlpacaEval's annotations: `preference` runs from 1 (output_1) to 2 (output_2, the model under test)."""
    prompt, messages = _prompt(row)
    preference = row.number("preference")
    if preference is None:
        raise RowRefused(f"no {row.name('preference')!r}", "the annotator gave none")
    if preference == 0:  # AlpacaEval 1 wrote a draw so
        preference = 1.5
    if not 1 <= preference <= 2:
        raise RowRefused(f"{row.name('preference')!r} is not between 1 and 2", f"it is {preference:g}")
    share = preference - 1
    baseline = Said(row.text("output_1"), row.word("generator_1") or "output_1", 1 - share)
    tested = Said(row.text("output_2"), row.word("generator_2") or "output_2", share)
    better, worse = (tested, baseline) if share > 0.5 else (baseline, tested)
    return Example(
        prompt,
        messages,
        chosen=None if share == 0.5 else better,
        rejected=None if share == 0.5 else worse,
        answers=(baseline, tested),
        compared=Compared(tested, baseline, share),
        scorer=row.word("annotator") or "annotator",
        source=row.word("source"),
        unpaired=TIE if share == 0.5 else "",
    )


def _answer(row: Row) -> Example:
    """A prompt and one answer: AlpacaEval's `model_outputs`, or any file of that kind."""
    prompt, messages = _prompt(row)
    said = Said(row.text("output"), row.word("generator"), row.number("score"))
    return Example(prompt, messages, answers=(said,), source=row.word("source"))


def _has(*targets: str) -> Fits:
    return lambda columns, rows: all(target in columns for target in targets)


def _is_hh(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> bool:
    if not {"chosen", "rejected"} <= columns.keys() or "prompt" in columns:
        return False
    texts = [row.get(columns["chosen"]) for row in rows]
    marked = [isinstance(text, str) and text.lstrip().startswith("Human:") for text in texts]
    return bool(marked) and sum(marked) * 2 > len(marked)


def _is_ranked(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> bool:
    if not {"prompt", "completions"} <= columns.keys() or "chosen" in columns:
        return False
    values = [unpacked(row.get(columns["completions"])) for row in rows]
    return any(isinstance(value, list) for value in values)


def _are_two(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> bool:
    if not {"prompt", "first", "second"} <= columns.keys():
        return False
    return "choice" in columns or {"first_score", "second_score"} <= columns.keys()


_SIDES = ("chosen_score", "rejected_score", "chosen_model", "rejected_model", "source")
_ASKED = ("input", "system")

FORMATS: dict[str, Format] = {
    one.name: one
    for one in (
        Format(
            "alpaca-eval-annotations", "AlpacaEval annotations: two outputs and a preference",
            ("prompt", "output_1", "output_2", "preference"), ("generator_1", "generator_2", "annotator", "source", *_ASKED),
            _has("prompt", "output_1", "output_2", "preference"), _annotation,
        ),
        Format(
            "hh", "HH-RLHF: dialogues as strings", ("chosen", "rejected"), ("source",), _is_hh, _hh,
        ),
        Format(
            "trl", "TRL preference: chosen and rejected", ("chosen", "rejected"), ("prompt", *_SIDES, *_ASKED),
            _has("chosen", "rejected"), _preference_pair,
        ),
        Format(
            "ultrafeedback", "UltraFeedback: completions with scores", ("prompt", "completions"),
            ("scores", "models", "source", *_ASKED), _is_ranked, _ranked,
        ),
        Format(
            "two-responses", "Two responses and which is better", ("prompt", "first", "second"),
            ("choice", "first_score", "second_score", "first_model", "second_model", "source", *_ASKED),
            _are_two, _two_responses,
        ),
        Format(
            "alpaca-eval", "AlpacaEval outputs: a prompt and one answer", ("prompt", "output"),
            ("generator", "score", "source", *_ASKED), _has("prompt", "output"), _answer,
        ),
    )
}  # fmt: skip
