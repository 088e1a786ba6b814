"""A tiny random Llama with a word-level tokenizer and a chat template, made in memory for tests and benches."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<user> {{ m['content'] }} <bot>"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
SPECIALS = ["<pad>", "<s>", "</s>", "<unk>", "<user>", "<bot>"]


def tiny_tokenizer(words: int = 26, *, template: str | None = TEMPLATE) -> PreTrainedTokenizerFast:
    """Words w0..wN-1 plus specials, one token per white-space separated word."""
    vocabulary = {word: i for i, word in enumerate([*SPECIALS, *(f"w{i}" for i in range(words))])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>",
        additional_special_tokens=["<user>", "<bot>"],
    )
    fast.chat_template = template
    return fast


def tiny_llama(
    vocab_size: int, *, hidden: int = 32, layers: int = 2, heads: int = 2, seed: int = 0, **more: Any
) -> Any:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=hidden,
        intermediate_size=hidden * 2,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=more.pop("max_position_embeddings", 256),
        initializer_range=more.pop("initializer_range", 0.4),
        tie_word_embeddings=more.pop("tie_word_embeddings", True),
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        **more,
    )
    return LlamaForCausalLM(config).eval()


def save_tiny(folder: Path, *, words: int = 26, seed: int = 0, **more: Any) -> Path:
    tokenizer = tiny_tokenizer(words)
    tiny_llama(len(tokenizer), seed=seed, **more).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
