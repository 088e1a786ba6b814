"""Log-probs of tokens from hidden states and the output head, the logits of a whole batch never held.

A head of 128,000 words makes 0.5 MB of float32 logits per token, and a naive loss keeps several copies of them. Here the
vocabulary is walked in tiles, once forward (the log of the sum of exponentials, online as in Milakov and Gimelshein, arXiv
1805.02867) and once backward (each tile of logits made anew), so what is held is one tile. The result is exact up to the
order of summation. Where the head is frozen (adapters), the gradient of the states is gathered on the way forward, and
nothing is made twice.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

PLAIN_LOGITS = 1 << 22  # so many logits (16 MB) are made at once: less work than walking
TILE_LOGITS = {"cpu": 1 << 22}  # per tile; on the CPU it should stay in the cache
TILE_LOGITS_ELSEWHERE = 1 << 26
LEAST_TILE = 256  # columns: thinner matrix products waste the machine


@dataclass(frozen=True, slots=True)
class Head:
    """logits = softcap(scale x (states @ weight.T + bias)), where softcap(x) = cap x tanh(x / cap); Gemma 2, Cohere, Granite."""

    weight: Tensor  # [V, D]
    bias: Tensor | None = None  # [V]
    scale: float = 1.0
    cap: float | None = None

    def __call__(self, states: Tensor) -> Tensor:
        """All logits [..., V] of `states` [..., D]."""
        return self.shape(F.linear(states, self.weight, self.bias))

    def shape(self, logits: Tensor) -> Tensor:
        """Scale and soft cap of a linear layer's output."""
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap

    def slope(self, shaped: Tensor) -> Tensor | float:
        """Derivative of `shape`, from its result."""
        return self.scale if self.cap is None else self.scale * (1 - (shaped / self.cap).square())


AnyHead = Tensor | nn.Module | Callable[[Tensor], Tensor] | Head  # [V, D], or whatever maps [N, D] to [N, V]


def token_logps(states: Tensor, head: AnyHead, targets: Tensor, *, chunk_size: int | None = None) -> Tensor:
    """Log-prob [N] of each token of `targets` [N] under `states` [N, D].

    Held at a time are the logits of about `chunk_size` tokens (by default: what suits the device), forward and backward.
    A head that is no plain linear layer is called on `chunk_size` tokens at a time, and again in the backward pass.
    """
    head = as_head(head)
    if not isinstance(head, Head):
        return _by_tokens(states, head, targets, chunk_size)
    words = len(head.weight)
    if len(targets) * words <= (PLAIN_LOGITS if chunk_size is None else chunk_size * words):
        return _plain(states, head, targets)
    device = states.device.type
    if torch.is_autocast_enabled(device):  # as F.linear would; the gradients are cast back by autograd
        states, head = _cast(states, head, torch.get_autocast_dtype(device))
    with torch.autocast(device, enabled=False):
        tile = _tile(len(targets), words, device, chunk_size)
        logps: Tensor = _TiledLogps.apply(  # type: ignore[no-untyped-call]
            states, head.weight, head.bias, targets, head.scale, head.cap, tile
        )
    return logps


def owner_means(values: Tensor, owners: Tensor, count: int) -> Tensor:
    """Means [count] of `values` [N] by owner [N] in 0..count-1; 0 for an owner of nothing."""
    sums = values.new_zeros(count).index_add(0, owners, values)
    return sums / torch.bincount(owners, minlength=count).clamp(min=1)


def mean_logps(hidden: Tensor, head: AnyHead, labels: Tensor, *, chunk_size: int | None = None) -> Tensor:
    """Mean log-prob per labelled token [B], of `hidden` [B, T, D], `head` [V, D] or a module, `labels` [B, T].

    Labels of -100 are skipped; hidden t scores label t+1, as in transformers. A row without labelled tokens gets 0.
    """
    where = labels[:, 1:] != -100
    logps = token_logps(hidden[:, :-1][where], head, labels[:, 1:][where], chunk_size=chunk_size)
    return owner_means(logps, where.nonzero()[:, 0], len(labels))


def as_head(head: AnyHead) -> Head | Callable[[Tensor], Tensor]:
    """`head` as weight and bias where it is a matrix or exactly nn.Linear; an adapter on it, say, makes it something else."""
    if isinstance(head, Tensor):
        return Head(head)
    if type(head) is nn.Linear:
        return Head(head.weight, head.bias)
    return head


def _plain(states: Tensor, head: Callable[[Tensor], Tensor], targets: Tensor) -> Tensor:
    logits = head(states)
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    return -F.cross_entropy(logits, targets, reduction="none")


