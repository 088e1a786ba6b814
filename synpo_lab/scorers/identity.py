"""What is stored with every score: who gave it, down to the weights."""

import hashlib
import json
from pathlib import Path

from synpo_lab.config import ScorerConfig
from synpo_lab.errors import ConfigError

HUB = "hub:"
TELLING = ("*.safetensors", "*.bin", "config.json", "tokenizer*.json", "*.jinja")
JUDGES = ("judge", "pairwise-judge")


def where(config: ScorerConfig) -> str:
    """The folder or hub name of the scorer's model. ConfigError when none is named."""
    if not config.model:
        raise ConfigError(
            f"scorer.name: {config.name} needs scorer.model", hint="give a model folder or hub:OWNER/NAME"
        )
    return config.model


def identity(config: ScorerConfig, text: str = "") -> str:
    """For example "reward-model:Skywork/Reward@main" or "judge:judges/7b@1f2e3d4c#ab12cd34".

    After @: the hub revision, or a fingerprint of a folder's weights, config, tokenizer and chat template. After #: of the
    text a judge is asked.
    """
    model = where(config)
    if config.name in JUDGES and config.judge.engine.kind == "openai":
        told = model
    elif model.startswith(HUB):
        told = f"{model.removeprefix(HUB)}@{config.revision or 'main'}"
    else:
        told = f"{Path(model).name}@{_fingerprint(Path(model))}"
    return f"{config.name}:{told}" + (f"#{_short(text)}" if text else "")


def _fingerprint(folder: Path) -> str:
    """Of the names, sizes, beginnings and ends of the files that make a score: enough to tell two models apart."""
    files = sorted(file for pattern in TELLING for file in folder.glob(pattern))
    return _short(json.dumps([(file.name, file.stat().st_size, _head(file)) for file in files]))


def _head(file: Path) -> str:
    with file.open("rb") as opened:
        start = opened.read(1 << 20)
        opened.seek(max(0, file.stat().st_size - (1 << 16)))
        return hashlib.sha256(start + opened.read()).hexdigest()


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
