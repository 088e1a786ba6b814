"""What the playground and its worker say to each other: one JSON document a line.

To the worker: an Ask, or {"cancel": id}. From it: a Reply. Nothing else passes, and nothing of it is ever executed.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Model:
    """One model to load: what it is called, where its weights are, and the config's `engine` section for it."""

    name: str  # "M_2", "R_1", "G"
    weights: str  # a folder or hub:OWNER/NAME
    engine: dict[str, Any] = field(default_factory=dict)
    trust_remote_code: bool = False
    initial: bool = False  # M_0, which a server may hold


@dataclass(frozen=True, slots=True)
class Ask:
    """One answer wanted. With the same `key` and `seed` two models draw from the same random stream."""

    id: int
    model: Model
    prompt: str
    key: str
    sampling: dict[str, Any]
    seed: int
    history: tuple[tuple[str, str], ...] = ()  # (user, model) turns before the prompt
    stop: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What became of an Ask: an answer, an error with its hint, or cancelled."""

    id: int
    text: str = ""
    n_tokens: int = 0
    finish_reason: str = ""  # stop, length, error, cancelled
    seconds: float = 0.0  # of generation, the load not counted
    loaded: float = 0.0  # seconds the load took, 0 where the model was there
    error: str = ""
    hint: str = ""


def line_of(value: Ask | Reply) -> str:
    return json.dumps(asdict(value), ensure_ascii=True) + "\n"


def ask_of(told: dict[str, Any]) -> Ask:
    history = tuple((str(asked), str(said)) for asked, said in told.get("history", ()))
    return Ask(**(told | {"model": Model(**told["model"]), "history": history}))


def reply_of(line: str) -> Reply:
    """Raises ValueError for a line that is none."""
    told = json.loads(line)
    known = {one.name for one in fields(Reply)}
    if not isinstance(told, dict) or "id" not in told or not set(told) <= known:
        raise ValueError(f"no reply: {line[:200]}")
    return Reply(**told)
