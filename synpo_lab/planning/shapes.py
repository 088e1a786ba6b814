"""The shape of a model, read from its folder's config without loading it; no torch."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synpo_lab.config import RunConfig
from synpo_lab.errors import ModelError

HUB = "hub:"


@dataclass(frozen=True, slots=True)
class Shape:
    """What memory and time depend on."""

    name: str
    parameters: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    context: int  # tokens
    adapted: int = (
        0  # sum over the linear layers of (inputs + outputs): a LoRA of rank r has r times as many parameters
    )

    @property
    def cache_per_token(self) -> int:
        """Numbers (keys and values) that generation keeps per token."""
        return 2 * self.layers * self.kv_heads * self.head_size


# Models the starting configs name, so that a plan needs no network: each as its config.json has it.
KNOWN: dict[str, dict[str, Any]] = {
    "Qwen/Qwen2.5-0.5B-Instruct": {
        "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "intermediate_size": 4864,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "tie_word_embeddings": True,
        "max_position_embeddings": 32768,
    },
    "princeton-nlp/Llama-3-Base-8B-SFT": {
        "model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192,
    },
    "alignment-handbook/zephyr-7b-sft-full": {
        "model_type": "mistral", "hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "max_position_embeddings": 32768,
    },
}  # fmt: skip


SCORERS = {  # parameters by their model cards
    "RLHFlow/ArmoRM-Llama3-8B-v0.1": 7_510_000_000,
    "Skywork/Skywork-Reward-V2-Qwen3-0.6B": 600_000_000,
    "llm-blender/PairRM-hf": 436_000_000,
}
OWN_MODEL = {"reward-model", "multi-objective", "pairwise", "implicit", "judge", "pairwise-judge"}


def scorer_parameters(config: RunConfig) -> int:
    """How many numbers the scorer's model has on this machine's GPU; 0 where there is none, or it cannot be told offline."""
    scorer = config.scorer
    served = scorer.judge.engine.kind == "openai" and scorer.name in {"judge", "pairwise-judge"}
    if scorer.name not in OWN_MODEL or served or not scorer.model:
        return 0
    name = scorer.model.removeprefix(HUB)
    if name in SCORERS or name in KNOWN:
        return SCORERS.get(name) or _shape(name, KNOWN[name], None).parameters
    return _stored(Path(scorer.model).expanduser()) or 0


def shape_of(policy: str) -> Shape:
    """The shape of 'pocket', a model folder, or 'hub:OWNER/NAME' (its config alone is fetched, unless known here).

    Raises ModelError when there is no config, or it is of no language model we can read.
    """
    if policy == "pocket":
        from synpo_lab.pocket import resolve_policy

        return _of_folder("pocket", Path(resolve_policy(policy)))
    if policy.startswith(HUB):
        name = policy.removeprefix(HUB)
        return _shape(name, KNOWN.get(name) or _fetched(name), None)
    return _of_folder(policy, Path(policy).expanduser())


def _of_folder(name: str, folder: Path) -> Shape:
    return _shape(name, _read(folder / "config.json", name), _stored(folder))


def _fetched(name: str) -> dict[str, Any]:
    from huggingface_hub import hf_hub_download

    try:
        path = hf_hub_download(name, "config.json")
    except Exception as error:  # of many libraries: the network, the Hub's answers, the name, the cache
        raise ModelError(
            f"the config of {name} cannot be fetched: {type(error).__name__}: {error}",
            hint="look at the name and the network, or download the model and give its folder",
        ) from error
    return _read(Path(path), name)


def _read(path: Path, name: str) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(
            f"{name} has no readable config.json: {error.strerror}", hint="give a model folder or hub:OWNER/NAME"
        ) from None
    except ValueError as error:
        raise ModelError(f"the config.json of {name} is not JSON: {error}", hint="fetch the model again") from None
    return config.get("text_config") or config


def _shape(name: str, config: dict[str, Any], stored: int | None) -> Shape:
    try:
        hidden, layers, heads = (
            int(config[key]) for key in ("hidden_size", "num_hidden_layers", "num_attention_heads")
        )
        inner, vocabulary = int(config["intermediate_size"]), int(config["vocab_size"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"the config of {name} is of no language model a plan can be made for: {error} is missing",
            hint="plans know Llama, Mistral, Qwen, Gemma, Phi and others with the same config keys",
        ) from None
    kv_heads = int(config.get("num_key_value_heads") or heads)
    size = int(config.get("head_dim") or hidden // heads)
    attention, pairs = [(hidden, heads * size), (heads * size, hidden)], [(hidden, kv_heads * size)] * 2
    linear = [*attention, *pairs, (hidden, inner), (hidden, inner), (inner, hidden)]
    copies = 1 if config.get("tie_word_embeddings") else 2
    biases = (heads + 2 * kv_heads) * size if config.get("model_type") == "qwen2" or config.get("attention_bias") else 0
    block = sum(rows * columns for rows, columns in linear) + biases + 2 * hidden
    counted = copies * vocabulary * hidden + layers * block + hidden
    return Shape(
        name=name,
        parameters=stored or counted,
        layers=layers,
        hidden=hidden,
        intermediate=inner,
        heads=heads,
        kv_heads=kv_heads,
        head_size=size,
        vocabulary=vocabulary,
        context=int(config.get("max_position_embeddings") or 2048),
        adapted=layers * sum(rows + columns for rows, columns in linear),
    )


def _stored(folder: Path) -> int | None:
    """The numbers in the folder's safetensors, from their headers; None without any (an old format)."""
    files = sorted(folder.glob("*.safetensors"))
    return sum(map(_numbers, files)) or None


def _numbers(path: Path) -> int:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(min(length, 100_000_000)))
    sizes = (entry["shape"] for name, entry in header.items() if name != "__metadata__")
    return sum(_product(size) for size in sizes)


def _product(sizes: list[int]) -> int:
    made = 1
    for size in sizes:
        made *= size
    return made
