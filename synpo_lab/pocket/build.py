"""Builds M_0, the pocket model: a tokenizer from the world's words and a tiny Llama trained on mixed-quality answers.

    synpo-lab pocket build --to DIR

Half an hour to an hour on two CPU cores. The result is shipped in `synpo_lab/pocket/model/`.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from synpo_lab.pocket.answers import BLURTED, MILD_BLURTED, MILD_REVIEWED, REVIEWED, Habits
from synpo_lab.pocket.data import Row, training_rows
from synpo_lab.pocket.lexicon import CATEGORIES, LETTERS, NUMBERS, OPENERS, PLACES, PLURALS, VERBS, WORDS, tokens
from synpo_lab.pocket.tasks import WORDINGS
from synpo_lab.templates import TEMPLATES

SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
TURNS = ["<user>", "<bot>"]
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}<bot>{{ message['content'] }}{{ eos_token }}"
    "{% else %}<user>{{ message['content'] }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<bot>{% endif %}"
)
_GLUE = "a an is not it and or like no yes starts with comes before i the about here"


def vocabulary() -> list[str]:
    """Every word and mark the pocket world can say, special tokens first."""
    texts = [*(w for ws in WORDINGS.values() for w in ws), *OPENERS, *PLACES, *VERBS.values(), _GLUE]
    pocket = TEMPLATES["pocket"]
    texts += [pocket.generator, pocket.target, pocket.improver]
    plain = [tokens(text.replace("{", " ").replace("}", " ")) for text in texts]
    words = {word for line in plain for word in line}
    words |= {*WORDS, *CATEGORIES, *PLURALS.values(), *NUMBERS.values(), *LETTERS, *".,:!?'-;\"()"}
    return [*SPECIAL.values(), *TURNS, *sorted(words)]


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Word-level: lower-cased words and punctuation marks; decodes to tidy text."""
    vocab = {word: index for index, word in enumerate(vocabulary())}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=SPECIAL["unk_token"]))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.Sequence([decoders.WordPiece(prefix="##", cleanup=True), decoders.Replace(" :", ":")])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, padding_side="left", model_max_length=256, **SPECIAL)
    fast.add_special_tokens({"additional_special_tokens": TURNS})
    fast.chat_template = CHAT_TEMPLATE
    return fast


def model_config(vocabulary_size: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=vocabulary_size,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        initializer_range=0.08,  # about 1/sqrt(hidden): at the usual 0.02 so narrow a model hardly starts to learn
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )


@dataclass(frozen=True)
class Phase:
    rows: int  # each seen once
    learning_rate: float  # constant after a warm-up, and falling to zero at the end if it `settles`
    settles: bool
    blurted: Habits
    reviewed: Habits


PHASES = (
    Phase(483_000, 3e-3, True, MILD_BLURTED, MILD_REVIEWED),
    Phase(130_000, 2e-3, False, MILD_BLURTED, MILD_REVIEWED),
    Phase(254_000, 2e-3, True, BLURTED, REVIEWED),
)


def build(folder: Path, *, scale: float = 1.0, seed: int = 0, report: Callable[[str], None] = print) -> None:
    """Trains M_0 from nothing through all phases, each with `scale` times its rows, and saves it with its tokenizer."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    model = LlamaForCausalLM(model_config(len(tokenizer)))
    report(f"{model.num_parameters():,} parameters, vocabulary {len(tokenizer)}")
    for number, phase in enumerate(PHASES):
        rows = max(1, round(scale * phase.rows))
        report(f"phase {number + 1} of {len(PHASES)}: {rows:,} rows")
        _train(model, tokenizer, phase, rows, seed + number, report)
        _save(model, tokenizer, folder)  # an interrupted build leaves a usable model


def _train(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    phase: Phase,
    rows: int,
    seed: int,
    report: Callable[[str], None],
) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=phase.learning_rate, weight_decay=0.05, betas=(0.9, 0.98))
    model.train()
    started, seen, losses = time.time(), 0, list[float]()
    for step, (batch, progress) in enumerate(_batches(tokenizer, phase, rows, seed)):
        for group in optimizer.param_groups:
            group["lr"] = phase.learning_rate * _schedule(progress, phase.settles)
        loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen += int(batch["attention_mask"].sum())
        losses.append(loss.item())
        if step % 200 == 0:
            recent, rate = losses[-200:], seen / (time.time() - started)
            report(f"{progress:6.1%}  step {step:6}  loss {sum(recent) / len(recent):.4f}  {rate:,.0f} tokens/s")


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _schedule(progress: float, settles: bool) -> float:
    """Warm-up over the first 2 %, constant, and linear to zero over the last 30 % if it `settles`."""
    falling = max(0.0, 1 - progress) / 0.3 if settles else 1.0
    return min(1.0, progress / 0.02 + 0.01, falling)


def _batches(
    tokenizer: PreTrainedTokenizerFast, phase: Phase, rows: int, seed: int
) -> Iterator[tuple[dict[str, Any], float]]:
    """Batches of rows of like length, and the share of the rows used so far."""
    rng = random.Random(seed)
    used, chunk = 0, []
    for row in training_rows(rows, seed, blurted=phase.blurted, reviewed=phase.reviewed):
        chunk.append(row)
        if len(chunk) == 8192 or used + len(chunk) == rows:
            batches = _bucket(tokenizer, chunk)
            rng.shuffle(batches)
            for batch in batches:
                used += len(batch)
                yield _collate(batch), used / rows
            chunk = []


BATCH_TOKENS = 2048
Encoded = tuple[list[int], int]  # token ids, and where the response starts


def _bucket(tokenizer: PreTrainedTokenizerFast, rows: list[Row]) -> list[list[Encoded]]:
    prompts = tokenizer([f"<s><user>{prompt}<bot>" for prompt, _ in rows], add_special_tokens=False)["input_ids"]
    answers = tokenizer([f"{text}</s>" for _, text in rows], add_special_tokens=False)["input_ids"]
    encoded = sorted(((p + a, len(p)) for p, a in zip(prompts, answers, strict=True)), key=lambda row: len(row[0]))
    batches: list[list[Encoded]] = [[]]
    for row in encoded:
        if (len(batches[-1]) + 1) * len(row[0]) > BATCH_TOKENS:
            batches.append([])
        batches[-1].append(row)
    return batches


def _collate(batch: list[Encoded]) -> dict[str, Any]:
    width = max(len(ids) for ids, _ in batch)
    input_ids = torch.zeros(len(batch), width, dtype=torch.long)
    labels = torch.full((len(batch), width), -100)
    mask = torch.zeros(len(batch), width, dtype=torch.long)
    for row, (ids, start) in enumerate(batch):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        labels[row, start : len(ids)] = torch.tensor(ids[start:])
        mask[row, : len(ids)] = 1
    return {"input_ids": input_ids, "labels": labels, "attention_mask": mask}
