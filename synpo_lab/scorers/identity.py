"""What is stored with every score: who gave it, down to the weights."""

from pathlib import Path

from synpo_lab.config import ScorerConfig
from synpo_lab.errors import ConfigError
from synpo_lab.origins import fingerprint, short, told_of

JUDGES = ("judge", "pairwise-judge")


def where(config: ScorerConfig) -> str:
    """The folder or hub name of the scorer's model. ConfigError when none is named."""
    if not config.model:
        raise ConfigError(
            f"scorer.name: {config.name} needs scorer.model", hint="give a model folder or hub:OWNER/NAME"
        )
    return config.model


def identity(config: ScorerConfig, text: str = "") -> str:
    """For example "reward-model:Skywork/Reward@1a2b3c4d5e6f" or "judge:judges/7b@1f2e3d4c#ab12cd34".

    After @: the hub commit, or a fingerprint of a folder's weights, config, tokenizer and chat template. After #: of the
    text a judge is asked.
    """
    model = where(config)
    if config.name in JUDGES and config.judge.engine.kind == "openai":
        told = model
    else:
        told = told_of(model, config.revision) or f"{Path(model).name}@{fingerprint(Path(model))}"
    return f"{config.name}:{told}" + (f"#{short(text)}" if text else "")
