"""The run folders at a glance: what the public table `runs` shows."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from storage.errors import StorageFault
from storage.sources import RunRow
from storage.state import read_state
from storage.store import Store

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class RunFolders:
    """Reads each run's config once and its state every time."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._configs: dict[Path, tuple[tuple[int, int], dict[str, Any]]] = {}

    def rows(self) -> list[RunRow]:
        """One row per run, in the order of their ids."""
        folders = (self._store.runs_folder / run_id for run_id in self._store.runs())
        return [row for folder in folders if (row := self._row(folder)) is not None]

    def _row(self, folder: Path) -> RunRow | None:
        try:
            config = self._cached(folder / "run.yaml", _yaml)
            info = self._cached(folder / "run.json", _json)
            state, message, since = _state(folder)
        except FileNotFoundError:
            return None  # deleted since it was listed
        return RunRow(
            run_id=folder.name,
            title=_text(config.get("title") or info.get("title")),
            recipe=_text(config.get("recipe") or info.get("recipe")),
            state=state,
            message=message,
            created_at=_seconds(info.get("created_at"), folder),
            since=since,
            policy=_text(config.get("policy")),
            scorer=_scorer(config),
            seed=_whole(config.get("seed")),
            iterations=_whole(config.get("iterations")),
            config=json.dumps(config, default=str),
        )

    def _cached(self, path: Path, parse: Any) -> dict[str, Any]:
        try:
            stat = path.stat()
        except FileNotFoundError:
            return {}
        stamp = (stat.st_mtime_ns, stat.st_size)
        if path not in self._configs or self._configs[path][0] != stamp:
            self._configs[path] = (stamp, parse(path.read_text(encoding="utf-8", errors="replace")))
        return self._configs[path][1]


def _yaml(text: str) -> dict[str, Any]:
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError:
        return {}
    return value if isinstance(value, dict) else {}


def _json(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _state(folder: Path) -> tuple[str, str, float]:
    try:
        state = read_state(folder)
    except StorageFault as fault:
        return "failed", fault.message, folder.stat().st_mtime
    return state.state, state.message, state.since


def _inside(config: dict[str, Any], *path: str) -> Any:
    node: Any = config
    for name in path:
        node = node.get(name) if isinstance(node, dict) else None
    return node


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _scorer(config: dict[str, Any]) -> str:
    """The scorer's name, and its model's where it has one: "reward-model:Skywork/Reward-V2@abc1234"."""
    said = _inside(config, "scorer")
    if not isinstance(said, dict):
        return ""
    name, model = (
        _text(said.get("name")),
        _text(said.get("model") or _inside(said, "judge", "engine", "openai", "model")),
    )
    if not model or not name:
        return name
    is_hub = model.startswith("hub:")
    short = model.removeprefix("hub:") if is_hub else Path(model).name if Path(model).is_absolute() else model
    revision = f"@{said['revision']}" if is_hub and said.get("revision") else ""
    return f"{name}:{short}{revision}"


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else None


def _seconds(value: Any, folder: Path) -> float:
    if isinstance(value, int | float):
        return float(value)
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        return folder.stat().st_mtime
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
