"""Rows of token ids into tensors, and the order in which a trainer sees them.

A batch says which hidden state scores which token: `target` [N] is a token of an answer, `source` [N] the position (in
the flattened batch) of the token before it, `owner` [N] the number of the answer it belongs to. `tokens` [B] are the
lengths of the rows without padding.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.utils.data import Sampler

from synpo_lab.chat import Example

MEGABATCH = 8  # batches that are sorted by length together: little padding, still a random mix

Tensors = dict[str, Tensor]


def collate(examples: Sequence[Example], pad: int) -> Tensors:
    """One example per row, padded on the right, where a causal model needs no mask. Owner i is example i."""
    width = max(len(row.prompt) + len(row.answer) for row in examples)
    starts = [i * width + len(row.prompt) - 1 for i, row in enumerate(examples)]
    return _tensors(
        input_ids=[_padded(row.prompt + row.answer, width, pad) for row in examples],
        source=[
            at for start, row in zip(starts, examples, strict=True) for at in range(start, start + len(row.answer))
        ],
        target=[token for row in examples for token in row.answer],
        owner=[i for i, row in enumerate(examples) for _ in row.answer],
        tokens=[len(row.prompt) + len(row.answer) for row in examples],
    )


def collate_pairs(pairs: Sequence[tuple[Example, Example]], pad: int) -> Tensors:
    """One pair per row: prompt, chosen, rejected; the prompt is read once.

    Of B pairs, owner i is the chosen answer of pair i and owner B + i the rejected. `position_ids` [B, T] restart at
    the rejected answer; `borders` [B, 2] say where the chosen and the rejected begin.
    """
    width = max(len(a.prompt) + len(a.answer) + len(b.answer) for a, b in pairs)
    source: list[int] = []
    for i, (a, b) in enumerate(pairs):
        last, chosen = i * width + len(a.prompt) - 1, len(a.answer)
        source += [*range(last, last + chosen), last, *range(last + chosen + 1, last + chosen + len(b.answer))]
    return _tensors(
        input_ids=[_padded(a.prompt + a.answer + b.answer, width, pad) for a, b in pairs],
        source=source,
        target=[token for a, b in pairs for token in a.answer + b.answer],
        owner=[n for i, (a, b) in enumerate(pairs) for n in [i] * len(a.answer) + [len(pairs) + i] * len(b.answer)],
        tokens=[len(a.prompt) + len(a.answer) + len(b.answer) for a, b in pairs],
        position_ids=[_padded(_pair_positions(a, b), width, 0) for a, b in pairs],
        borders=[[len(a.prompt), len(a.prompt) + len(a.answer)] for a, _ in pairs],
    )


def _pair_positions(chosen: Example, rejected: Example) -> list[int]:
    prompt = len(chosen.prompt)
    return [*range(prompt + len(chosen.answer)), *range(prompt, prompt + len(rejected.answer))]


def pair_mask(borders: Tensor, width: int) -> Tensor:
    """[B, 1, T, T]: where a token of a `collate_pairs` row looks: back, but from the rejected not into the chosen."""
    column = torch.arange(width, device=borders.device)
    key, query = column.view(1, 1, 1, -1), column.view(1, 1, -1, 1)
    chosen, rejected = borders.view(-1, 2, 1, 1, 1).unbind(1)
    return (key <= query) & ~((query >= rejected) & (key >= chosen) & (key < rejected))


class BucketSampler(Sampler[int]):
    """Row numbers such that each run of `batch_size` has rows of a like length; another order at each epoch."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self._lengths, self._batch_size, self._seed = lengths, batch_size, seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._lengths)

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        order = torch.randperm(len(self), generator=generator).tolist()
        span = MEGABATCH * self._batch_size
        batches: list[list[int]] = []
        for at in range(0, len(order), span):
            mega = sorted(order[at : at + span], key=lambda i: -self._lengths[i])
            batches += [mega[k : k + self._batch_size] for k in range(0, len(mega), self._batch_size)]
        short = [batches.pop()] if batches and len(batches[-1]) < self._batch_size else []
        for k in torch.randperm(len(batches), generator=generator).tolist():
            yield from batches[k]
        for batch in short:
            yield from batch


class StepBatches(Sampler[list[int]]):
    """What one of `world` processes reads: micro batches of rows, the same number of them in every process.

    Rows `order` gives are cut into optimiser steps of `step` rows, those into micro batches, and dealt in turn. So which
    rows make a step does not depend on how many processes share it. Where a short last step leaves a process without
    rows it gets one with a negative number, ~row, to be read and not counted.
    """

    def __init__(self, order: BucketSampler, step: int, micro: int, rank: int = 0, world: int = 1) -> None:
        self._order, self._step, self._micro, self._rank, self._world = order, step, micro, rank, world

    def __len__(self) -> int:
        whole, short = divmod(len(self._order), self._step)
        return whole * self._rounds(self._step) + self._rounds(short)

    def set_epoch(self, epoch: int) -> None:
        self._order.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[int]]:
        rows = list(self._order)
        for at in range(0, len(rows), self._step):
            step = rows[at : at + self._step]
            for turn in range(self._rounds(len(step))):
                first = (turn * self._world + self._rank) * self._micro
                yield step[first : first + self._micro] or [~step[0]]

    def _rounds(self, rows: int) -> int:
        return -(-rows // (self._micro * self._world))


def _padded(row: list[int], width: int, filler: int) -> list[int]:
    return row + [filler] * (width - len(row))


def _tensors(**lists: list[int] | list[list[int]]) -> Tensors:
    return {name: torch.tensor(values) for name, values in lists.items()}
