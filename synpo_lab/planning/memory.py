"""What a stage holds in GPU memory, part by part, each with the reason for its size. All sizes in bytes."""

from collections.abc import Sequence
from dataclasses import dataclass

from synpo_lab.config import EngineConfig, TrainerConfig, TrainingConfig
from synpo_lab.planning.generating import Generator, generator
from synpo_lab.planning.shapes import Shape

GIB = 2**30
SMALL_FOR_CHECKPOINTING = 500_000_000  # parameters, as in training
TILE = 2 * 4 * (1 << 26)  # one tile of logits forward and one backward, float32 (see logps.py)
OVERHEAD = 1.2 * GIB  # CUDA context, workspaces, fragments
NF4 = 0.53  # bytes per parameter: 4 bits and the constants of their blocks (QLoRA, arXiv 2305.14314, section 3)


@dataclass(frozen=True, slots=True)
class Part:
    what: str
    bytes: float
    why: str


def total(parts: Sequence[Part]) -> float:
    return sum(part.bytes for part in parts)


def trainable(shape: Shape, config: TrainerConfig) -> int:
    """Parameters that learn: all, or a LoRA's r x (inputs + outputs) per linear layer."""
    return config.lora.r * shape.adapted if config.lora.r else shape.parameters


def training(
    shape: Shape, config: TrainerConfig, how: TrainingConfig, *, sides: int, reference: bool = False
) -> list[Part]:
    """One of the processes that train on CUDA. `sides`: answers per row, 1 for SFT, 2 for pairs."""
    rows = (
        max(1, (config.micro_batch_size or config.batch_size) // (1 if config.micro_batch_size else how.processes))
        * sides
    )
    tokens = rows * min(config.max_length, shape.context)
    return [
        *_shared(_weights(shape, config), how, {"fsdp"}),
        *_shared(_learning(shape, config), how, {"fsdp", "zero2"}),
        _activations(shape, config, tokens, rows),
        Part(
            "log-probs", TILE, "one tile of logits forward and backward; the whole [rows, tokens, words] is never held"
        ),
        *([_reference(shape)] if reference else []),
        Part("overhead", OVERHEAD, "CUDA context, workspaces, fragments"),
    ]


def loading(shape: Shape, config: TrainerConfig, how: TrainingConfig) -> list[Part]:
    """What each GPU holds before FSDP has sharded the weights: every process reads the model and moves all of it there."""
    whole, *_ = _weights(shape, config)
    return [
        Part(
            "weights",
            whole.bytes,
            f"{whole.why}: whole on each GPU, and in main memory {how.processes} times, at first",
        ),
        Part("shard", whole.bytes / how.processes, f"a {how.processes}th, made while the whole is still there"),
        Part("overhead", OVERHEAD, "CUDA context, workspaces"),
    ]


def generation(shape: Shape, config: EngineConfig, context: int, gpu_bytes: float) -> list[Part]:
    """On one GPU of an engine that answers with up to `context` tokens of prompt and answer."""
    by = generator(config)
    told = f"bfloat16, a {by.shards}th on each GPU (tensor_parallel)" if by.shards > 1 else "bfloat16"
    weights = Part("weights", 2 * shape.parameters / by.shards, told)
    if by.vllm:
        kept = max(0.0, by.share * gpu_bytes - weights.bytes - OVERHEAD)
        why = f"vLLM takes {by.share:.0%} of the GPU; what weights leave of it holds keys and values"
        return [weights, Part("keys and values", kept, why), Part("overhead", OVERHEAD, "CUDA context, workspaces")]
    per_answer = 2 * shape.cache_per_token * context
    together = answers_together(shape, by, context, gpu_bytes)
    why = f"{together} answers of {context} tokens, {per_answer / 2**20:.0f} MiB each"
    kept = together * per_answer
    return [weights, Part("keys and values", kept, why), Part("overhead", OVERHEAD, "CUDA context, workspaces")]


def scoring(parameters: int) -> list[Part]:
    """The scorer's model while it reads; policies are unloaded meanwhile."""
    return [
        Part("weights", 2 * parameters, "bfloat16"),
        Part("overhead", OVERHEAD, "CUDA context, workspaces, a batch (halved where it does not fit)"),
    ]


def answers_together(shape: Shape, by: Generator, context: int, gpu_bytes: float) -> int:
    """How many answers are decoded at once over one copy: what memory holds, and no more than the config says. At least 1."""
    free = by.shards * (by.share * gpu_bytes - OVERHEAD) - 2 * shape.parameters
    fits = int(free // max(1, 2 * shape.cache_per_token * context))
    return max(1, min(fits, by.most))


def checkpoints_activations(shape: Shape, config: TrainerConfig) -> bool:
    """Whether activations are made again in the backward pass, as training decides it on CUDA."""
    if config.gradient_checkpointing is not None:
        return config.gradient_checkpointing
    return shape.parameters >= SMALL_FOR_CHECKPOINTING


def _shared(parts: list[Part], how: TrainingConfig, by: set[str]) -> list[Part]:
    """What FSDP or DeepSpeed ZeRO-2 spreads over the processes (arXiv 1910.02054); a config file of one's own: taken whole."""
    if how.accelerate not in by or how.processes == 1:
        return parts
    told = f", a {how.processes}th on each GPU ({how.accelerate})"
    return [Part(part.what, part.bytes / how.processes, part.why + told) for part in parts]


def _weights(shape: Shape, config: TrainerConfig) -> list[Part]:
    if config.lora.r and config.lora.quantize == "4bit":
        return [Part("weights", NF4 * shape.parameters, "the frozen base in 4-bit NormalFloat")]
    if config.lora.r and config.dtype == "auto":
        return [Part("weights", 2 * shape.parameters, "the frozen base in bfloat16, as stored")]
    if config.dtype == "bfloat16":
        return [Part("weights", 2 * shape.parameters, "bfloat16")]
    copies = Part("weights in bfloat16", 2 * shape.parameters, "what autocast keeps of them during a step")
    return [Part("weights", 4 * shape.parameters, "float32"), copies]


def _learning(shape: Shape, config: TrainerConfig) -> list[Part]:
    count = trainable(shape, config)
    size = 2 if config.dtype == "bfloat16" and not config.lora.r else 4
    whose = f"a LoRA of rank {config.lora.r} has {count:,}" if config.lora.r else f"all {count:,} parameters learn"
    return [
        Part("gradients", size * count, whose),
        Part("optimiser", 2 * size * count, "AdamW keeps two numbers per parameter that learns"),
    ]


def _activations(shape: Shape, config: TrainerConfig, tokens: int, rows: int) -> Part:
    # Korthikanti et al. 2022 (arXiv 2205.05198), eq. 1, without its attention term: fused attention keeps no scores.
    block = 34 * shape.hidden * tokens
    told = f"{rows} sequences of up to {tokens // rows} tokens"
    if checkpoints_activations(shape, config):
        kept = 2 * shape.hidden * tokens * shape.layers
        return Part("activations", kept + block, f"{told}: each layer's input, and one layer in full (checkpointing)")
    return Part(
        "activations", shape.layers * block, f"{told}: 34 bytes x hidden size, in each of {shape.layers} layers"
    )


def _reference(shape: Shape) -> Part:
    return Part("reference", 2 * shape.parameters, "its log-probs are made once, before training, in bfloat16")
