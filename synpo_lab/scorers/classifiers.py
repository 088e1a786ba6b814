"""Reward models that are sequence classifiers: one number per answer, or one per objective.

Skywork-Reward, FsfairX and their kin are `AutoModelForSequenceClassification` with one label: the reward is the logit.
ArmoRM (arXiv 2406.12845) has a class of its own, which needs `trust_remote_code`: `score` is the reward, `rewards` its 19
objectives before the gate.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification

from synpo_lab.chat import encode_examples
from synpo_lab.config import ScorerConfig
from synpo_lab.errors import MissingExtra, ModelError
from synpo_lab.models import load_tokenizer, out_of_memory, pick_device, pick_dtype
from synpo_lab.scorers.base import Aspects
from synpo_lab.scorers.identity import identity, where

ARMO = (
    "helpsteer-helpfulness helpsteer-correctness helpsteer-coherence helpsteer-complexity helpsteer-verbosity "
    "ultrafeedback-overall_score ultrafeedback-instruction_following ultrafeedback-truthfulness ultrafeedback-honesty "
    "ultrafeedback-helpfulness beavertails-is_safe prometheus-score argilla-overall_quality argilla-judge_lm "
    "code-complexity code-style code-explanation code-instruction-following code-readability"
).split()  # in the order of ArmoRM's output, by its model card
CHUNK = 16  # batches read ahead, so that answers of a like length share one


class RewardModel:
    """total = the classifier's only logit for the chat (prompt, answer), in the model's own unit."""

    def __init__(self, config: ScorerConfig) -> None:
        self.name = identity(config)
        self._config = config
        self._model: Any = None
        self._tokenizer: Any = None
        self._batch = config.batch_size

    def score(self, rows: Iterable[tuple[str, str]]) -> Iterator[Aspects]:
        waiting = iter(rows)
        while chunk := list(islice(waiting, CHUNK * self._batch)):
            yield from self._chunk(chunk)

    def close(self) -> None:
        """Give the model's memory back."""
        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _chunk(self, rows: Sequence[tuple[str, str]]) -> list[Aspects]:
        self._load()
        texts = encode_examples(self._tokenizer, rows)
        ids = [(text := one.cut(self._config.max_length)).prompt + text.answer for one in texts]
        order = sorted(range(len(ids)), key=lambda place: len(ids[place]))
        found: dict[int, Aspects] = {}
        start = 0
        while start < len(order):
            places = order[start : start + self._batch]
            try:
                numbers = self._batch_of([ids[place] for place in places])
            except (RuntimeError, MemoryError) as error:
                self._halve(error)
                continue
            found.update(zip(places, numbers, strict=True))
            start += len(places)
        return [found[place] for place in range(len(ids))]

    @torch.inference_mode()
    def _batch_of(self, ids: list[list[int]]) -> list[Aspects]:
        inputs, pad = padded(ids, self._model.device)
        self._model.config.pad_token_id = pad
        return self._read(self._model(**inputs))

    def _read(self, output: Any) -> list[Aspects]:
        logits = getattr(output, "logits", None)
        if logits is None or logits.ndim != 2 or logits.shape[1] != 1:
            shape = "no logits" if logits is None else f"logits of shape {tuple(logits.shape)}"
            raise ModelError(
                f"{where(self._config)} gives {shape} for {_rows_told(logits)} answers, not one number each",
                hint="scorer.name: reward-model is for classifiers with one label; ArmoRM-like ones are multi-objective",
            )
        return [{"total": float(value)} for value in logits[:, 0].float()]

    def _halve(self, error: BaseException) -> None:
        if not out_of_memory(error) or self._batch == 1:
            raise error
        self._batch = max(1, self._batch // 2)

    def _load(self) -> None:
        if self._model is not None:
            return
        config = self._config
        device = pick_device(config.device)
        name, options = where(config), {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
        source = name.removeprefix("hub:")
        self._tokenizer = load_tokenizer(name, trust_remote_code=config.trust_remote_code)
        model = loading(
            name,
            lambda: AutoModelForSequenceClassification.from_pretrained(
                source, dtype=pick_dtype(config.dtype, device), **options
            ),
        )
        self._model = model.to(device).eval()


class MultiObjectiveModel(RewardModel):
    """total = the gated sum `score`; each objective of `rewards` is an aspect."""

    def _read(self, output: Any) -> list[Aspects]:
        scores, rewards = getattr(output, "score", None), getattr(output, "rewards", None)
        if scores is None or rewards is None or rewards.ndim != 2:
            raise ModelError(
                f"{where(self._config)} gives no `score` and `rewards`, as a multi-objective model does",
                hint="for a classifier with one label use scorer.name: reward-model; ArmoRM's class is its repository's own: "
                "set scorer.trust_remote_code: true if you trust it",
            )
        names = self._config.aspects or (ARMO if rewards.shape[1] == len(ARMO) else None)
        names = names or [f"objective {number}" for number in range(1, rewards.shape[1] + 1)]
        if len(names) != rewards.shape[1]:
            raise ModelError(
                f"scorer.aspects names {len(names)} objectives, the model has {rewards.shape[1]}",
                hint="name each one, or none",
            )
        return [
            {"total": float(total)} | dict(zip(names, map(float, values), strict=True))
            for total, values in zip(scores.float().reshape(-1), rewards.float(), strict=True)
        ]


def padded(ids: list[list[int]], device: Any) -> tuple[dict[str, torch.Tensor], int]:
    """Rows of token ids as a batch, and the id that pads it: one that no row holds, so that an end token stays one.

    Classifiers read the last token that is not the padding's; where that is the end token's id they would skip it.
    """
    held = set().union(*ids)
    pad = next(number for number in range(len(held) + 1) if number not in held)
    width = max(map(len, ids))
    rows = torch.tensor([row + [pad] * (width - len(row)) for row in ids], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids], device=device)
    return {"input_ids": rows, "attention_mask": mask}, pad


def loading(name: str, load: Callable[[], Any]) -> Any:
    """A model, or a ModelError that says what stands in its way."""
    try:
        return load()
    except ImportError as error:
        raise MissingExtra(f"{name} needs a package: {error}", hint="install it beside the lab") from None
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        told = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"the scorer's model {name} cannot be loaded: {told}",
            hint="scorer.model is a model folder or hub:OWNER/NAME; one with code of its own needs scorer.trust_remote_code",
        ) from error


def _rows_told(logits: Any) -> object:
    return "the" if logits is None else logits.shape[0]
