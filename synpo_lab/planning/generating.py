"""What generates with the trained models of a run, and on how many GPUs: told by the engine's config, in one place."""

from dataclasses import dataclass

from synpo_lab.config import EngineConfig


@dataclass(frozen=True, slots=True)
class Generator:
    """Engines at work beside one another, each over a copy of the weights."""

    vllm: bool
    copies: float  # of the weights, each on GPUs of its own; engines that share one GPU count as one
    shards: int  # GPUs that share one copy
    share: float  # of a GPU's memory that weights, keys and values may take
    most: int  # answers decoded together over one copy

    @property
    def gpus(self) -> float:
        return self.copies * self.shards


def generator(engine: EngineConfig) -> Generator:
    """A server holds M_0 only: what it cannot load is generated with by engine.openai.trained; Ray's workers by ray.each."""
    ray = engine.ray if engine.kind == "ray" else None
    kind = ray.each if ray else engine.openai.trained if engine.kind == "openai" else engine.kind
    crews = max(1.0, ray.workers * min(1.0, ray.gpus)) if ray else 1.0
    if kind != "vllm":
        return Generator(False, crews, 1, 0.9, engine.batch_size or 256)
    settings = engine.vllm
    return Generator(
        True, crews * settings.data_parallel, settings.tensor_parallel, settings.gpu_memory_utilization,
        settings.max_num_seqs,
    )  # fmt: skip
