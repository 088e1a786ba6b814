"""How to run exactly this again without a page: one command line, or a YAML file and a shorter one."""

import shlex
from dataclasses import dataclass
from typing import Any

from synpo_lab.config import RunConfig, builtin_names, load
from synpo_lab.yaml_text import one_line


@dataclass(frozen=True, slots=True)
class Difference:
    """One key that two configs give different values."""

    key: str  # "simpo.betas"
    one: Any
    other: Any


def differences(one: RunConfig, other: RunConfig) -> list[Difference]:
    """The keys on which two configs differ, in the schema's order. Lists are compared whole."""
    left, right = _leaves(one.model_dump(mode="json")), _leaves(other.model_dump(mode="json"))
    keys = dict.fromkeys([*left, *right])
    return [Difference(key, left.get(key), right.get(key)) for key in keys if left.get(key) != right.get(key)]


def fork_command(parent: str, iteration: int, before: RunConfig, config: RunConfig) -> str:
    """A line for a shell that makes a run of exactly this config by forking `parent`, of the config `before`, again."""
    return shlex.join(["synpo-lab", "fork", parent, "--iteration", str(iteration), *_sets(differences(before, config))])


def command(config: RunConfig, *, name: str = "", home: str | None = None) -> str:
    """A line for a shell that starts a run of exactly this config; for an import, that imports the same again as `name`."""
    words = _import(config, name) if config.recipe == "import" else _run(config)
    return shlex.join([*words, *([] if home is None else ["--home", home])])


def _run(config: RunConfig) -> list[str]:
    """From the built-in config that is nearest, every key that differs set."""
    starts = {name: differences(load(name), config) for name in builtin_names()}
    nearest = min(starts, key=lambda name: (len(starts[name]), name != "pocket", name))
    return ["synpo-lab", "run", nearest, *_sets(starts[nearest])]


def _sets(changes: list[Difference]) -> list[str]:
    return [part for found in changes for part in ("--set", f"{found.key}={one_line(found.other)}")]


def _import(config: RunConfig, name: str) -> list[str]:
    source = config.source
    mapped = [part for name, column in source.columns.items() for part in ("--map", f"{name}={column}")]
    named = ["--name", name] if name else []
    return ["synpo-lab", "import", *source.paths, "--format", source.format, *mapped, *named]


def _leaves(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every value by its dotted key. A mapping that is a value of the schema, and not a section, is opened as well."""
    found: dict[str, Any] = {}
    for name, value in data.items():
        found |= _leaves(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return found
