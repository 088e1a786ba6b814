"""What shows before the first stage and would else be told hours later: what a policy reads, whether a scorer can be had."""

from pathlib import Path

from synpo_lab.config import RunConfig, TrainerConfig
from synpo_lab.models import read_config


def context_of(policy: str | Path, *, trust_remote_code: bool) -> int | None:
    """How many tokens the policy reads, None where its config does not say. ModelError when that cannot be read."""
    config = read_config(policy, trust_remote_code=trust_remote_code)
    context: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return context


def within(config: RunConfig, context: int) -> RunConfig:
    """The config with every training's max_length at `context` tokens or below: rows beyond it could not be read."""

    def fitted(section: TrainerConfig) -> TrainerConfig:
        return section.model_copy(update={"max_length": min(section.max_length, context)})

    return config.model_copy(
        update={
            "prompts": config.prompts.model_copy(update={"train": fitted(config.prompts.train)}),
            "improver": config.improver.model_copy(update={"train": fitted(config.improver.train)}),
            "sft": fitted(config.sft),
            "simpo": fitted(config.simpo),
        }
    )
