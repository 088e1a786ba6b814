"""Which column holds what: the names in use, and the row as a format reads it."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from storage.schema import whole_text

# By target, in the order of preference. Case, hyphens, dots and spaces do not matter.
NAMES: dict[str, tuple[str, ...]] = {
    "prompt": ("prompt", "instruction", "question", "query", "context", "input", "prompt_text", "input_text", "problem"),
    "input": ("input",),
    "system": ("system", "system_prompt", "system_message"),
    "chosen": (
        "chosen", "chosen_response", "response_chosen", "chosen_answer", "chosen_text", "preferred",
        "preferred_response", "accepted", "accepted_response", "y_w", "win", "winner_response", "positive",
    ),
    "rejected": (
        "rejected", "rejected_response", "response_rejected", "rejected_answer", "rejected_text", "dispreferred",
        "dispreferred_response", "rejected_output", "y_l", "lose", "loser_response", "negative",
    ),
    "chosen_score": (
        "score_chosen", "chosen_score", "chosen_rating", "rating_chosen", "chosen_reward", "reward_chosen",
        "chosen_avg_rating", "chosen_rm_score",
    ),
    "rejected_score": (
        "score_rejected", "rejected_score", "rejected_rating", "rating_rejected", "rejected_reward", "reward_rejected",
        "rejected_avg_rating", "rejected_rm_score",
    ),
    "chosen_model": ("chosen_model", "model_chosen", "chosen_policy", "chosen_generator"),
    "rejected_model": ("rejected_model", "model_rejected", "rejected_policy", "rejected_generator"),
    "completions": (
        "completions", "responses", "candidates", "generations", "all_generated_responses", "answers", "outputs",
        "candidates_completions",
    ),
    "scores": ("scores", "ratings", "rewards", "all_rm_scores", "candidate_scores", "completion_scores"),
    "models": ("models", "generation_models", "generators"),
    "first": ("response_0", "response_a", "answer_0", "answer_a", "output_a", "completion_a", "completion_0", "option_a"),
    "second": ("response_1", "response_b", "answer_1", "answer_b", "output_b", "completion_b", "completion_1", "option_b"),
    "first_score": ("score_0", "score_a", "rating_0", "rating_a", "response_0_score", "response_a_score", "reward_0"),
    "second_score": ("score_1", "score_b", "rating_1", "rating_b", "response_1_score", "response_b_score", "reward_1"),
    "first_model": ("model_a", "model_0", "response_0_model", "generator_a"),
    "second_model": ("model_b", "model_1", "response_1_model", "generator_b"),
    "choice": (
        "better_response_id", "preference", "overall_preference", "winner", "preferred_response", "choice", "better",
        "label", "human_preference",
    ),
    "output_1": ("output_1",),
    "output_2": ("output_2",),
    "generator_1": ("generator_1",),
    "generator_2": ("generator_2",),
    "preference": ("preference",),
    "annotator": ("annotator",),
    "output": ("output", "response", "answer", "completion", "generated_text", "model_output", "text"),
    "generator": ("generator", "model", "model_name", "policy"),
    "score": ("score", "rating", "reward"),
    "label": ("label", "labels", "is_good", "thumbs_up"),
    "source": ("dataset", "source", "category", "dataset_name", "data_source"),
}  # fmt: skip

ONE_AND_TWO = {"first": ("response_1", "response1", "answer_1"), "second": ("response_2", "response2", "answer_2")}
NUMBERED = {
    "first_score": ("score_1", "rating_1", "reward_1", "response_1_score"),
    "second_score": ("score_2", "rating_2", "reward_2", "response_2_score"),
    "first_model": ("model_1", "response_1_model"),
    "second_model": ("model_2", "response_2_model"),
}
MISSING = object()
MOST_NAMES, LONGEST_NAME = 20, 60  # of columns that are told in a sentence


class RowRefused(Exception):
    """This row is not what its format asks for. `reason` is the same for every such row, `detail` says what this one has."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.detail = detail


