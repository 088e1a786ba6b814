"""Reward models that are sequence classifiers: one number per answer, or one per objective.

Skywork-Reward, FsfairX and their kin are `AutoModelForSequenceClassification` with one label: the reward is the logit.
Of several objectives, ArmoRM's class is ours (armorm.py); others need their repository's own code: `score` is the reward,
`rewards` the objectives before the gate. What is read is the chat template's whole rendering, as their model cards do it.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification

from synpo_lab.chat import encode_chats
from synpo_lab.config import ScorerConfig
from synpo_lab.engines.base import Check, never
from synpo_lab.errors import ModelError
from synpo_lab.models import HUB, load_tokenizer
from synpo_lab.scorers import armorm
from synpo_lab.scorers.base import Aspects
from synpo_lab.scorers.batching import Batches, free_cache, padded
from synpo_lab.scorers.identity import identity, where
from synpo_lab.scorers.loading import inspect_code, load_weights, loading

ARMO = (
    "helpsteer-helpfulness helpsteer-correctness helpsteer-coherence helpsteer-complexity helpsteer-verbosity "
    "ultrafeedback-overall_score ultrafeedback-instruction_following ultrafeedback-truthfulness ultrafeedback-honesty "
    "ultrafeedback-helpfulness beavertails-is_safe prometheus-score argilla-overall_quality argilla-judge_lm "
    "code-complexity code-style code-explanation code-instruction-following code-readability"
).split()  # in the order of ArmoRM's output, by its model card


class RewardModel:
    """total = the classifier's only logit for the chat (prompt, answer), in the model's own unit."""

    def __init__(self, config: ScorerConfig) -> None:
        self.name = identity(config)
        self.check: Check = never
        self._config = config
        self._model: Any = None
        self._tokenizer: Any = None
        self._own_padding: int | None = None
        self._batches = Batches(config.batch_size)

    def score(self, rows: Iterable[tuple[str, str]]) -> Iterator[Aspects]:
        """In order, streamed."""
        return self._batches.map(rows, self._encode, self._numbers, self.check)

    def inspect(self) -> None:
        """ModelError or MissingExtra when the tokenizer, the config or the code of the model cannot be had."""
        self._read_tokenizer()
        if self._kind() is AutoModelForSequenceClassification:
            inspect_code(self._config, "AutoModelForSequenceClassification")

    def close(self) -> None:
        """Give the model's memory back."""
        self._model = None
        free_cache()

    def _encode(self, rows: Sequence[tuple[str, str]]) -> Sequence[Any]:
        """Token ids; of a chat that is too long the end, where the reward is read."""
        self._load()
        return [ids[-self._most() :] for ids in encode_chats(self._tokenizer, rows)]

    def _most(self) -> int:
        context = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        return min(self._config.max_length, context or self._config.max_length)

    @torch.inference_mode()
    def _numbers(self, ids: list[Any]) -> list[Aspects]:
        config, alone = self._model.config.get_text_config(), self._own_padding
        pad = padding(ids, config.vocab_size) if alone is None else alone
        config.pad_token_id = self._model.config.pad_token_id = pad
        return self._read(self._model(**padded(ids, pad, self._model.device)))

    def _read(self, output: Any) -> list[Aspects]:
        logits = getattr(output, "logits", None)
        if logits is None or logits.ndim != 2 or logits.shape[1] != 1:
            shape = "no logits" if logits is None else f"logits of shape {tuple(logits.shape)}"
            raise ModelError(
                f"{where(self._config)} gives {shape}, not one number for each answer",
                hint="scorer.name: reward-model is for classifiers with one label; ArmoRM-like ones are multi-objective",
            )
        return [{"total": value} for value in logits[:, 0].float().tolist()]

    def _load(self) -> None:
        if self._model is not None:
            return
        self._read_tokenizer()
        self._model = load_weights(self._kind(), self._config)
        padding_id = self._model.config.get_text_config().pad_token_id
        self._own_padding = padding_id if padding_id is not None and padding_id >= 0 else None

    def _read_tokenizer(self) -> None:
        config = self._config
        self._tokenizer = load_tokenizer(
            where(config), trust_remote_code=config.trust_remote_code, revision=config.revision
        )

    def _kind(self) -> Any:
        """The class that is asked for the weights."""
        return AutoModelForSequenceClassification


class MultiObjectiveModel(RewardModel):
    """total = the gated sum `score`; each objective of `rewards` is an aspect."""

    def _kind(self) -> Any:
        name, trust = where(self._config), self._config.trust_remote_code
        config = loading(
            name,
            lambda: AutoConfig.from_pretrained(
                name.removeprefix(HUB), revision=self._config.revision, trust_remote_code=trust
            ),
        )
        return armorm.ArmoRM if armorm.ARCHITECTURE in (config.architectures or ()) else super()._kind()

    def _encode(self, rows: Sequence[tuple[str, str]]) -> Sequence[Any]:
        self._load()
        if isinstance(self._model, armorm.ArmoRM):
            return armorm.encode(self._tokenizer, rows, self._most())
        return super()._encode(rows)

    @torch.inference_mode()
    def _numbers(self, ids: list[Any]) -> list[Aspects]:
        if not isinstance(self._model, armorm.ArmoRM):
            return super()._numbers(ids)
        device = self._model.device
        gates = torch.tensor([chat.gate for chat in ids], device=device)
        return self._read(self._model(**padded([chat.ids for chat in ids], 0, device), gates=gates))

    def _read(self, output: Any) -> list[Aspects]:
        scores, rewards = getattr(output, "score", None), getattr(output, "rewards", None)
        if scores is None or rewards is None or rewards.ndim != 2:
            raise ModelError(
                f"{where(self._config)} gives no `score` and `rewards`, as a multi-objective model does",
                hint="for a classifier with one label use scorer.name: reward-model; a class of its repository's own needs "
                "scorer.trust_remote_code: true, if you trust it",
            )
        names = self._names(rewards.shape[1])
        return [
            {"total": total} | dict(zip(names, values, strict=True))
            for total, values in zip(scores.float().reshape(-1).tolist(), rewards.float().tolist(), strict=True)
        ]

    def _names(self, count: int) -> list[str]:
        named = self._config.aspects or (ARMO if count == len(ARMO) else [])
        if named and len(named) != count:
            raise ModelError(
                f"scorer.aspects names {len(named)} objectives, the model has {count}", hint="name each one, or none"
            )
        return named or [f"objective {number}" for number in range(1, count + 1)]


def padding(ids: Sequence[Sequence[int]], vocabulary: int) -> int:
    """An id to pad these rows with, for a model whose config names none: it reads a row's very last token.

    In a batch it reads the last token that is not the padding's (or the one before the first that is), so no row may hold
    it; where rows hold every id there is, none may end with it.
    """
    held = set().union(*ids)
    free = next((number for number in range(vocabulary) if number not in held), None)
    ends = {row[-1] for row in ids}
    return free if free is not None else next(number for number in range(vocabulary) if number not in ends)
