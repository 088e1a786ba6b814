"""Filters by name: those everybody starts from, and those saved in a lab home as filters/<name>.yaml.

A file holds the config section it stands for, so that it can be pasted into a run's config as it is.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from storage.atomic import write_text
from synpo_lab.config import FilterConfig, parse
from synpo_lab.errors import ConfigError, DataError
from synpo_lab.home import open_home, storage_errors
from synpo_lab.yaml_text import one_line, to_yaml

NAME = re.compile(r"(?![ .-])[\w .+=-]{1,60}(?<! )")
LARGEST = 20_000  # bytes of a file
PRESETS = {  # SynPO, arXiv 2410.06961, section 3.1: tau by the scorer
    "the paper, ArmoRM": FilterConfig(min_gap=0.02),
    "the paper, PairRM": FilterConfig(min_gap=0.2),
    "no rules": FilterConfig(min_gap=None, max_repetition=None),
}


def saved(home: Path) -> list[str]:
    """The names of the filters of a lab home."""
    return sorted(path.stem for path in _folder(home).glob("*.yaml") if NAME.fullmatch(path.stem))


def read(home: Path, name: str) -> FilterConfig:
    """A filter by its name: a preset, or one saved in the lab home. DataError when there is none, or it is too large."""
    if name in PRESETS:
        return PRESETS[name]
    path = _folder(home) / f"{name}.yaml"
    if name not in saved(home):
        raise DataError(f"there is no filter {name!r}", hint=f"there are: {', '.join([*PRESETS, *saved(home)])}")
    return read_file(path)


def read_named(home: Path, named: str) -> FilterConfig:
    """A filter by its name or by a YAML file's path. Errors as `read` and `read_file`."""
    return read_file(Path(named)) if Path(named).suffix in {".yaml", ".yml"} else read(home, named)


def read_file(path: Path) -> FilterConfig:
    """The filter a YAML file holds. DataError when it cannot be read, ConfigError naming every wrong key."""
    try:
        if path.stat().st_size > LARGEST:
            raise DataError(f"{path} is too large to be a filter", hint="name the YAML of one config section `filter`")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", hint="name a YAML file") from None
    return from_yaml(text, where=str(path))


def save(home: Path, name: str, rules: FilterConfig) -> None:
    """Keep a filter under a name; the one that had it goes. DataError for a name that cannot be."""
    name = name.strip()
    if not NAME.fullmatch(name) or name in PRESETS:
        taken = "is the name of a preset" if name in PRESETS else "cannot name a filter"
        raise DataError(
            f"{name!r} {taken}", hint="use 1 to 60 letters, digits, spaces and _ . + = - and begin with a letter"
        )
    with storage_errors():
        write_text(_folder(open_home(home)) / f"{name}.yaml", as_yaml(rules))


def as_yaml(rules: FilterConfig) -> str:
    """The config section with the rules that differ from the defaults, and the two that everybody asks for."""
    return to_yaml({"filter": _told(rules)})


def from_yaml(text: str, where: str = "this filter") -> FilterConfig:
    """The filter a YAML text says, as a config section `filter` or as its keys alone. ConfigError for anything else."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not YAML: {error}", hint="write for example `filter: {min_gap: 0.3}`") from None
    if not isinstance(data, dict):
        raise ConfigError(
            f"{where} holds no mapping of keys to values", hint="write for example `filter: {min_gap: 0.3}`"
        )
    section = data["filter"] if set(data) == {"filter"} else data
    return parse({"filter": section}, where=where).filter


def changes(rules: FilterConfig) -> list[str]:
    """The filter as `--set` gives it: every key, whatever the config had before."""
    return [f"filter.{name}={one_line(value)}" for name, value in rules.model_dump(mode="json").items()]


def _told(rules: FilterConfig) -> dict[str, Any]:
    plain, said = FilterConfig().model_dump(mode="json"), rules.model_dump(mode="json")
    return {
        name: value for name, value in said.items() if value != plain[name] or name in {"min_gap", "max_repetition"}
    }


def _folder(home: Path) -> Path:
    return home / "filters"
