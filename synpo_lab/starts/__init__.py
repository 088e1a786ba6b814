"""Configs to start from, each a commented YAML file whose first line says whom it is for."""

from pathlib import Path

from synpo_lab.errors import ConfigError

HERE = Path(__file__).parent


def starts() -> dict[str, str]:
    """What each is for, by name."""
    files = sorted(HERE.glob("*.yaml"))
    return {path.stem: path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ") for path in files}


def start_text(name: str) -> str:
    """The file's text. ConfigError with the names there are."""
    if name not in starts():
        raise ConfigError(f"no start {name!r}", hint=f"one of {', '.join(starts())}")
    return (HERE / f"{name}.yaml").read_text(encoding="utf-8")
