"""Generation of the transformers engine against plain `model.generate` on batches in the order of the data.

The model has the size of the pocket model and random weights; every token ends an answer with probability 1/12 or so.
Times are CPU seconds of this process, so that other work on the machine disturbs them less.
"""

import random
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from synpo_lab.chat import encode_prompts
from synpo_lab.config import EngineConfig, SamplingConfig
from synpo_lab.engines.base import Request
from synpo_lab.engines.transformers_engine import TransformersEngine
from tests.tiny_model import tiny_llama, tiny_tokenizer

WORDS, REQUESTS, ROUNDS = 344, 1000, 3
SAMPLING = SamplingConfig(temperature=0.7, max_new_tokens=48)


def main() -> None:
    torch.set_num_threads(1)
    tokenizer = tiny_tokenizer(WORDS)
    model = tiny_llama(len(tokenizer), hidden=128, layers=4, heads=4, initializer_range=0.05)
    model.generation_config.eos_token_id = [2, *range(8, len(tokenizer), 12)]
    for name, low, high in (
        ("answers (prompts of 5-20 tokens)", 5, 20),
        ("rewrites (prompts of 15-45 tokens)", 15, 45),
    ):
        requests = _requests(low, high)
        for batch_size in (64, 256):
            plain, ours = _rates(model, tokenizer, requests, batch_size)
            sys.stdout.write(
                f"{name:36} batch {batch_size:3}: generate {plain:6.0f}, engine {ours:6.0f} tokens per CPU second, "
                f"ratio {ours / plain:.2f}\n"
            )


def _requests(low: int, high: int) -> list[Request]:
    rng = random.Random(0)
    return [
        Request(str(i), " ".join(f"w{rng.randrange(WORDS)}" for _ in range(rng.randint(low, high))))
        for i in range(REQUESTS)
    ]


def _rates(model: Any, tokenizer: Any, requests: list[Request], batch_size: int) -> tuple[float, float]:
    """Best of a few rounds, taken in turn."""
    engine = TransformersEngine("M", model, EngineConfig(batch_size=batch_size, threads=1), tokenizer=tokenizer)
    best = [0.0, 0.0]
    for _ in range(ROUNDS):
        for i, run in enumerate(
            (
                lambda: _plain(model, tokenizer, requests, batch_size),
                lambda: sum(completion.n_tokens for completion in engine.generate(requests, SAMPLING, seed=0)),
            )
        ):
            best[i] = max(best[i], _rate(run))
    return best[0], best[1]


def _rate(run: Callable[[], int]) -> float:
    began = time.process_time()
    return run() / (time.process_time() - began)


@torch.inference_mode()
def _plain(model: Any, tokenizer: Any, requests: list[Request], batch_size: int) -> int:
    """Tokens generated, those after an end token not counted."""
    ends, total = set(model.generation_config.eos_token_id), 0
    for at in range(0, len(requests), batch_size):
        prompts = encode_prompts(tokenizer, [request.prompt for request in requests[at : at + batch_size]])
        width = max(map(len, prompts))
        ids = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        out = model.generate(
            input_ids=ids, attention_mask=mask, do_sample=True, temperature=0.7, top_k=0, max_new_tokens=48, pad_token_id=0
        )  # fmt: skip
        for row in out[:, width:].tolist():
            total += next((i for i, token in enumerate(row) if token in ends), len(row) - 1) + 1
    return total


if __name__ == "__main__":
    main()
