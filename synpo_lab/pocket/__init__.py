"""The embedded default: a tiny world, its rubric and its tiny model, so that the whole loop runs on a laptop."""

from pathlib import Path

MODEL = Path(__file__).parent / "model"


def resolve_policy(policy: str) -> str | Path:
    """Where M_0's weights lie: the shipped model for "pocket", else what was given."""
    return MODEL if policy == "pocket" else policy
