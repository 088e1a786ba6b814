"""What a recipe has to generate and to train on, in tokens, and how long a GPU takes for that.

Generation is a roofline: a step of decoding reads all weights and the keys and values of every answer at work, and
computes 2 operations per parameter and answer; it takes the longer of the two (Pope et al. 2022, arXiv 2211.05102).
Training takes 6 operations per parameter and token, 8 when activations are made again (Kaplan et al. 2020, arXiv
2001.08361, section 2.1), 4 and 6 where the base is frozen.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from synpo_lab.config import EngineConfig, RunConfig, TrainerConfig
from synpo_lab.planning.generating import generator
from synpo_lab.planning.gpus import Gpu
from synpo_lab.planning.memory import GIB, answers_together, checkpoints_activations
from synpo_lab.planning.shapes import Shape, scorer_parameters

TRAIN_UTILISATION = 0.4  # of the GPU's peak, while training
PREFILL_UTILISATION = 0.4
DECODE_EFFICIENCY, VLLM_DECODE_EFFICIENCY = 0.2, 0.6  # of the roofline


@dataclass(frozen=True, slots=True)
class Lengths:
    """Mean tokens. `told` says where they come from."""

    prompt: float
    answer: float
    told: str


@dataclass(frozen=True, slots=True)
class Generate:
    """`answers` texts of `made` tokens each, after `read` tokens of prompt each."""

    stage: str
    answers: float
    read: float
    made: float
    remote: bool = False  # M_0 behind a server: not this GPU's time


@dataclass(frozen=True, slots=True)
class Train:
    """`tokens` seen by a training of these settings, all epochs and all members of a grid together."""

    stage: str
    tokens: float
    config: TrainerConfig
    sides: int  # 1: SFT, 2: pairs


@dataclass(frozen=True, slots=True)
class Read:
    """`tokens` that the scorer's model reads."""

    stage: str
    tokens: float


Work = Generate | Train | Read


def once(config: RunConfig, seeds: int, lengths: Lengths) -> Iterator[Work]:
    """Before the first iteration: M_0 on the evaluation prompts is part of each iteration's evaluation."""
    row = lengths.prompt + lengths.answer
    if config.recipe in {"synpo", "sampling-ranking"}:
        target = row if config.prompts.target == "prompt_and_solution" else lengths.prompt
        tokens = seeds * (20 + target) * config.prompts.train.epochs
        yield Train("train the prompt generator G", tokens, config.prompts.train, 1)
    if config.recipe == "seed-sft":
        yield Train("SFT on the seeds", seeds * row * config.sft.epochs, config.sft, 1)


def of_iteration(config: RunConfig, t: int, seeds: int, lengths: Lengths) -> Iterator[Work]:
    """Iteration t, in the order in which it is done. Every prompt the generator writes is taken to be usable."""
    if config.recipe == "synpo":
        yield from _synpo(config, t, seeds, lengths)
    elif config.recipe == "sampling-ranking":
        yield _prompts(config, lengths)
        n = config.prompts.per_iteration * config.samples.n
        yield Generate(f"sample {config.samples.n} answers", n, lengths.prompt, lengths.answer)
    elif config.recipe == "seed-simpo":
        yield Generate("answer the seeds with M_0", seeds, lengths.prompt, lengths.answer, _remote(config, 1))
    if config.recipe != "seed-sft":
        yield Read("score", _answers_scored(config, seeds) * (lengths.prompt + lengths.answer))
        yield _preferences(config, t, seeds, lengths)
        yield Generate("choose beta on the seeds", _tested(config, seeds), lengths.prompt, lengths.answer)


def _synpo(config: RunConfig, t: int, seeds: int, lengths: Lengths) -> Iterator[Work]:
    prompts, both = config.prompts.per_iteration, lengths.prompt + 2 * lengths.answer
    if config.improver.enabled:
        drafts = seeds * config.improver.drafts_per_seed
        yield Generate("draft the seeds", drafts, lengths.prompt, lengths.answer, _remote(config, t))
        tokens = drafts * both * config.improver.train.epochs
        yield Train(f"train the improver R_{t}", tokens, config.improver.train, 1)
    yield _prompts(config, lengths)
    yield Generate("answer with M_0", prompts, lengths.prompt, lengths.answer, _remote(config, 1))
    yield Generate(f"draft with M_{t - 1}", prompts, lengths.prompt, lengths.answer, _remote(config, t))
    if config.improver.enabled:
        yield Generate("improve", prompts, lengths.prompt + lengths.answer, lengths.answer)


