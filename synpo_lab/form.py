"""The launch form: which keys of a run's config it offers, as what kind of field, and how the YAML beside it follows.

The YAML text is the config; the fields are a view of it. So whatever is typed in either is kept, valid or not, until
`config_of` is asked for the config itself.
"""

import types
import typing
from dataclasses import dataclass
from typing import Any, Literal

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from synpo_lab.config import RunConfig, parse
from synpo_lab.errors import ConfigError
from synpo_lab.yaml_text import to_yaml

Kind = Literal["text", "whole", "number", "choice", "switch", "numbers"]

COMMON = (
    "title",
    "recipe",
    "iterations",
    "seed",
    "prompts.per_iteration",
    "filter.min_gap",
    "pool.pairs_per_iteration",
    "pool.mode",
    "pairing.rejected",
    "improver.enabled",
    "simpo.betas",
    "simpo.gamma",
    "simpo.learning_rate",
    "simpo.epochs",
    "simpo.start",
    "policy",
)


@dataclass(frozen=True, slots=True)
class Field:
    """One key as a form shows it. Bounds are the schema's, None where it has none."""

    key: str
    kind: Kind
    meaning: str
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


def fields(keys: tuple[str, ...] = COMMON) -> list[Field]:
    """The form's fields, made from the schema."""
    return [_field(key, _schema_of(key)) for key in keys]


def values_of(text: str, keys: tuple[str, ...] = COMMON) -> dict[str, Any]:
    """What a YAML text gives these keys, defaults filled in. Raises ConfigError when it is no valid config."""
    data = config_of(text).model_dump(mode="json")
    return {key: _inside(data, key) for key in keys}


def with_value(text: str, key: str, value: Any) -> str:
    """The YAML text with one key changed, whether or not the value is allowed. ConfigError when the text is not YAML.

    A list may be given as text: "4, 10".
    """
    data = _mapping(text)
    *path, last = key.split(".")
    node = data
    for name in path:
        child = node.get(name)
        node[name] = child if isinstance(child, dict) else {}
        node = node[name]
    node[last] = _listed(value) if _field(key, _schema_of(key)).kind == "numbers" else value
    return to_yaml(data)


def config_of(text: str) -> RunConfig:
    """The config a YAML text is. Raises ConfigError naming every wrong key at once."""
    return parse(_mapping(text), where="this config")


def _mapping(text: str) -> dict[str, Any]:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"this is not YAML: {error}", hint="compare with a built-in config") from None
    if not isinstance(data, dict):
        raise ConfigError("this holds no mapping of keys to values", hint="start from a built-in config")
    return data


def _schema_of(key: str) -> FieldInfo:
    model: type[BaseModel] = RunConfig
    *path, last = key.split(".")
    for name in path:
        section = model.model_fields[name].annotation
        assert isinstance(section, type), key
        model = section
    return model.model_fields[last]


def _field(key: str, schema: FieldInfo) -> Field:
    bounds = [part for part in schema.metadata if any(hasattr(part, name) for name in ("ge", "gt", "le", "lt"))]
    return Field(
        key=key,
        kind=_kind(schema.annotation),
        meaning=schema.description or "",
        choices=_choices(key, schema),
        minimum=next((bound for part in bounds if (bound := _bound(part, "ge", "gt")) is not None), None),
        maximum=next((bound for part in bounds if (bound := _bound(part, "le", "lt")) is not None), None),
    )


def _choices(key: str, schema: FieldInfo) -> tuple[str, ...]:
    words = typing.get_args(schema.annotation) if typing.get_origin(schema.annotation) is Literal else ()
    return tuple(word for word in words if (key, word) != ("recipe", "import"))  # that one has a page of its own


def _kind(annotation: Any) -> Kind:
    if typing.get_origin(annotation) is Literal:
        return "choice"
    if typing.get_origin(annotation) in {types.UnionType, typing.Union}:
        return _kind(next(part for part in typing.get_args(annotation) if part is not type(None)))
    if typing.get_origin(annotation) is list:
        return "numbers"
    kinds: dict[Any, Kind] = {bool: "switch", int: "whole", float: "number", str: "text"}
    return kinds[annotation]


def _bound(part: Any, *names: str) -> float | None:
    return next((getattr(part, name) for name in names if getattr(part, name, None) is not None), None)


def _inside(data: dict[str, Any], key: str) -> Any:
    node: Any = data
    for name in key.split("."):
        node = node[name]
    return ", ".join(f"{item:g}" for item in node) if isinstance(node, list) else node


def _listed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return [yaml.safe_load(part) for part in value.split(",") if part.strip()]
