"""The grid of preference optimisation: one training per beta, and the best of them on the validation seeds becomes M_t.

With `simpo.race` the trainings first go a share of their way, each is validated there, and those that are clearly worse than
the leader are not trained on (a race with one rung; the comparison is paired by seed, as in Maron and Moore's Hoeffding
races, NIPS 1993, with standard errors in the place of Hoeffding's bound). What goes on is exactly what would have been
trained without a race.
"""

import os
import shutil
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from synpo_lab.errors import TrainingError
from synpo_lab.grid import clearly_worse
from synpo_lab.models import replace_folder
from synpo_lab.records import EvalResult, Pair
from synpo_lab.training.preference import train_preference
from synpo_lab.training.trainer import disk_full, optimizer_steps

if TYPE_CHECKING:
    from synpo_lab.recipes.workshop import Workshop


class BetaGrid:
    """The grid of one iteration."""

    def __init__(self, shop: "Workshop", iteration: int) -> None:
        self._shop, self._run, self._iteration = shop, shop.run, iteration
        self._config = shop.config.simpo
        self._name = f"M_{iteration}"
        self._start = "M_0" if self._config.start == "initial" else f"M_{iteration - 1}"
        self._rows: list[tuple[str, str, str]] = []
        self._steps = 0

    def choose(self, pool: Sequence[Pair]) -> dict[str, Any]:
        """Trains on `pool`, validates, and puts the best into the folder of M_t. Returns what there is to say about it."""
        self._rows = [(pair.prompt, pair.chosen, pair.rejected) for pair in pool]
        self._steps = optimizer_steps(len(pool), self._config)
        stopped = self._race()
        going_on = [beta for beta in self._config.betas if beta not in stopped]
        means = {beta: self._trained(beta) for beta in going_on}
        best = max(means, key=lambda beta: means[beta])
        _keep(self._run.model_folder(self._variant(best)), self._run.model_folder(self._name))
        validation = {f"{beta:g}": mean for beta, mean in means.items()}
        said = {"beta": best, "validation": validation, "pairs": len(self._rows)}
        return said | ({"stopped": {f"{beta:g}": why for beta, why in stopped.items()}} if stopped else {})

    def clear(self) -> None:
        """Removes the folders of all members."""
        for beta in self._config.betas:
            whole = self._run.model_folder(self._variant(beta))
            for folder in (
                whole,
                *whole.parent.glob(f"{whole.name}-step=*"),
                whole.with_name(f".{whole.name}.checkpoints"),
            ):
                shutil.rmtree(folder, ignore_errors=True)
        self._reference().unlink(missing_ok=True)

    def _trained(self, beta: float) -> float:
        """Trains one member to its end and returns its mean score on the validation seeds."""
        self._train(beta, self._variant(beta))
        return fmean(result.score_a for result in self._shop.validate(self._variant(beta), self._iteration))

    def _race(self) -> dict[float, dict[str, float]]:
        """By beta stopped early: the step, its mean score there, and how many standard errors it was behind."""
        pause = round(self._config.race * self._steps)
        if len(self._config.betas) == 1 or not 0 < pause < self._steps:
            return {}
        scores = {}
        for beta in self._config.betas:
            self._train(beta, self._paused(beta), pause)
            scores[beta] = _by_prompt(self._shop.validate(self._paused(beta), self._iteration))
        behind = clearly_worse(scores)
        for beta, errors in behind.items():
            self._run.log(
                f"{self._name}: beta {beta:g} stopped after step {pause} of {self._steps}, {errors:.1f} standard errors "
                "behind the best on the seeds"
            )
        return {
            beta: {"step": pause, "mean": fmean(scores[beta].values()), "behind": errors}
            for beta, errors in behind.items()
        }

    def _train(self, beta: float, name: str, pause: int | None = None) -> None:
        training = partial(
            train_preference,
            self._shop.weights(self._start),
            self._rows,
            self._config,
            beta=beta,
            reference=self._reference(),
            pause_at=pause,
        )
        self._shop.train(
            training,
            name,
            self._iteration,
            "policy",
            pause or self._steps,
            {"pairs": len(self._rows), "start": self._start, "beta": beta},
            variant=f"beta={beta:g}",
            checkpoints=f".{self._variant(beta)}.checkpoints",
        )

    def _variant(self, beta: float) -> str:
        return f"{self._name}-beta={beta:g}"

    def _paused(self, beta: float) -> str:
        return f"{self._variant(beta)}-step={round(self._config.race * self._steps)}"

    def _reference(self) -> Path:
        return self._run.model_folder(f".{self._name}.reference.safetensors")


def _by_prompt(results: Sequence[EvalResult]) -> dict[str, float]:
    """Mean score of the policy's answers to each prompt."""
    scores = defaultdict[str, list[float]](list)
    for result in results:
        scores[result.prompt_id].append(result.score_a)
    return {prompt_id: fmean(found) for prompt_id, found in scores.items()}


def _keep(variant: Path, folder: Path) -> None:
    """`folder` becomes the variant, by hard links where the disk can: a crash in between leaves the variant whole."""
    draft = folder.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        shutil.copytree(variant, draft, copy_function=_link_or_copy)
        replace_folder(draft, folder)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        if not disk_full(error):
            raise
        raise TrainingError(
            f"the disk of {folder} is full", hint="free some space and resume: the trained betas are kept"
        ) from error


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
