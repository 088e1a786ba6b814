"""`synpo-lab config`: the built-in configs, and every key with its meaning."""

import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import typer
from pydantic import BaseModel

from synpo_lab import config
from synpo_lab.cli.output import AsJson, print_json, print_table
from synpo_lab.config import RunConfig


def show(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A built-in config or a YAML file.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Every key with its default and meaning.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print a config with every key filled in, the names of the built-in ones, or the schema."""
    if schema:
        print_json(RunConfig.model_json_schema()) if as_json else print_table(list(schema_rows(RunConfig)))
    elif name is None:
        print_json(config.builtin_names()) if as_json else typer.echo("\n".join(config.builtin_names()))
    else:
        loaded = config.load(name)
        print_json(loaded.model_dump(mode="json")) if as_json else typer.echo(loaded.to_yaml(), nl=False)


def schema_rows(section: type[BaseModel], prefix: str = "") -> Iterator[dict[str, str]]:
    """One row per key, sections opened: key, type, default, meaning."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from schema_rows(field.annotation, f"{prefix}{name}.")
        else:
            default = "" if field.is_required() else _as_yaml(field.get_default(call_default_factory=True))
            meaning = field.description or ""
            yield {"key": prefix + name, "type": _type(field.annotation), "default": default, "meaning": meaning}


def _type(annotation: Any) -> str:
    if typing.get_origin(annotation) is Literal:
        return " | ".join(typing.get_args(annotation))
    if typing.get_origin(annotation) in {types.UnionType, typing.Union}:
        return " | ".join("none" if part is type(None) else _type(part) for part in typing.get_args(annotation))
    if typing.get_origin(annotation) is list:
        return f"list of {_type(typing.get_args(annotation)[0])}"
    name: str = annotation.__name__
    return {"str": "text", "bool": "true | false"}.get(name, name)


def _as_yaml(value: Any) -> str:
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)
