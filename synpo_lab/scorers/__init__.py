"""Scorers by name."""

from importlib.metadata import entry_points

from synpo_lab.errors import ConfigError
from synpo_lab.scorers.base import Scorer

GROUP = "synpo_lab.scorers"  # entry points of other packages: name -> a callable that makes a Scorer


def open_scorer(name: str) -> Scorer:
    """The scorer called `name`: rubric, length, or an entry point. Raises ConfigError for an unknown one."""
    if name == "rubric":
        from synpo_lab.pocket.rubric import RubricScorer

        return RubricScorer()
    if name == "length":
        from synpo_lab.scorers.length import LengthScorer

        return LengthScorer()
    found = entry_points(group=GROUP)
    if name in found.names:
        made: Scorer = found[name].load()()
        return made
    known = ", ".join(["rubric", "length", *sorted(found.names)])
    raise ConfigError(f"no scorer {name!r}", hint=f"scorer.name is one of {known}")
