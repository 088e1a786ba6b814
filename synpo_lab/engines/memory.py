"""How many rows fit into memory: a first guess, halved by the engine when it was too high."""

from typing import Any

import psutil
import torch

SHARE = 0.6  # of what is free; the rest is for activations and other processes
PROMPT = 512  # tokens a prompt is taken to have
MOST = {"cuda": 512}
MOST_ELSEWHERE = 128


def rows_that_fit(model: Any, max_new_tokens: int) -> int:
    """Rows to decode together: a power of two, by the memory of keys, values and logits."""
    most = MOST.get(model.device.type, MOST_ELSEWHERE)
    rows = int(_free(model.device) * SHARE // max(1, _bytes_per_row(model, max_new_tokens)))
    return 1 << (min(max(rows, 1), most).bit_length() - 1)


def _bytes_per_row(model: Any, max_new_tokens: int) -> int:
    config = model.config.get_text_config()
    tokens = max_new_tokens + PROMPT
    if context := getattr(config, "max_position_embeddings", None):
        tokens = min(tokens, context)
    heads = getattr(config, "num_attention_heads", None) or 1
    kept_heads = getattr(config, "num_key_value_heads", None) or heads
    head = getattr(config, "head_dim", None) or config.hidden_size // heads
    cache = 2 * config.num_hidden_layers * kept_heads * head * tokens * model.dtype.itemsize
    logits = 4 * 8 * config.vocab_size  # sampling holds a few float64 copies
    return int(cache + logits)


def _free(device: torch.device) -> int:
    if device.type == "cuda":
        reusable = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + reusable
    return int(psutil.virtual_memory().available)
