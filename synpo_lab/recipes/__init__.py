"""The published methods, one file each. `get` imports only the one that is asked for."""

from collections.abc import Callable
from importlib import import_module

from synpo_lab.config import RunConfig
from synpo_lab.errors import ConfigError
from synpo_lab.run import Run

Recipe = Callable[[RunConfig, Run], None]

MODULES = {
    "synpo": "synpo_lab.recipes.synpo",
    "seed-sft": "synpo_lab.recipes.seed_sft",
    "seed-simpo": "synpo_lab.recipes.seed_simpo",
    "sampling-ranking": "synpo_lab.recipes.sampling_ranking",
    "import": "synpo_lab.recipes.import_data",
}


def get(name: str) -> Recipe:
    """The recipe's `run(config, run)`. Raises ConfigError for an unknown name."""
    if name not in MODULES:
        raise ConfigError(f"no recipe {name!r}", hint=f"recipe is one of {', '.join(MODULES)}")
    recipe: Recipe = import_module(MODULES[name]).run
    return recipe
