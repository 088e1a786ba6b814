"""The key-value cache of a batch whose rows come and go.

transformers' DynamicCache copies the whole cache at every step to append one column; on a small model that is 40% of
the time. Here the cache is a buffer with room ahead. Every row ends at the same column (left padding), so the prompt of
a new row can be put into the slot of a finished one, whatever its length; the view that attention sees starts at the
first column that a living row uses.
"""

from typing import Any

import torch
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

ROOM = 64  # columns of room ahead, at least


class _Layer(DynamicLayer):  # type: ignore[misc]
    """One layer's keys and values [rows, heads, capacity, size]."""

    def __init__(self, owner: "SlotCache", keys: torch.Tensor, values: torch.Tensor) -> None:
        super().__init__()
        self.owner, self.key_buffer, self.value_buffer = owner, keys, values
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        low, high = self.owner.low, self.owner.high
        self.key_buffer[:, :, high] = key_states[:, :, 0]
        self.value_buffer[:, :, high] = value_states[:, :, 0]
        return self.key_buffer[:, :, low : high + 1], self.value_buffer[:, :, low : high + 1]

    def get_seq_length(self) -> int:
        return self.owner.high - self.owner.low


class SlotCache(Cache):  # type: ignore[misc]
    """`rows` slots of `capacity` columns, shaped like the layers of `model`; columns [low, high) are in use."""

    def __init__(self, like: Cache, rows: int, high: int) -> None:
        self.low, self.high, self.capacity = high, high, high + max(ROOM, high // 4)
        self.rows = rows
        super().__init__(layers=[self._empty(layer) for layer in like.layers])

    def insert(self, slots: torch.Tensor, source: Cache, index: torch.Tensor) -> None:
        """Copy rows `index` of a cache of prompts into `slots`, so that they end at `high`."""
        for mine, theirs in zip(self.layers, source.layers, strict=True):
            start = self.high - theirs.keys.shape[2]
            mine.key_buffer[slots, :, start : self.high] = theirs.keys[index]
            mine.value_buffer[slots, :, start : self.high] = theirs.values[index]

    def slide(self) -> int:
        """Move the columns in use to the front, to have room again. Returns by how many columns."""
        low, span = self.low, self.high - self.low
        for layer in self.layers:
            for buffer in (layer.key_buffer, layer.value_buffer):
                used = buffer[:, :, low : self.high]
                buffer[:, :, :span] = used if span <= low else used.clone()
        self.low, self.high = 0, span
        return low

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only these rows, in their order."""
        used = slice(self.low, self.high)
        for layer in self.layers:
            kept = [buffer[rows, :, used] for buffer in (layer.key_buffer, layer.value_buffer)]
            layer.key_buffer, layer.value_buffer = layer.key_buffer[: len(rows)], layer.value_buffer[: len(rows)]
            layer.key_buffer[:, :, used], layer.value_buffer[:, :, used] = kept
        self.rows = len(rows)

    def moved(self, keep: torch.Tensor, rows: int, high: int) -> "SlotCache":
        """A cache of `rows` slots whose first ones are the rows `keep` of this one, ending at column `high`."""
        fresh = SlotCache(self, rows, high)
        span = self.high - self.low
        fresh.low = high - span
        for old, new in zip(self.layers, fresh.layers, strict=True):
            new.key_buffer[: len(keep), :, fresh.low : high] = old.key_buffer[keep, :, self.low : self.high]
            new.value_buffer[: len(keep), :, fresh.low : high] = old.value_buffer[keep, :, self.low : self.high]
        return fresh

    def _empty(self, layer: Any) -> _Layer:
        shapes = (layer.key_buffer, layer.value_buffer) if isinstance(layer, _Layer) else (layer.keys, layer.values)
        buffers = [x.new_zeros((self.rows, x.shape[1], self.capacity, x.shape[3])) for x in shapes]
        return _Layer(self, *buffers)


def can_hold(config: Any) -> bool:
    """Whether every layer of the model keeps plain keys and values, so that rows can be moved between caches."""
    if getattr(config.get_text_config(), "num_kv_shared_layers", None):
        return False
    layers = DynamicCache(config=config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)
