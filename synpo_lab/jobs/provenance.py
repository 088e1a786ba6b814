"""What a run's folder says of its origin: the config it was given, and what it takes to run it again."""

import hashlib
import json
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from storage import RunStore
from synpo_lab.config import RunConfig, load
from synpo_lab.errors import StorageError

PACKAGES = ("synpo-lab", "torch", "transformers", "trl", "accelerate", "peft", "datasets", "pyarrow", "duckdb", "vllm")
ROOT = Path(__file__).parents[2]


def provenance(config: RunConfig) -> dict[str, Any]:
    """The run.json of a new run: names, versions and code, found without importing any of them."""
    return {
        "recipe": config.recipe,
        "title": config.title,
        "iterations": config.iterations,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "code": {"source": source_hash(), "commit": _commit()},
    }


def stored_config(run: RunStore) -> RunConfig:
    """The run's own config. ConfigError when it is of another version of the lab, or was edited badly."""
    return load(run.folder / "run.yaml")


def stored_info(run: RunStore) -> dict[str, Any]:
    """The run's run.json."""
    path = run.folder / "run.json"
    try:
        info: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(
            f"{path} cannot be read: {error}", hint="the run's folder is damaged: copy it again"
        ) from None
    return info


def source_hash() -> str:
    """12 hex digits that change with any line of the code that makes runs."""
    digest = hashlib.sha256()
    for path in sorted(path for part in ("synpo_lab", "storage") for path in (ROOT / part).rglob("*.py")):
        digest.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    if not (ROOT / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