def _by_tokens(states: Tensor, head: Callable[[Tensor], Tensor], targets: Tensor, chunk_size: int | None) -> Tensor:
    weight = getattr(head, "weight", None)
    words = int(weight.shape[0] if isinstance(weight, Tensor) else states.shape[-1])
    size = chunk_size or max(1, TILE_LOGITS_ELSEWHERE // words)
    if len(targets) <= size:
        return _plain(states, head, targets)
    parts = zip(torch.split(states, size), torch.split(targets, size), strict=True)
    return torch.cat([checkpoint(_plain, part, head, t, use_reentrant=False) for part, t in parts])


def _tile(tokens: int, words: int, device: str, chunk_size: int | None) -> int:
    if chunk_size is not None:
        return max(1, chunk_size * words // tokens)
    return max(LEAST_TILE, TILE_LOGITS.get(device, TILE_LOGITS_ELSEWHERE) // tokens)


def _cast(states: Tensor, head: Head, dtype: torch.dtype) -> tuple[Tensor, Head]:
    bias = None if head.bias is None else head.bias.to(dtype)
    return states.to(dtype), replace(head, weight=head.weight.to(dtype), bias=bias)


class _TiledLogps(torch.autograd.Function):
    """[N] log-probs. A tile is [columns, N]: words down, tokens across, so that gradients of the head are written in rows.

    By its logits, a token's log-prob has the gradient e - p: the one-hot target less the softmax.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, scale: float, cap: float | None,
        tile: int,
    ) -> Tensor:  # fmt: skip
        head = Head(weight, bias, scale, cap)
        frozen = ctx.needs_input_grad[0] and not any(ctx.needs_input_grad[1:3])
        found, top, total, pull = _walk(states, head, targets, tile, pulled=frozen)
        if pull is not None:  # sum of p x slope x weight, taken from the target's own
            own = weight[targets].to(pull.dtype).mul_(_column(head.slope(found)))
            ctx.save_for_backward(own.sub_(pull.div_(total.unsqueeze(1))))
        else:
            ctx.save_for_backward(states, weight, bias, targets, found, top, total)
        ctx.head, ctx.tile, ctx.frozen = replace(head, weight=_NOTHING, bias=None), tile, frozen
        return (found - top).sub_(
            total.log()
        )  # in this order, so that huge logits leave their digits to the difference

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.frozen:
            [per_token] = ctx.saved_tensors
            return per_token * grad.unsqueeze(1), None, None, None, None, None, None
        states, weight, bias, targets, *walked = ctx.saved_tensors
        head = replace(ctx.head, weight=weight, bias=bias)
        return (*_pushed(states, head, targets, walked, grad, ctx.tile, ctx.needs_input_grad), None, None, None, None)


_NOTHING = torch.empty(0)


def _walk(
    states: Tensor, head: Head, targets: Tensor, tile: int, *, pulled: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Of each token: its target's logit, the largest logit m, the sum of exp(logit - m), and that sum over slope x weight.

    The last [N, D] only where `pulled`; it is what softmax makes of the head's rows, as attention does of its values.
    """
    wide = _wide(states.dtype)
    found, total = (torch.zeros(len(targets), dtype=wide, device=states.device) for _ in range(2))
    top = torch.full_like(total, -torch.inf)
    pull = torch.zeros(states.shape, dtype=wide, device=states.device) if pulled else None
    for start, logits in _tiles(states, head, tile):
        row, here = _row_in(targets, start, len(logits))
        found = torch.where(here, logits.gather(0, row)[0], found)
        higher = torch.maximum(top, logits.amax(0))
        fade = (top - higher).exp_()
        slope = head.slope(logits)
        total.mul_(fade).add_(logits.sub_(higher).exp_().sum(0))
        if pull is not None:
            weight = head.weight[start : start + len(logits)]
            pull.mul_(fade.unsqueeze(1)).add_(logits.mul_(slope).T.to(weight.dtype) @ weight)
        top = higher
    return found, top, total, pull


def _pushed(
    states: Tensor, head: Head, targets: Tensor, walked: list[Tensor], grad: Tensor, tile: int, wanted: Any
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The wanted gradients of states [N, D], weight [V, D] and bias [V], from what `_walk` found of each token."""
    found, top, total = walked
    of_states = torch.zeros(states.shape, dtype=_wide(states.dtype), device=states.device) if wanted[0] else None
    of_weight = torch.empty_like(head.weight) if wanted[1] else None
    of_bias = torch.empty_like(head.bias) if head.bias is not None and wanted[2] else None
    own, share = grad * head.slope(found), grad.neg() / total
    for start, logits in _tiles(states, head, tile):
        row, here = _row_in(targets, start, len(logits))
        slope = head.slope(logits)
        push = logits.sub_(top).exp_().mul_(share).mul_(slope)
        push.scatter_add_(0, row, torch.where(here, own, 0).unsqueeze(0))
        rows, push = slice(start, start + len(push)), push.to(states.dtype)
        if of_states is not None:
            of_states.add_(push.T @ head.weight[rows])
        if of_weight is not None:
            torch.mm(push, states, out=of_weight[rows])
        if of_bias is not None:
            of_bias[rows] = push.sum(1)
    return None if of_states is None else of_states.to(states.dtype), of_weight, of_bias


def _tiles(states: Tensor, head: Head, tile: int) -> Iterator[tuple[int, Tensor]]:
    """First word and logits [columns, N] of each tile, in at least float32. The tensor is the taker's, until the next."""
    wide, words = _wide(states.dtype), len(head.weight)
    buffer = torch.empty(min(tile, words), len(states), dtype=states.dtype, device=states.device)
    for start in range(0, words, tile):
        part = slice(start, min(start + tile, words))
        logits, weight = buffer[: part.stop - start], head.weight[part]
        if head.bias is None:
            torch.mm(weight, states.T, out=logits)
        else:
            torch.addmm(head.bias[part].unsqueeze(1), weight, states.T, out=logits)
        yield start, head.shape(logits.to(wide))


def _row_in(targets: Tensor, start: int, columns: int) -> tuple[Tensor, Tensor]:
    """Row [1, N] of each target in a tile, and whether it is there [N]; some row where it is not."""
    row = targets - start
    return row.clamp(0, columns - 1).unsqueeze(0), (row >= 0) & (row < columns)


def _wide(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def _column(values: Tensor | float) -> Tensor | float:
    return values.unsqueeze(1) if isinstance(values, Tensor) else values
