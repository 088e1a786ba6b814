"""LoRA adapter folders: which base they stand on, and whether they can be served over it without a merge."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from synpo_lab.errors import ModelError

ADAPTER_CONFIG = "adapter_config.json"
_HUB = "hub:"


@dataclass(frozen=True, slots=True)
class Adapter:
    """A folder that peft wrote."""

    folder: Path
    base: str  # a model folder or 'hub:OWNER/NAME'
    rank: int
    plain: bool  # matrices A and B and nothing else: what engines serve side by side


def adapter_of(model: str | Path) -> Adapter | None:
    """The adapter at `model`; None when that holds a whole model. Raises ModelError for a damaged adapter_config.json."""
    folder = Path(model)
    file = folder / ADAPTER_CONFIG
    if str(model).startswith(_HUB) or not file.is_file() or (folder / "config.json").is_file():
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        base = str(config["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ModelError(
            f"{file} does not say what it adapts: {error!r}", hint="point at a folder that peft's save_pretrained wrote"
        ) from None
    return Adapter(folder, _located(base, folder), int(config.get("r") or 0), _is_plain(config))


def tokenizer_of(model: str | Path, *, trust_remote_code: bool) -> Any:
    """A model's tokenizer; an adapter's own where training saved one, else its base's."""
    from synpo_lab.models import load_tokenizer

    adapter = adapter_of(model)
    lacks_own = adapter is not None and not (adapter.folder / "tokenizer_config.json").is_file()
    return load_tokenizer(adapter.base if adapter and lacks_own else model, trust_remote_code=trust_remote_code)


def same_weights(one: str | Path, other: str | Path) -> bool:
    """Whether two names lead to the same model folder or hub model."""
    return _located(str(one), None) == _located(str(other), None)


def _located(base: str, folder: Path | None) -> str:
    if base.startswith(_HUB):
        return base
    for path in (Path(base), *([folder / base] if folder else [])):
        if path.is_dir():
            return str(path.resolve())
    return base if folder is None or base.startswith(("/", ".")) else _HUB + base


def _is_plain(config: dict[str, Any]) -> bool:
    extras = ("modules_to_save", "use_dora", "rank_pattern", "alpha_pattern", "trainable_token_indices")
    return (
        config.get("peft_type") == "LORA"
        and config.get("bias", "none") == "none"
        and not any(config.get(extra) for extra in extras)
    )
