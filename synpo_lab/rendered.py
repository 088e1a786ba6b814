"""A prompt as the model read it, without loading a model: the model's chat template is text, and so is what it makes.

The engine applies the tokenizer's chat template (see `chat`); here the same template file is rendered the way transformers
renders it. The request itself is stored; the rendering is made again, so a template that writes the date shows today's.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

HUB = "hub:"
POCKET = Path(__file__).parent / "pocket" / "model"
_FILES = ("chat_template.jinja", "tokenizer_config.json")
_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")
LARGEST = 2_000_000  # bytes of a template file


@dataclass(frozen=True, slots=True)
class ChatFormat:
    """A model's chat template and the special tokens it may write."""

    template: str
    tokens: Mapping[str, str] = field(default_factory=dict)


def chat_format(models: Path, policy: str) -> ChatFormat | None:
    """The chat format of a run: of a model it made (all share their tokenizer), else of its policy where that is here.

    `models` is the run's folder of models. None when no template can be found on this machine.
    """
    made = sorted(models.iterdir()) if models.is_dir() else []
    found = (_read(folder) for folder in (*made, *_policy_folders(policy)))
    return next((read for read in found if read is not None), None)


def as_sent(found: ChatFormat, messages: Sequence[Mapping[str, Any]]) -> str | None:
    """What the model was given for these messages, its generation prompt included; None when the template refuses them."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals |= {"raise_exception": _refuse, "strftime_now": datetime.now().strftime}
    try:
        template = environment.from_string(found.template)
        return template.render(messages=messages, add_generation_prompt=True, **found.tokens)
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError):
        return None


def _policy_folders(policy: str) -> Iterable[Path]:
    if policy == "pocket":
        return [POCKET]
    if policy.startswith(HUB):
        return _cached(policy.removeprefix(HUB))
    return [Path(policy)] if policy else []


def _cached(name: str) -> Iterable[Path]:
    """The folder of a hub model that was downloaded before. Asks no network."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = [try_to_load_from_cache(name, file) for file in _FILES]
    except HFValidationError:
        return []
    return [Path(path).parent for path in found if isinstance(path, str)]


def _read(folder: Path) -> ChatFormat | None:
    config = _json(folder / "tokenizer_config.json")
    template = _text(folder / "chat_template.jinja") or _default(config.get("chat_template"))
    if not template:
        return None
    return ChatFormat(template, {name: text for name in _TOKENS if (text := _token(config.get(name)))})


def _default(template: Any) -> str:
    """tokenizer_config.json holds one template, or several with names."""
    if isinstance(template, list):
        named = {one.get("name"): one.get("template") for one in template if isinstance(one, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else ""


def _token(value: Any) -> str:
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else ""


def _json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(_text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.stat().st_size <= LARGEST else ""
    except (OSError, UnicodeDecodeError, ValueError):
        return ""


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)
