"""Which weights a name stands for: the commit of a hub repository, the fingerprint of a folder.

A run notes them when it begins and says so when a resume finds others: 'hub:OWNER/NAME' and a path are names, not weights.
"""

import hashlib
import json
from functools import cache
from pathlib import Path

from synpo_lab.config import RunConfig
from synpo_lab.pocket import resolve_policy
from synpo_lab.run import Run

HUB = "hub:"
TELLING = ("*.safetensors", "*.bin", "config.json", "adapter_config.json", "tokenizer*.json", "*.jinja")
MARK = "origins"


def note_origins(run: Run) -> None:
    """Mark what the run's models are. On a resume, warn of each that is another now."""
    found, before = origins(run.config), run.marker(MARK)
    if before is None:
        run.mark(MARK, found)
        return
    for key, now in found.items():
        if now != before.get(key):
            run.log(f"{key} is not what this run began with: it was {before.get(key)}, it is {now}", "warning")


def origins(config: RunConfig) -> dict[str, str]:
    """By config key, what each named model is: "OWNER/NAME@COMMIT" or "FOLDER@FINGERPRINT"."""
    models = {
        "policy": (str(resolve_policy(config.policy)), None),
        "scorer.model": (config.scorer.model, config.scorer.revision),
        "scorer.reference": (config.scorer.reference, None),
    }
    told = {key: told_of(name, revision) for key, (name, revision) in models.items() if name}
    return {key: origin for key, origin in told.items() if origin}


def told_of(model: str, revision: str | None = None) -> str | None:
    """For example "Skywork/Reward@1a2b3c4d5e6f" or "judge@1f2e3d4c"; None for what is neither on the hub nor a folder.

    A hub revision that cannot be looked up, for want of a network and of a copy here, stands for itself.
    """
    if model.startswith(HUB):
        name = model.removeprefix(HUB)
        return f"{name}@{(commit_of(name, revision) or revision or 'main')[:12]}"
    return f"{Path(model).name}@{fingerprint(Path(model))}" if Path(model).is_dir() else None


@cache
def commit_of(name: str, revision: str | None) -> str | None:
    """The commit at which a hub model's revision (None: main) is, by the Hub, or by the copy on this machine."""
    from huggingface_hub import HfApi, constants

    try:
        return HfApi().model_info(name, revision=revision, timeout=10).sha
    except Exception:  # no network, no such name, no right: whoever loads the model says which, and better
        copy = Path(constants.HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "refs", revision or "main")
        return copy.read_text(encoding="utf-8").strip() if copy.is_file() else None


def fingerprint(folder: Path) -> str:
    """Of the names, sizes, beginnings and ends of the files that make a model: enough to tell two apart. 8 hex digits."""
    files = sorted(file for pattern in TELLING for file in folder.glob(pattern))
    return short(json.dumps([(file.name, file.stat().st_size, _head(file)) for file in files]))


def short(text: str) -> str:
    """8 hex digits of a text."""
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _head(file: Path) -> str:
    with file.open("rb") as opened:
        start = opened.read(1 << 20)
        opened.seek(max(0, file.stat().st_size - (1 << 16)))
        return hashlib.sha256(start + opened.read()).hexdigest()
