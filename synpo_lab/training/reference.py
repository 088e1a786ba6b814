"""What the model said of every pair before it was trained: the reference of DPO and IPO, asked once and kept in a file."""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from synpo_lab.chat import Example
from synpo_lab.models import out_of_memory
from synpo_lab.training.batches import Tensors
from synpo_lab.training.logps import AnswerLogps, bare

BATCH_TOKENS = 1 << 14  # read together: nothing is kept for a backward pass

Pair = tuple[Example, Example]


def reference_means(
    model: Any,
    logps: AnswerLogps,
    pairs: Sequence[Pair],
    collate: Callable[[Sequence[Pair]], Tensors],
    file: Path | None,
) -> Tensor:
    """Mean log-prob per token of chosen and rejected [N, 2] under `model` as it is now, in float32 on the CPU.

    Read from `file` where that holds them for the same pairs and weights, else asked and written there. Where several
    processes train together each asks about its share.
    """
    key = _key(model, pairs)
    if file is not None and (kept := _read(file, key)) is not None:
        return kept
    rank, world = _place()
    mine = {number: pairs[number] for number in range(rank, len(pairs), world)}
    means = _gathered(_ask(model, logps, mine, collate), len(pairs), world)
    if file is not None and rank == 0:
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.draft")
        save_file({"means": means}, draft, {"key": key})
        os.replace(draft, file)
    return means


def _ask(
    model: Any, logps: AnswerLogps, pairs: dict[int, Pair], collate: Callable[[Sequence[Pair]], Tensors]
) -> dict[int, list[float]]:
    """By the pair's number, its two means. Batches of half the size where memory runs out."""
    device, found, waiting = bare(model).device, dict[int, list[float]](), _batches(pairs)
    while waiting:
        numbers = waiting.pop(0)
        try:
            means = _asked(logps, [pairs[number] for number in numbers], collate, device)
        except (RuntimeError, MemoryError) as error:
            if len(numbers) == 1 or not out_of_memory(error):
                raise
            waiting = [half for batch in (numbers, *waiting) for half in _halves(batch)]
            continue
        found.update(zip(numbers, means, strict=True))
    return found


@torch.no_grad()
def _asked(
    logps: AnswerLogps, pairs: list[Pair], collate: Callable[[Sequence[Pair]], Tensors], device: torch.device
) -> list[list[float]]:
    batch = {name: tensor.to(device) for name, tensor in collate(pairs).items()}
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):  # as the training computes
        means: list[list[float]] = torch.stack(logps.means(batch).float().chunk(2), 1).tolist()
    return means


def _halves(numbers: list[int]) -> list[list[int]]:
    middle = -(-len(numbers) // 2)
    return [half for half in (numbers[:middle], numbers[middle:]) if half]


def _batches(pairs: dict[int, Pair]) -> list[list[int]]:
    """Pair numbers, those of a like length together, about BATCH_TOKENS to a batch."""
    batches: list[list[int]] = []
    room = 0
    for number in sorted(pairs, key=lambda n: (-_tokens(pairs[n]), n)):
        if room < _tokens(pairs[number]):
            batches.append([])
            room = BATCH_TOKENS
        batches[-1].append(number)
        room -= _tokens(pairs[batches[-1][0]])
    return batches


def _tokens(pair: Pair) -> int:
    return sum(len(side.prompt) + len(side.answer) for side in pair)


def _gathered(mine: dict[int, list[float]], count: int, world: int) -> Tensor:
    parts: list[Any] = [mine]
    if world > 1:
        parts = [None] * world
        torch.distributed.all_gather_object(parts, mine)
    everyone = {number: means for part in parts for number, means in part.items()}
    return torch.tensor([everyone[number] for number in range(count)])


def _place() -> tuple[int, int]:
    if not torch.distributed.is_initialized():
        return 0, 1
    return torch.distributed.get_rank(), torch.distributed.get_world_size()


def _key(model: Any, pairs: Sequence[Pair]) -> str:
    """Of the pairs' tokens and the weights: other pairs or another start ask anew."""
    digest = hashlib.sha256()
    for chosen, rejected in pairs:
        digest.update(json.dumps([chosen.prompt, chosen.answer, rejected.answer]).encode())
    for name, tensor in model.named_parameters():
        total = tensor.detach().sum(dtype=torch.float32)  # Apple's GPUs have no float64
        digest.update(f"{name} {tuple(tensor.shape)} {total.item()!r}".encode())
    return digest.hexdigest()


def _read(file: Path, key: str) -> Tensor | None:
    try:
        with safe_open(file, "pt") as stored:
            if (stored.metadata() or {}).get("key") == key:
                means: Tensor = stored.get_tensor("means")
                return means
    except (OSError, SafetensorError):
        return None  # not there, or torn: it is asked anew
    return None
