"""Rows decoded together: they join after their prompts are read, leave when they end, and never affect each other."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from transformers import Cache, DynamicCache

from synpo_lab.config import SamplingConfig
from synpo_lab.engines.base import Request
from synpo_lab.engines.sampling import choose, uniforms
from synpo_lab.engines.slots import SlotCache, can_hold

PREFILL_TOKENS = {"cpu": 1 << 11, "cuda": 1 << 16}  # prompt tokens per forward pass
PREFILL_TOKENS_ELSEWHERE = 1 << 14

Finish = Literal["stop", "length"]


@dataclass(slots=True)
class Row:
    """A request in the making."""

    request: Request
    prompt: list[int]
    limit: int  # most tokens it may generate
    stream: int  # start of its random stream
    tokens: list[int] = field(default_factory=list)
    finish: Finish | None = None


def new_batch(model: Any, sampling: SamplingConfig, pad: int, finish: Callable[[Row], Finish | None]) -> "Batch":
    """A batch for `model`; `finish` is asked after each token whether the row ends there."""
    return (SlotBatch if can_hold(model.config) else FixedBatch)(model, sampling, pad, finish)


class Batch(ABC):
    """`admit` gives new rows their first token, `step` gives every row its next. Both return the rows that finished."""

    def __init__(self, model: Any, sampling: SamplingConfig, pad: int, finish: Callable[[Row], Finish | None]) -> None:
        self.rows: list[Row] = []
        self._model, self._sampling, self._pad, self._finish = model, sampling, pad, finish

    @property
    def alive(self) -> int:
        return sum(row.finish is None for row in self.rows)

    @abstractmethod
    def room(self, batch_size: int) -> int:
        """How many rows should join now, so that `batch_size` are decoded together."""

    @abstractmethod
    def admit(self, new: list[Row]) -> list[Row]: ...

    @abstractmethod
    def step(self) -> list[Row]: ...

    def shrink(self) -> None:  # noqa: B027
        """Drop finished rows, where that saves work and no others wait."""

    def _left_padded(self, prompts: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask [B, T]."""
        width = max(map(len, prompts))
        ids = self._tensor([[self._pad] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = self._tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        return ids, mask

    def _sample(self, rows: list[Row], logits: torch.Tensor) -> torch.Tensor:
        u = uniforms([row.stream for row in rows], [len(row.tokens) for row in rows])
        return choose(logits, self._sampling, u)

    def _record(self, rows: list[Row], tokens: list[int]) -> list[Row]:
        """Append to the unfinished `rows`. Returns those that are finished now."""
        running = [(row, token) for row, token in zip(rows, tokens, strict=True) if row.finish is None]
        for row, token in running:
            row.tokens.append(token)
            row.finish = self._finish(row)
        return [row for row, _ in running if row.finish]

    def _tensor(self, values: list[Any]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.long, device=self._model.device)


class SlotBatch(Batch):
    """For models whose layers keep plain keys and values: a finished row's slot goes to the next request at once."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._accepts = frozenset(inspect.signature(self._model.forward).parameters)
        context = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        self._last_position = (context or 1 << 62) - 1
        self._cache: SlotCache | None = None
        self._starts: list[int] = []  # first cache column of each row
        self._mask = self._tensor([[]])  # [B, capacity]: ones from a row's first column on
        self._newest = self._tensor([])  # [B] tokens the model has not read yet

    def room(self, batch_size: int) -> int:
        free = batch_size - self.alive
        return free if free * 8 >= batch_size else 0  # reading a few prompts costs nearly as much as reading many

    @torch.inference_mode()
    def admit(self, new: list[Row]) -> list[Row]:
        """Read the prompts of `new`, equal ones once, and sample their first tokens."""
        finished: list[Row] = []
        slots: list[int] = []
        for group in _groups(new, PREFILL_TOKENS.get(self._model.device.type, PREFILL_TOKENS_ELSEWHERE)):
            prompts, index, logits = self._prefill(group)
            slots = slots or self._reserve(new, prompts)
            here, slots = slots[: len(group)], slots[len(group) :]
            assert self._cache is not None
            self._cache.insert(self._tensor(here), prompts, index)
            tokens = self._sample(group, logits[index])
            self._newest[self._tensor(here)] = tokens
            finished += self._record(group, tokens.tolist())
        self._narrow()
        return finished

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Feed every row's newest token and sample the next."""
        cache = self._cache
        assert cache is not None
        if cache.high == cache.capacity:
            cache = self._make_room(cache)
        positions = cache.high - self._tensor(self._starts)
        mask = self._mask[:, cache.low : cache.high + 1]
        logits = self._forward(self._newest.unsqueeze(1), mask, positions.unsqueeze(1), cache)
        cache.high += 1
        self._newest = self._sample(self.rows, logits)
        finished = self._record(self.rows, self._newest.tolist())
        if finished:
            self._narrow()
        return finished

    @torch.inference_mode()
    def shrink(self) -> None:
        alive = [i for i, row in enumerate(self.rows) if row.finish is None]
        if self._cache is not None and len(alive) * 4 <= len(self.rows) * 3:
            index = self._tensor(alive)
            self._cache.keep(index)
            self._take(alive)
            self._mask, self._newest = self._mask[index], self._newest[index]

    def _prefill(self, rows: list[Row]) -> tuple[Cache, torch.Tensor, torch.Tensor]:
        """The cache of the different prompts, the one that each of `rows` needs, and the logits that follow them."""
        places: dict[tuple[int, ...], int] = {}
        index = [places.setdefault(tuple(row.prompt), len(places)) for row in rows]
        cache = DynamicCache()
        ids, mask = self._left_padded([list(prompt) for prompt in places])
        logits = self._forward(ids, mask, (mask.cumsum(dim=1) - 1).clamp(min=0), cache)
        return cache, self._tensor(index), logits

    def _forward(self, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Cache) -> torch.Tensor:
        """Logits [B, V] after the last column of `ids` [B, T]."""
        inputs = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache, "use_cache": True}
        if "position_ids" in self._accepts:
            inputs["position_ids"] = positions.clamp(max=self._last_position)  # finished rows run on
        if "logits_to_keep" in self._accepts:
            inputs["logits_to_keep"] = 1
        logits: torch.Tensor = self._model(**inputs).logits
        return logits[:, -1].float()

    def _reserve(self, new: list[Row], like: Cache) -> list[int]:
        """Slots for `new`, with columns enough for their prompts."""
        width = max(len(row.prompt) for row in new)
        free = [i for i, row in enumerate(self.rows) if row.finish is not None]
        if self._cache is None:
            self._cache = SlotCache(like, 0, width)
        if len(free) < len(new) or self._cache.high < width:
            alive = [i for i, row in enumerate(self.rows) if row.finish is None]
            high = max(width, self._cache.high - self._cache.low)
            self._cache = self._move(self._cache, alive, len(new), high)
            free = list(range(len(alive), len(alive) + len(new)))
            self.rows += new
        slots = free[: len(new)]
        for slot, row in zip(slots, new, strict=True):
            self.rows[slot], self._starts[slot] = row, self._cache.high - len(row.prompt)
        self._mask[self._tensor(slots)] = self._mask_of(slots)
        return slots

    def _move(self, cache: SlotCache, keep: list[int], extra: int, high: int) -> SlotCache:
        """Rebuild the batch from the rows `keep`, with `extra` slots after them, ending at column `high`."""
        self._take(keep)
        self._starts = [start + high - cache.high for start in self._starts] + [high] * extra
        index = self._tensor(keep)
        self._newest = torch.cat([self._newest[index], self._tensor([self._pad] * extra)])
        self._cache = cache.moved(index, len(keep) + extra, high)
        self._mask = self._mask_of(range(len(keep) + extra))
        self._narrow()
        return self._cache

    def _make_room(self, cache: SlotCache) -> SlotCache:
        if cache.low * 4 < cache.capacity:  # too little to gain
            return self._move(cache, list(range(len(self.rows))), 0, cache.high - cache.low)
        by = cache.slide()
        self._starts = [start - by for start in self._starts]
        self._mask = self._mask_of(range(len(self.rows)))
        return cache

    def _take(self, keep: list[int]) -> None:
        self.rows, self._starts = [self.rows[i] for i in keep], [self._starts[i] for i in keep]

    def _mask_of(self, slots: Sequence[int]) -> torch.Tensor:
        assert self._cache is not None
        columns = torch.arange(self._cache.capacity, device=self._model.device)
        return (columns >= self._tensor([[self._starts[slot]] for slot in slots])).long()

    def _narrow(self) -> None:
        """Let attention begin at the first column that a living row uses."""
        assert self._cache is not None
        starts = [start for start, row in zip(self._starts, self.rows, strict=False) if row.finish is None]
        self._cache.low = min(starts, default=self._cache.high)


class FixedBatch(Batch):
    """For models with other kinds of memory (recurrent states, shared layers): rows start and end together.

    What the model is fed at each step is left to the model's own `generate` machinery.
    """

    def room(self, batch_size: int) -> int:
        return 0 if self.alive else batch_size

    @torch.inference_mode()
    def admit(self, new: list[Row]) -> list[Row]:
        """Read the prompts of `new` and sample their first tokens."""
        self.rows = new
        self._ids, mask = self._left_padded([row.prompt for row in new])
        self._state = {"attention_mask": mask, "use_cache": True}
        return self._advance(is_first_iteration=True)

    @torch.inference_mode()
    def step(self) -> list[Row]:
        """Feed every row's newest token and sample the next."""
        return self._advance(next_sequence_length=1)

    def _advance(self, **how: Any) -> list[Row]:
        inputs = self._model.prepare_inputs_for_generation(self._ids, **how, **self._state)
        outputs = self._model(**inputs, return_dict=True)
        self._state = self._model._update_model_kwargs_for_generation(outputs, self._state)
        newest = self._sample(self.rows, outputs.logits[:, -1].float())
        self._ids = torch.cat([self._ids, newest.unsqueeze(1)], dim=1)
        return self._record(self.rows, newest.tolist())


def _groups(rows: list[Row], budget: int) -> Iterator[list[Row]]:
    """`rows` in runs of at most `budget` prompt tokens, padding included."""
    group: list[Row] = []
    longest = 0
    for row in rows:
        longest = max(longest, len(row.prompt))
        if group and longest * (len(group) + 1) > budget:
            yield group
            group, longest = [], len(row.prompt)
        group.append(row)
    if group:
        yield group