def found_columns(names: Sequence[str], given: Mapping[str, str]) -> dict[str, str]:
    """Which of a file's columns each target is taken from. `given` says it for some; a path may have dots."""
    plain = {_plain(name): name for name in reversed(names)}
    wanted = NAMES if not _counts_from_one(plain) else NAMES | ONE_AND_TWO | NUMBERED
    known = {
        target: next((plain[_plain(name)] for name in variants if _plain(name) in plain), None)
        for target, variants in wanted.items()
    }
    return {target: name for target, name in known.items() if name is not None} | dict(given)


def _counts_from_one(plain: Mapping[str, str]) -> bool:
    return any(name in plain for name in ONE_AND_TWO["second"]) and "response_0" not in plain


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(".", "_").replace(" ", "_")


class Row:
    """A row as a format reads it: values by target. What cannot be used raises RowRefused with the column's own name."""

    __slots__ = ("_columns", "_values", "counts_from", "mended")

    def __init__(self, values: Mapping[str, Any], columns: Mapping[str, str], counts_from: int = 0) -> None:
        self._values = values
        self._columns = columns
        self.counts_from = counts_from  # what a choice column calls the first answer
        self.mended = False

    def has(self, target: str) -> bool:
        """Whether the file has such a column and the row something in it."""
        return self.value(target) not in (MISSING, None, "")

    def value(self, target: str) -> Any:
        """What stands there; MISSING when nothing does."""
        name = self._columns.get(target)
        if name is None:
            return MISSING
        if name in self._values:
            return self._values[name]
        return _below(self._values, name)

    def name(self, target: str) -> str:
        return self._columns.get(target, target)

    def given(self, target: str) -> Any:
        """What stands there; refused when nothing does."""
        value = self.value(target)
        if value is MISSING or value is None:
            raise RowRefused(f"no {self.name(target)!r}")
        return value

    def text(self, target: str) -> str:
        """A text, possibly empty."""
        return self.whole(self.given(target), self.name(target))

    def whole(self, value: Any, name: str) -> str:
        """`value` as a text that is valid Unicode."""
        if not isinstance(value, str):
            raise RowRefused(f"{name!r} is not text", f"it is {_shortly(value)}")
        try:
            value.encode()
        except UnicodeEncodeError:
            self.mended = True
            return whole_text(value)
        return value

    def word(self, target: str) -> str:
        """A name or the like; "" where there is none."""
        value = self.value(target)
        return self.whole(value, self.name(target)).strip() if isinstance(value, str) else ""

    def number(self, target: str) -> float | None:
        """A finite number, or None where nothing stands."""
        return number_of(self.value(target), self.name(target))

    def listed(self, target: str) -> list[Any]:
        """A list, also one that is written as JSON into a cell."""
        value = unpacked(self.given(target))
        if not isinstance(value, list):
            raise RowRefused(f"{self.name(target)!r} is not a list", f"it is {_shortly(value)}")
        return value


def number_of(value: Any, name: str) -> float | None:
    """A score; None where nothing stands."""
    if value is MISSING or value is None or value == "":
        return None
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise RowRefused(f"{name!r} is not a number", f"it is {_shortly(value)}")
    return number


def listed(names: Sequence[str]) -> str:
    """Names for people: a few of them, none longer than a line."""
    shown = ", ".join(name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…" for name in names[:MOST_NAMES])
    return f"{shown} and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else shown or "none"


def unpacked(value: Any) -> Any:
    """A list that was written as JSON into a cell, as CSV files have it; anything else as it is."""
    if isinstance(value, str) and value.startswith(("[", "{")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            return value
    return value


def _below(values: Mapping[str, Any], path: str) -> Any:
    node: Any = values
    for name in path.split("."):
        if not isinstance(node, Mapping) or name not in node:
            return MISSING
        node = node[name]
    return node


def _shortly(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value)
    text = repr(value[:60] if isinstance(value, str | list) else value)
    return text if len(text) <= 80 else f"{text[:80]}…"
