"""Rows through a model in batches of a like length, streamed; a batch that does not fit into memory is halved."""

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any, TypeVar

import torch

from synpo_lab.engines.base import Check
from synpo_lab.errors import EngineError
from synpo_lab.models import out_of_memory

Row = TypeVar("Row")
Encoded = TypeVar("Encoded", bound=Sized)
Found = TypeVar("Found")

AHEAD = 16  # batches read ahead, so that rows of a like length share one


class Batches:
    """Remembers how many rows fit: once halved, later batches are small from the start."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def map(
        self,
        rows: Iterable[Row],
        encode: Callable[[list[Row]], Sequence[Encoded]],
        work: Callable[[list[Encoded]], Sequence[Found]],
        check: Check,
    ) -> Iterator[Found]:
        """What `work` makes of each row, in order. `encode` makes tokens of rows; `work` takes a batch of those.

        `check` is called before every batch. EngineError when a single row does not fit.
        """
        waiting = iter(rows)
        while chunk := list(islice(waiting, AHEAD * self.rows)):
            yield from self._chunk(encode(chunk), work, check)

    def _chunk(
        self, encoded: Sequence[Encoded], work: Callable[[list[Encoded]], Sequence[Found]], check: Check
    ) -> list[Found]:
        order = sorted(range(len(encoded)), key=lambda place: len(encoded[place]))
        found: dict[int, Found] = {}
        while len(found) < len(order):
            check()
            places = order[len(found) : len(found) + self.rows]
            try:
                made = work([encoded[place] for place in places])
            except (RuntimeError, MemoryError) as error:
                self._halve(error, [len(encoded[place]) for place in places])
                continue
            found.update(zip(places, made, strict=True))
        return [found[place] for place in range(len(encoded))]

    def _halve(self, error: Exception, lengths: list[int]) -> None:
        if not out_of_memory(error):
            raise error
        if len(lengths) == 1:
            raise EngineError(
                f"the scorer ran out of memory on one text of {lengths[0]:,} tokens",
                hint="lower scorer.max_length, or give it a larger device with scorer.device",
            ) from error
        self.rows = len(lengths) // 2
        free_cache()


def padded(rows: Sequence[Sequence[int]], pad: int, device: Any) -> dict[str, torch.Tensor]:
    """[N, T] ids and mask, padded on the right."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return {"input_ids": ids, "attention_mask": mask}


def free_cache() -> None:
    """Hand memory that torch keeps for itself back to the GPU."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
