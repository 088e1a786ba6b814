"""What a run will take, before it starts: GPU memory, disk and hours, each with the assumption behind it.

An estimate, not a promise: memory is counted at the longest rows the config allows; time at stated shares of the GPU's
peak. Where a number is an assumption, the plan says which.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from synpo_lab.config import RunConfig, TrainerConfig
from synpo_lab.planning import memory, work
from synpo_lab.planning.gpus import Gpu
from synpo_lab.planning.memory import GIB, Part
from synpo_lab.planning.shapes import Shape, scorer_parameters, shape_of
from synpo_lab.planning.work import Lengths, Work

CHARACTERS_PER_TOKEN = 4  # English text, vocabularies of 30,000 words and more
ASSUMED_SEEDS, ASSUMED_LENGTHS = 18_000, (60.0, 350.0)  # the paper's seeds; UltraFeedback's texts
TINY = 20_000_000  # parameters
MARGIN = 0.95  # of a GPU's memory that can be counted on
LOADING = "loading, before FSDP shards"


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage's time, on as many such GPUs as the config gives it."""

    name: str
    what: str  # "generate", "train" or "score"
    tokens: float
    hours: float


@dataclass(frozen=True, slots=True)
class Holding:
    """What one kind of stage holds in GPU memory."""

    name: str
    parts: list[Part]
    fits: bool

    @property
    def gib(self) -> float:
        return memory.total(self.parts) / GIB


@dataclass(frozen=True, slots=True)
class Plan:
    policy: Shape
    gpu: Gpu
    lengths: Lengths
    seeds: int
    holdings: list[Holding]
    once: list[Stage]
    first: list[Stage]  # of the first iteration
    last: list[Stage]
    hours: float  # of the whole run
    disk_gib: float
    advice: list[str]

    @property
    def tiny(self) -> bool:
        """A model that waits for launches rather than arithmetic: its times say nothing; they are minutes anywhere."""
        return self.policy.parameters < TINY

    @property
    def fits(self) -> bool:
        return all(holding.fits for holding in self.holdings)

    @property
    def line(self) -> str:
        """The plan in one sentence."""
        largest = max(self.holdings, key=lambda holding: holding.gib)
        verdict = "fits" if self.fits else "does NOT fit"
        room = f"of {self.gpu.memory_gib:.0f} with {self.gpu.name}"
        needs = f"needs up to {largest.gib:.0f} GiB {room} ({largest.name}): {verdict}"
        time = "minutes" if self.tiny else f"about {hours_told(self.hours)}"
        return f"{self.policy.name} {needs}; {time} and {self.disk_gib:.1f} GiB of disk for the whole run"


def hours_told(hours: float) -> str:
    """For people: hours, minutes or seconds."""
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min" if hours >= 1 / 60 else f"{hours * 3600:.0f} s"


def plan(config: RunConfig, gpu: Gpu) -> Plan:
    """The plan of a run on one GPU. ModelError when the policy's shape cannot be read; reads a seeds file if there is one."""
    shape = shape_of(config.policy)
    seeds, lengths = _measured(config)
    rounds = [list(work.of_iteration(config, t, seeds, lengths)) for t in range(1, _iterations(config) + 1)]
    before = list(work.once(config, seeds, lengths))
    holdings = list(_holdings(config, shape, gpu, lengths))
    everything = [*before, *(one for each in rounds for one in each)]
    return Plan(
        policy=shape,
        gpu=gpu,
        lengths=lengths,
        seeds=seeds,
        holdings=holdings,
        once=_stages(before, shape, config, gpu),
        first=_stages(rounds[0], shape, config, gpu),
        last=_stages(rounds[-1], shape, config, gpu),
        hours=sum(work.seconds(one, shape, config, gpu) for one in everything) / 3600,
        disk_gib=_disk(config, shape, lengths) / GIB,
        advice=list(_advice(config, holdings)),
    )


def _measured(config: RunConfig) -> tuple[int, Lengths]:
    """How many seeds there are and how long their texts are; the paper's where there is no file to look at."""
    from synpo_lab.seeds import load_seeds

    if config.seeds != "pocket" and not Path(config.seeds).exists():
        count = config.seeds_limit or ASSUMED_SEEDS
        return count, Lengths(*ASSUMED_LENGTHS, f"assumed: {count:,} seeds of UltraFeedback's lengths")
    rows = load_seeds(config.seeds, config.seeds_limit)
    prompt = sum(len(prompt) for prompt, _ in rows) / len(rows) / CHARACTERS_PER_TOKEN
    answer = sum(len(gold) for _, gold in rows) / len(rows) / CHARACTERS_PER_TOKEN
    told = f"measured: {len(rows):,} seeds, at {CHARACTERS_PER_TOKEN} characters a token"
    return len(rows), Lengths(prompt, min(answer, config.draft.max_new_tokens), told)


def _stages(works: Sequence[Work], shape: Shape, config: RunConfig, gpu: Gpu) -> list[Stage]:
    return [_stage(one, work.seconds(one, shape, config, gpu)) for one in works]


