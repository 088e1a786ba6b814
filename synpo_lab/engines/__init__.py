"""Engines by kind."""

from pathlib import Path

from synpo_lab.config import EngineConfig
from synpo_lab.engines.base import Engine


def open_engine(name: str, model: str | Path, config: EngineConfig, *, trust_remote_code: bool = False) -> Engine:
    """An engine of the kind the config names over the weights in `model`; what it makes is signed `name`."""
    from synpo_lab.engines.transformers_engine import TransformersEngine

    return TransformersEngine(name, model, config, trust_remote_code=trust_remote_code)
