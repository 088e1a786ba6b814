"""From a built-in name, a YAML file and `--set key=value` to a RunConfig; every wrong key is told at once."""

import difflib
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from synpo_lab.config.run import RunConfig
from synpo_lab.errors import ConfigError


def load(source: str | Path, overrides: list[str] | None = None) -> RunConfig:
    """The config named `source` (a built-in name or a YAML file) with `key.path=value` overrides applied.

    Raises ConfigError naming every wrong key at once.
    """
    data = _read(source)
    for override in overrides or []:
        _apply(data, override)
    return parse(data, where=str(source))


def parse(data: dict[str, Any], *, where: str = "config") -> RunConfig:
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors()]
        noun = "problem" if len(lines) == 1 else "problems"
        raise ConfigError(
            f"{where}: {len(lines)} {noun}\n  " + "\n  ".join(lines),
            hint="`synpo-lab config --schema` prints every key with its meaning and default",
        ) from None


def builtin_names() -> list[str]:
    return sorted(path.stem for path in _builtin_folder().glob("*.yaml"))


def _builtin_folder() -> Path:
    return Path(__file__).parents[1] / "pocket" / "configs"


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.suffix not in {".yaml", ".yml"} and str(source) in builtin_names():
        path = _builtin_folder() / f"{source}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"no config {str(source)!r}: not a file, and not one of {', '.join(builtin_names())}",
            hint="give a YAML file or a built-in name, for example `synpo-lab run pocket`",
        )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}", hint="compare with `synpo-lab config pocket`") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds no mapping of keys to values", hint="an empty config is written `{}`")
    base = data.pop("base", None)
    return data if base is None else _merged(_read_base(base, path), data)


def _read_base(base: Any, path: Path) -> dict[str, Any]:
    if base not in builtin_names() or base == path.stem:
        raise ConfigError(
            f"{path}: base {base!r} is not a built-in config", hint=f"one of {', '.join(builtin_names())}"
        )
    return _read(base)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`under` with the values of `over`; sections are merged key by key."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override!r} is not key=value", hint="for example --set filter.min_gap=0.3")
    node = data
    *path, last = key.split(".")
    for name in path:
        child = node.setdefault(name, {})
        if not isinstance(child, dict):
            raise ConfigError(
                f"--set {override!r}: {name!r} is a value, not a section", hint="see `synpo-lab config --schema`"
            )
        node = child
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        node[last] = text


def _explain(item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    key = ".".join(path) or "config"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _keys_at(path[:-1]), n=1, cutoff=0.5)
        return f"{key}: unknown key" + (f" (did you mean {near[0]!r}?)" if near else "")
    if item["type"] == "value_error":  # ours: it says all there is to say
        return f"{key}: {item['ctx']['error']}"
    return f"{key}: {item['msg']} (got {item.get('input')!r})"


def _keys_at(path: list[str]) -> list[str]:
    model: type[BaseModel] = RunConfig
    for name in path:
        field = model.model_fields.get(name)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)
