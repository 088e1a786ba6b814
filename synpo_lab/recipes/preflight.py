"""What shows before the first stage and would else be told hours later: what a policy reads, whether a scorer can be had.

And whether its chat template can be trained on, and the GPUs are there that the config counts on.
"""

from collections.abc import Iterator
from pathlib import Path

import torch

from synpo_lab.chat import encode_examples
from synpo_lab.config import EngineConfig, RunConfig, TrainerConfig
from synpo_lab.engines.adapters import tokenizer_of
from synpo_lab.errors import ConfigError
from synpo_lab.models import pick_device, read_config
from synpo_lab.planning.generating import generator
from synpo_lab.scorers.identity import JUDGES


def context_of(policy: str | Path, *, trust_remote_code: bool) -> int | None:
    """How many tokens the policy reads, None where its config does not say. ModelError when that cannot be read."""
    config = read_config(policy, trust_remote_code=trust_remote_code)
    context: int | None = getattr(config.get_text_config(), "max_position_embeddings", None)
    return context


def check_chat(policy: str | Path, row: tuple[str, str], *, trust_remote_code: bool) -> None:
    """Lays out one (prompt, answer) as every training will. ModelError where the policy's chat template cannot be trained on."""
    encode_examples(tokenizer_of(policy, trust_remote_code=trust_remote_code), [row])


def check_gpus(config: RunConfig) -> None:
    """Raises ConfigError where CUDA is there and a setting asks for more GPUs than this process sees."""
    here = torch.cuda.device_count()
    asked = {what: gpus for what, gpus in _gpus_asked_for(config) if gpus > here}
    if asked:
        told = ", ".join(f"{what} asks for {gpus}" for what, gpus in asked.items())
        raise ConfigError(
            f"{told} GPUs, this machine has {here}",
            hint=f"set it to {here} or less; CUDA_VISIBLE_DEVICES says which GPUs a run sees",
        )


def _gpus_asked_for(config: RunConfig) -> Iterator[tuple[str, int]]:
    if _on_cuda(config.engine) and config.training.processes > 1:
        yield "training.processes", config.training.processes
    engines = {"engine": config.engine}
    if config.scorer.name in JUDGES:
        engines["scorer.judge.engine"] = config.scorer.judge.engine
    for name, engine in engines.items():
        made = generator(engine)
        if made.vllm and engine.kind != "ray" and _on_cuda(engine):  # a cluster counts its own
            yield f"{name}.vllm.tensor_parallel x data_parallel", int(made.gpus)


def _on_cuda(engine: EngineConfig) -> bool:
    return pick_device(engine.device).type == "cuda"


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