def _stage(one: Work, seconds: float) -> Stage:
    if isinstance(one, work.Train):
        return Stage(one.stage, "train", one.tokens, seconds / 3600)
    if isinstance(one, work.Read):
        return Stage(one.stage, "score", one.tokens, seconds / 3600)
    return Stage(
        one.stage, "generate (on the server)" if one.remote else "generate", one.answers * one.made, seconds / 3600
    )


def _holdings(config: RunConfig, shape: Shape, gpu: Gpu, lengths: Lengths) -> Iterator[Holding]:
    held = gpu.memory_gib * GIB
    context = int(min(shape.context, 2 * lengths.prompt + lengths.answer + config.draft.max_new_tokens))
    yield _holding("generation", memory.generation(shape, config.engine, context, held), held)
    if count := scorer_parameters(config):
        yield _holding("scoring", memory.scoring(count), held)
    names = {"prompts.train": "SFT of G", "improver.train": "SFT of R", "sft": "SFT"}
    for key, trainer in config.trainings.items():
        if key in names:
            yield _holding(names[key], memory.training(shape, trainer, config.training, sides=1), held)
    if config.training.accelerate == "fsdp" and config.training.processes > 1 and config.trainings:
        loads = [memory.loading(shape, trainer, config.training) for trainer in config.trainings.values()]
        yield _holding(LOADING, max(loads, key=memory.total), held)
    if "simpo" not in config.trainings:
        return
    reference = config.simpo.kind in {"dpo", "ipo"}
    parts = memory.training(shape, config.simpo, config.training, sides=2, reference=reference)
    yield _holding("preference optimisation", parts, held)


def _holding(name: str, parts: list[Part], held: float) -> Holding:
    return Holding(name, parts, memory.total(parts) <= MARGIN * held)


def _disk(config: RunConfig, shape: Shape, lengths: Lengths) -> float:
    """Models that stay, those of a grid while it runs, the checkpoints of what is trained, and the rows."""
    trainings, rounds = config.trainings, _iterations(config)
    times = {"prompts.train": 1, "sft": 1, "improver.train": rounds, "simpo": rounds}
    kept = sum(times[name] * _stored(shape, trainer) for name, trainer in trainings.items())
    checkpoint = max(_checkpoint(shape, trainer) for trainer in trainings.values()) if trainings else 0.0
    if "simpo" in trainings:
        betas, race = len(config.simpo.betas), bool(config.simpo.race)
        kept += betas * _stored(shape, config.simpo) * (2 if race else 1)  # as paused, and at their end
        checkpoint = max(checkpoint, betas * race * _checkpoint(shape, config.simpo))  # a paused one's waits for it
    answers = config.iterations * config.prompts.per_iteration * (4 if config.recipe == "synpo" else config.samples.n)
    rows = (
        2 * answers * (lengths.prompt + lengths.answer) * CHARACTERS_PER_TOKEN / 3
    )  # zstd: about a third; pairs repeat texts
    return kept + checkpoint + rows


def _iterations(config: RunConfig) -> int:
    """The recipes on seeds have one."""
    return config.iterations if config.recipe in {"synpo", "sampling-ranking"} else 1


def _checkpoint(shape: Shape, config: TrainerConfig) -> float:
    """Weights and both of AdamW's numbers, float32."""
    return 12 * memory.trainable(shape, config)


def _stored(shape: Shape, config: TrainerConfig) -> float:
    return 4 * memory.trainable(shape, config) if config.lora.r else 2 * shape.parameters


def _advice(config: RunConfig, holdings: Sequence[Holding]) -> Iterator[str]:
    tight = {holding.name for holding in holdings if not holding.fits}
    if "generation" in tight:
        yield "generation does not fit: a smaller policy, a larger GPU, or engine.kind: openai for M_0"
    if "scoring" in tight:
        yield "the scorer does not fit: a smaller scorer.model, or a judge behind a server (scorer.judge.engine.kind: openai)"
    if LOADING in tight:
        yield (
            "FSDP loads the whole model on every GPU before it shards it, and that does not fit: dtype: bfloat16 under simpo, "
            "prompts.train and improver.train halves it; or train adapters (lora.r), or take a larger GPU"
        )
    if tight - {"generation", "scoring", LOADING}:
        trainer = config.simpo if config.recipe != "seed-sft" else config.sft
        yield from _for_training(trainer, shared=config.training.accelerate != "")


def _for_training(config: TrainerConfig, *, shared: bool) -> Iterator[str]:
    micro = config.micro_batch_size or config.batch_size
    if micro > 1:
        yield f"training does not fit: micro_batch_size {max(1, micro // 4)} in place of {micro} gives the same result"
    if not config.lora.r:
        yield "or train adapters: lora.r: 16 under simpo, prompts.train and improver.train"
    elif config.lora.quantize == "none":
        yield "or hold the frozen base in 4 bits: lora.quantize: 4bit (needs bitsandbytes)"
    if config.gradient_checkpointing is False:
        yield "or leave gradient_checkpointing to its default"
    if not config.lora.r and not shared:
        yield (
            "or several GPUs: training.processes with training.accelerate: fsdp (each loads the whole model before it is "
            "sharded)"
        )
