"""Small scorer models with the real classes and configs, random weights, and a tokenizer of words w0, w1, ..."""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    LlamaConfig,
    LlamaForSequenceClassification,
    Qwen3Config,
    Qwen3ForSequenceClassification,
)

from tests.tiny_model import TEMPLATE, tiny_tokenizer

WORDS = 200
SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
    "num_key_value_heads": 1, "max_position_embeddings": 128, "initializer_range": 0.4, "bos_token_id": 1,
}  # fmt: skip
KINDS = {
    "llama": (LlamaConfig, LlamaForSequenceClassification),
    "qwen3": (Qwen3Config, Qwen3ForSequenceClassification),
}


def classifier(kind: str = "llama", *, labels: int = 1, seed: int = 0, **more: Any) -> Any:
    config, model = KINDS[kind]
    torch.manual_seed(seed)
    size = len(tiny_tokenizer(WORDS))
    settings = SIZES | {"vocab_size": size, "num_labels": labels, "eos_token_id": 2, "pad_token_id": None} | more
    if kind == "qwen3":
        settings["head_dim"] = 16
    return model(config(**settings)).eval()


def save(model: Any, folder: Path, *, template: str | None = TEMPLATE) -> Path:
    model.save_pretrained(folder)
    tokenizer = tiny_tokenizer(WORDS, template=template)
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(folder)
    return folder


def words(start: int, count: int) -> str:
    return " ".join(f"w{(start * 7 + i) % WORDS}" for i in range(count))


def rows_of_many_lengths(n: int = 40) -> list[tuple[str, str]]:
    return [(words(i, 1 + i % 5), words(i + 1, (i * 5) % 23)) for i in range(n)]
