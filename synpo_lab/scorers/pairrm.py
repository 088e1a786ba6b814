"""PairRM (Jiang et al. 2023, arXiv 2306.02561): a DeBERTa that reads a prompt and two answers and says which is better.

The weights are those of llm-blender/PairRM-hf. Each text is encoded by itself behind its own marker, the three are put in a
row, and the marker's last hidden states are compared: head([source; one]) - head([source; other]).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer, DebertaV2Config, DebertaV2Model, DebertaV2PreTrainedModel

from synpo_lab.config import ScorerConfig
from synpo_lab.errors import ModelError
from synpo_lab.models import out_of_memory, pick_device, pick_dtype
from synpo_lab.scorers.base import Aspects
from synpo_lab.scorers.classifiers import loading
from synpo_lab.scorers.identity import identity, where

SOURCE, ONE, OTHER = "<|source|>", "<|candidate1|>", "<|candidate2|>"
SOURCE_TOKENS, ANSWER_TOKENS = 1224, 412  # as in PairRM's own code; what the prompt leaves goes to the answers
CHUNK = 16


class PairRMModel(DebertaV2PreTrainedModel):  # type: ignore[misc]
    """The network, its parts named as in the published weights."""

    def __init__(self, config: DebertaV2Config) -> None:
        super().__init__(config)
        width = config.hidden_size
        self.pretrained_model = DebertaV2Model(config)
        self.head_layer = nn.Sequential(
            nn.Dropout(getattr(config, "drop_out", 0.0)),
            nn.Linear(2 * width, width),
            nn.Tanh(),
            nn.Dropout(getattr(config, "drop_out", 0.0)),
            nn.Linear(width, getattr(config, "n_tasks", 1)),
        )
        self.post_init()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, marks: torch.Tensor) -> torch.Tensor:
        """[N, T] ids, mask, and [N, 3] places of the markers -> [N]: above 0 where the first answer is better."""
        states = self.pretrained_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        source, one, other = states[torch.arange(len(states), device=states.device)[:, None], marks].unbind(1)
        first, second = (self.head_layer(torch.cat([source, side], dim=-1)) for side in (one, other))
        return (first - second).mean(dim=-1)  # type: ignore[no-any-return]


class PairRM:
    """total = (f(a, b) - f(b, a)) / 2, in the model's logits; "order" is 1 where both orders agree, else 0."""

    def __init__(self, config: ScorerConfig) -> None:
        self.name = identity(config)
        self._config = config
        self._model: Any = None
        self._tokenizer: Any = None
        self._batch = config.batch_size

    def compare(self, rows: Iterable[tuple[str, str, str]]) -> Iterator[Aspects]:
        waiting = iter(rows)
        while chunk := list(islice(waiting, CHUNK * self._batch)):
            there = self._scores([(prompt, one, other) for prompt, one, other in chunk])
            back = self._scores([(prompt, other, one) for prompt, one, other in chunk])
            for forward, backward in zip(there, back, strict=True):
                yield {"total": (forward - backward) / 2, "order": float(forward * backward < 0)}

    def close(self) -> None:
        """Give the model's memory back."""
        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _scores(self, rows: Sequence[tuple[str, str, str]]) -> list[float]:
        self._load()
        encoded = [self._encode(*row) for row in rows]
        order = sorted(range(len(rows)), key=lambda place: len(encoded[place][0]))
        found: dict[int, float] = {}
        start = 0
        while start < len(order):
            places = order[start : start + self._batch]
            try:
                numbers = self._forward([encoded[place] for place in places])
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or self._batch == 1:
                    raise
                self._batch = max(1, self._batch // 2)
                continue
            found.update(zip(places, numbers, strict=True))
            start += len(places)
        return [found[place] for place in range(len(rows))]

    @torch.inference_mode()
    def _forward(self, encoded: list[tuple[list[int], list[int]]]) -> list[float]:
        width = max(len(ids) for ids, _ in encoded)
        device, pad = self._model.device, self._tokenizer.pad_token_id or 0
        ids = torch.tensor([row + [pad] * (width - len(row)) for row, _ in encoded], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row, _ in encoded], device=device)
        found = self._model(ids, mask, torch.tensor([marks for _, marks in encoded], device=device))
        return [float(value) for value in found.float()]

    def _encode(self, prompt: str, one: str, other: str) -> tuple[list[int], list[int]]:
        """Token ids of the three texts in a row, and where their markers are."""
        whole = min(SOURCE_TOKENS + 2 * ANSWER_TOKENS, self._config.max_length)
        source = self._ids(SOURCE + prompt, whole * SOURCE_TOKENS // (SOURCE_TOKENS + 2 * ANSWER_TOKENS))
        room = (whole - len(source)) // 2
        sides = [self._ids(mark + text, room) for mark, text in ((ONE, one), (OTHER, other))]
        ids = source + sides[0] + sides[1]
        return ids, [self._place(ids, mark) for mark in (SOURCE, ONE, OTHER)]

    def _ids(self, text: str, most: int) -> list[int]:
        ids: list[int] = self._tokenizer(text, truncation=True, max_length=most)["input_ids"]
        return ids

    def _place(self, ids: list[int], mark: str) -> int:
        return ids.index(self._tokenizer.convert_tokens_to_ids(mark))

    def _load(self) -> None:
        if self._model is not None:
            return
        config = self._config
        name, device = where(config), pick_device(config.device)
        source = name.removeprefix("hub:")
        self._tokenizer = loading(name, lambda: AutoTokenizer.from_pretrained(source, revision=config.revision))
        missing = [mark for mark in (SOURCE, ONE, OTHER) if mark not in self._tokenizer.get_vocab()]
        if missing:
            raise ModelError(
                f"{name} is no PairRM: its tokenizer has no {', '.join(missing)}",
                hint="scorer.name: pairwise is for llm-blender/PairRM-hf and its like; reward models are reward-model",
            )
        dtype = pick_dtype(config.dtype, device)
        loaded = loading(name, lambda: PairRMModel.from_pretrained(source, dtype=dtype, revision=config.revision))
        self._model = loaded.to(device).eval()
