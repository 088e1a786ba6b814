"""Scorers by name."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from synpo_lab.config import ScorerConfig
from synpo_lab.errors import ConfigError, LabError
from synpo_lab.scorers.base import Ranker, Scorer

GROUP = "synpo_lab.scorers"  # entry points of other packages: name -> a callable that makes a Scorer or a Ranker
OF_MODELS = {
    "reward-model": ("synpo_lab.scorers.classifiers", "RewardModel"),
    "multi-objective": ("synpo_lab.scorers.classifiers", "MultiObjectiveModel"),
    "pairwise": ("synpo_lab.scorers.pairrm", "PairRM"),
    "judge": ("synpo_lab.scorers.judge", "GradingJudge"),
    "pairwise-judge": ("synpo_lab.scorers.judge", "ComparingJudge"),
    "implicit": ("synpo_lab.scorers.implicit", "ImplicitReward"),
}
BUILT_IN = ("rubric", "length", *OF_MODELS)


def names() -> list[str]:
    """Every scorer there is, those of other packages last."""
    return [*BUILT_IN, *sorted(entry_points(group=GROUP).names)]


def open_scorer(config: ScorerConfig) -> Scorer | Ranker:
    """The scorer the config names; a model is loaded when it is first asked. ConfigError for an unknown name."""
    name = config.name
    if name == "rubric":
        from synpo_lab.pocket.rubric import RubricScorer

        return RubricScorer()
    if name == "length":
        from synpo_lab.scorers.length import LengthScorer

        return LengthScorer()
    if name in OF_MODELS:
        module, kind = OF_MODELS[name]
        make: Callable[[ScorerConfig], Scorer | Ranker] = getattr(import_module(module), kind)
        return make(config)
    found = entry_points(group=GROUP)
    if name in found.names:
        return _of_another_package(found[name])
    raise ConfigError(f"no scorer {name!r}", hint=f"scorer.name is one of {', '.join(names())}")


def _of_another_package(entry: EntryPoint) -> Scorer | Ranker:
    try:
        made: Scorer | Ranker = entry.load()()
    except LabError:
        raise
    except Exception as error:  # of code that is not ours
        raise ConfigError(
            f"scorer {entry.name!r} ({entry.value}) cannot be made: {type(error).__name__}: {error}",
            hint="mend or remove the package it comes from, or choose another scorer.name",
        ) from error
    return made
