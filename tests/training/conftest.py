import random
from pathlib import Path
from typing import Any

import pytest

from tests.tiny_model import save_tiny, tiny_llama, tiny_tokenizer


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """The folder of a tiny model with small random weights, which a few steps can teach."""
    return save_tiny(tmp_path / "M_0", initializer_range=0.1)


@pytest.fixture
def loaded() -> tuple[Any, Any]:
    tokenizer = tiny_tokenizer(26)
    return tiny_llama(len(tokenizer), initializer_range=0.1), tokenizer


def words(rng: random.Random, low: int, high: int) -> str:
    return " ".join(f"w{rng.randrange(26)}" for _ in range(rng.randint(low, high)))


@pytest.fixture
def rows() -> list[tuple[str, str]]:
    """Answers that can be learnt: the first word of the prompt, then w0."""
    rng = random.Random(0)
    prompts = [words(rng, 1, 9) for _ in range(40)]
    return [(prompt, f"{prompt.split()[0]} w0") for prompt in prompts]


@pytest.fixture
def pairs() -> list[tuple[str, str, str]]:
    """Chosen answers say w1, rejected ones w2, among other words."""
    rng = random.Random(1)
    return [(words(rng, 1, 9), f"w1 {words(rng, 0, 4)}", f"{words(rng, 0, 5)} w2") for _ in range(40)]
