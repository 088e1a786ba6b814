"""PairRM (Jiang et al. 2023, arXiv 2306.02561): a DeBERTa that reads a prompt and two answers and says which is better.

The weights are those of llm-blender/PairRM-hf. Each text is encoded by itself behind its own marker, the three are put in a
row, and the marker's last hidden states are compared: head([source; one]) - head([source; other]).
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import AutoTokenizer

from synpo_lab.config import ScorerConfig
from synpo_lab.engines.base import Check, never
from synpo_lab.errors import ModelError
from synpo_lab.models import HUB
from synpo_lab.scorers.base import Aspects
from synpo_lab.scorers.batching import Batches, free_cache, padded
from synpo_lab.scorers.identity import identity, where
from synpo_lab.scorers.loading import inspect_code, load_weights, loading

with warnings.catch_warnings():  # its file scripts a function as it is imported, which torch no longer likes
    warnings.simplefilter("ignore", DeprecationWarning)
    from transformers import DebertaV2Config, DebertaV2Model, DebertaV2PreTrainedModel

SOURCE, ONE, OTHER = "<|source|>", "<|candidate1|>", "<|candidate2|>"
SOURCE_TOKENS, ANSWER_TOKENS = 1224, 412  # as in PairRM's own code; what the prompt leaves goes to the answers


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
        self.check: Check = never
        self._config = config
        self._model: Any = None
        self._tokenizer: Any = None
        self._batches = Batches(config.batch_size)

    def compare(self, rows: Iterable[tuple[str, str, str]]) -> Iterator[Aspects]:
        """In order, streamed."""
        both = ((prompt, *sides) for prompt, one, other in rows for sides in ((one, other), (other, one)))
        numbers = self._batches.map(both, self._encode, self._numbers, self.check)
        for forward, backward in zip(numbers, numbers, strict=True):
            yield {"total": (forward - backward) / 2, "order": float(forward * backward < 0)}

    def inspect(self) -> None:
        """ModelError when the tokenizer or the config cannot be had, or are of another kind of model."""
        self._read_tokenizer()
        inspect_code(self._config, "AutoModel")

    def close(self) -> None:
        """Give the model's memory back."""
        self._model = None
        free_cache()

    @torch.inference_mode()
    def _numbers(self, rows: list["Marked"]) -> list[float]:
        device = self._model.device
        inputs = padded([row.ids for row in rows], self._tokenizer.pad_token_id or 0, device)
        marks = torch.tensor([row.marks for row in rows], device=device)
        found: list[float] = self._model(**inputs, marks=marks).float().tolist()
        return found

    def _encode(self, rows: Sequence[tuple[str, str, str]]) -> list["Marked"]:
        self._load()
        return [self._in_a_row(*row) for row in rows]

    def _in_a_row(self, prompt: str, one: str, other: str) -> "Marked":
        whole = min(SOURCE_TOKENS + 2 * ANSWER_TOKENS, self._config.max_length)
        source = self._ids(SOURCE + prompt, whole * SOURCE_TOKENS // (SOURCE_TOKENS + 2 * ANSWER_TOKENS))
        room = (whole - len(source)) // 2
        first, second = (self._ids(mark + text, room) for mark, text in ((ONE, one), (OTHER, other)))
        # Each marker is looked for in its own part: a text may hold another's.
        places = (self._place(source, SOURCE), self._place(first, ONE), self._place(second, OTHER))
        starts = (0, len(source), len(source) + len(first))
        return Marked(source + first + second, [start + place for start, place in zip(starts, places, strict=True)])

    def _ids(self, text: str, most: int) -> list[int]:
        told = text.encode("utf-8", "replace").decode()  # half a surrogate pair has no tokens
        ids: list[int] = self._tokenizer(told, truncation=True, max_length=most)["input_ids"]
        return ids

    def _place(self, ids: list[int], mark: str) -> int:
        return ids.index(self._tokenizer.convert_tokens_to_ids(mark))

    def _load(self) -> None:
        if self._model is not None:
            return
        self._read_tokenizer()
        self._model = load_weights(PairRMModel, self._config)

    def _read_tokenizer(self) -> None:
        config, name = self._config, where(self._config)
        self._tokenizer = loading(
            name, lambda: AutoTokenizer.from_pretrained(name.removeprefix(HUB), revision=config.revision)
        )
        missing = [mark for mark in (SOURCE, ONE, OTHER) if mark not in self._tokenizer.get_vocab()]
        if missing:
            raise ModelError(
                f"{name} is no PairRM: its tokenizer has no {', '.join(missing)}",
                hint="scorer.name: pairwise is for llm-blender/PairRM-hf and its like; reward models are reward-model",
            )
        self._tokenizer.truncation_side = "right"  # the markers stand on the left


@dataclass(frozen=True, slots=True)
class Marked:
    """Token ids of a prompt and two answers in a row, and where their three markers are."""

    ids: list[int]
    marks: list[int]

    def __len__(self) -> int:
        return len(self.ids)