def _prompts(config: RunConfig, lengths: Lengths) -> Generate:
    """Whatever G learnt to write, it is stopped where the prompt ends."""
    return Generate("write prompts", config.prompts.per_iteration, 20, lengths.prompt)


def _preferences(config: RunConfig, t: int, seeds: int, lengths: Lengths) -> Train:
    rounds = t if config.pool.mode == "append" else 1
    each = (
        seeds if config.recipe == "seed-simpo" else min(config.pool.pairs_per_iteration, config.prompts.per_iteration)
    )
    tokens = rounds * each * 2 * (lengths.prompt + lengths.answer) * config.simpo.epochs * len(config.simpo.betas)
    kind = {"simpo": "SimPO", "dpo": "DPO", "ipo": "IPO", "orpo": "ORPO"}[config.simpo.kind]
    return Train(f"{kind}, {len(config.simpo.betas)} betas", tokens, config.simpo, 2)


def _answers_scored(config: RunConfig, seeds: int) -> float:
    """Of one iteration: all that is drafted and improved, and the validation answers of every beta. A ranker reads twice."""
    prompts = config.prompts.per_iteration
    made = {
        "synpo": 3 * prompts + seeds * (1 + config.improver.drafts_per_seed),
        "sampling-ranking": config.samples.n * prompts,
    }.get(config.recipe, 2 * seeds)
    return (made + _tested(config, seeds)) * (2 if config.scorer.name in {"pairwise", "pairwise-judge"} else 1)


def _tested(config: RunConfig, seeds: int) -> float:
    """Answers to the validation seeds. A race asks every beta twice, of which it is taken to stop none."""
    asked = min(seeds * (config.validation.share or 1.0), config.validation.limit or seeds)
    betas = len(config.simpo.betas)
    return asked * config.validation.samples * betas * (2 if config.simpo.race and betas > 1 else 1)


def _remote(config: RunConfig, t: int) -> bool:
    """Whether a server answers for M_{t-1}: only M_0 is there."""
    return config.engine.kind == "openai" and t == 1


def seconds(work: Work, shape: Shape, config: RunConfig, gpu: Gpu) -> float:
    """On as many such GPUs as the config gives trainings and the engine; scoring on one; a server's work takes none."""
    if isinstance(work, Train):
        operations = work.tokens * shape.parameters * _operations(shape, work.config)
        return operations / (TRAIN_UTILISATION * gpu.tflops * 1e12) / config.training.processes
    if isinstance(work, Read):
        return 2 * work.tokens * scorer_parameters(config) / (PREFILL_UTILISATION * gpu.tflops * 1e12)
    return 0.0 if work.remote else _generating(work, shape, config.engine, gpu)


def _operations(shape: Shape, config: TrainerConfig) -> int:
    return (4 if config.lora.r else 6) + (2 if checkpoints_activations(shape, config) else 0)


def _generating(work: Generate, shape: Shape, engine: EngineConfig, gpu: Gpu) -> float:
    by = generator(engine)
    together = answers_together(shape, by, int(work.read + work.made), gpu.memory_gib * GIB)
    held = 2 * shape.cache_per_token * (work.read + work.made / 2) * together
    reading = (2 * shape.parameters + held) / (gpu.bandwidth * 1e9)
    computing = 2 * shape.parameters * together / (gpu.tflops * 1e12)
    step = max(reading, computing) / (VLLM_DECODE_EFFICIENCY if by.vllm else DECODE_EFFICIENCY)
    prefill = 2 * shape.parameters * work.read / (PREFILL_UTILISATION * gpu.tflops * 1e12)
    return work.answers * (work.made * step / together + prefill) / by.gpus
