"""What a resume may change in a run's config: how things are computed, at any time; what is computed, while none of it is done.

A run that failed for want of memory goes on with a smaller micro batch, one whose training diverged starts that training
anew with a lower learning rate. What would leave a run half made one way and half another is refused; that is a fork.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from storage import RunStore
from synpo_lab.config import RunConfig, TrainingConfig, load
from synpo_lab.errors import RunError
from synpo_lab.jobs.paths import with_absolute_paths
from synpo_lab.jobs.provenance import stored_config, stored_info
from synpo_lab.records import EvalResult, Prompt, Trainee, TrainStep

# Who computes, on what, how fast. Every result is signed with what made it, so none of these needs to stay.
ALWAYS = ("title", "engine", "training", "eye", "scorer.batch_size", "scorer.device", "scorer.judge.engine")
ALWAYS_OF_A_TRAINING = ("micro_batch_size", "gradient_checkpointing")
_FOLDERS: dict[Trainee, str] = {"generator": "G", "improver": "R_*", "policy": "M_*"}


@dataclass(frozen=True)
class _Rule:
    """A section of the config, what was made with it (None: nothing), and the model that is trained with it."""

    section: str
    made: Callable[[RunStore], str | None]
    trainee: Trainee | None = None


def _marker(pattern: str) -> Callable[[RunStore], str | None]:
    def first(run: RunStore) -> str | None:
        found = (re.fullmatch(rf"iteration=\d+/({pattern})", name) for name in run.markers())
        return next((match[0] for match in found if match), None)

    return first


def _records(kind: type, first: int) -> Callable[[RunStore], str | None]:
    def there(run: RunStore) -> str | None:
        found = [t for t in run.iterations(kind) if t >= first]
        return f"what iteration {found[0]} has so far" if found else None

    return there


_RULES = (
    _Rule("prompts.train", _marker("G"), "generator"),
    _Rule("prompts", _records(Prompt, 1)),  # iteration 0 holds the evaluation's
    _Rule("improver", _marker(r"R_\d+"), "improver"),
    _Rule("sft", _marker("M_.*"), "policy"),
    _Rule("simpo", _marker("M_.*"), "policy"),
    _Rule("validation", _marker("M_.*")),
    *(_Rule(section, _marker("pairs")) for section in ("filter", "pool", "pairing")),
    _Rule("evaluation", _records(EvalResult, 0)),
)


def change(run: RunStore, changes: Sequence[str]) -> RunConfig:
    """Apply "key=value" changes to the config of a run nobody works on, and note them in run.json and the log.

    A training that was under way with other values, or whose checkpoint cannot be read any more, begins anew. Raises
    RunError naming each key that cannot change and what was made with it, ConfigError for a change that cannot be; then
    nothing is changed.
    """
    before = stored_config(run)
    after = with_absolute_paths(load(run.folder / "run.yaml", list(changes)))
    told = dict(_differences(before.model_dump(mode="json"), after.model_dump(mode="json")))
    _check(run, told, after)
    for trainee in {rule.trainee for key in told if (rule := _rule(key)) and rule.trainee and not _is_how(key)}:
        _begin_anew(run, trainee)
    if _shards(before.training) != _shards(after.training):
        _drop_checkpoints(run)
    if told:
        info = stored_info(run)
        run.rewrite(after.to_yaml(), info | {"changes": [*info.get("changes", []), {"at": time.time(), "set": told}]})
        said = ", ".join(f"{key}: {json.dumps(new)} instead of {json.dumps(old)}" for key, (old, new) in told.items())
        run.event("log", f"goes on with {said}")
    return after


def _differences(
    before: dict[str, Any], after: dict[str, Any], path: str = ""
) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for name in {**before, **after}:
        old, new, key = before.get(name), after.get(name), f"{path}{name}"
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{key}.")
        elif old != new:
            yield key, (old, new)


def _check(run: RunStore, told: dict[str, tuple[Any, Any]], after: RunConfig) -> None:
    refused = [f"{key}: {why}" for key in told if (why := _why_not(run, key, after))]
    if refused:
        raise RunError(
            "a resume cannot change\n  " + "\n  ".join(refused),
            hint="`synpo-lab fork RUN --iteration T --set KEY=VALUE` goes on from an iteration's pairs with another "
            "filter or training; for the rest start a run with `synpo-lab run`",
        )


def _why_not(run: RunStore, key: str, after: RunConfig) -> str | None:
    if _is_how(key):
        return None
    if key == "iterations":
        last = max([int(t) for t in re.findall(r"iteration=(\d+)/", " ".join(run.markers()))], default=0)
        return None if after.iterations >= last else f"iteration {last} is begun"
    rule = _rule(key)
    if rule is None:
        return "the whole run follows from it"
    made = rule.made(run)
    return f"{made} was made with it" if made else None


def _is_how(key: str) -> bool:
    under = any(key == section or key.startswith(f"{section}.") for section in ALWAYS)
    return under or key.rpartition(".")[2] in ALWAYS_OF_A_TRAINING


def _rule(key: str) -> _Rule | None:
    return next((rule for rule in _RULES if key.startswith(f"{rule.section}.")), None)


def _begin_anew(run: RunStore, trainee: Trainee) -> None:
    """Forget what a training had reached: none of this trainee is finished, or the change would have been refused."""
    for left in (*run.models.glob(f".{_FOLDERS[trainee]}.checkpoints"), *run.models.glob(".M_*.reference.*")):
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    run.replace(TrainStep, [step for step in run.read(TrainStep) if step.trainee != trainee])


def _shards(training: TrainingConfig) -> tuple[str, int]:
    """What the form of a checkpoint depends on; each process that holds a whole copy (DDP) reads one of any other."""
    sharded = training.accelerate if training.processes > 1 else ""
    return sharded, training.processes if sharded else 0


def _drop_checkpoints(run: RunStore) -> None:
    for folder in sorted(run.models.glob(".*.checkpoints")):
        name = folder.name.removeprefix(".").removesuffix(".checkpoints")
        if any(folder.glob("checkpoint-*")):
            run.event("log", f"{name} is trained anew: its checkpoint is of another training.accelerate or processes")
        shutil.rmtree(folder)
