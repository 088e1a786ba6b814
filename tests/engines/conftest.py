from typing import Any

import pytest

from synpo_lab.config import EngineConfig
from synpo_lab.engines.transformers_engine import TransformersEngine
from tests.tiny_model import tiny_llama, tiny_tokenizer


class Endings:
    """An engine whose model ends one answer in about `every` tokens, so that rows come and go."""

    def __init__(self, *, every: int = 8, seed: int = 0, **model: Any) -> None:
        self.tokenizer = tiny_tokenizer(26)
        self.model = tiny_llama(len(self.tokenizer), seed=seed, **model)
        self.model.generation_config.eos_token_id = [2, *range(7, len(self.tokenizer), every)]

    def __call__(self, batch_size: int = 4) -> TransformersEngine:
        config = EngineConfig(batch_size=batch_size, threads=1)
        return TransformersEngine("M_0", self.model, config, tokenizer=self.tokenizer)


@pytest.fixture(scope="session")
def endings() -> Endings:
    return Endings()
