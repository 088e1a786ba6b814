"""A run that goes on from another's iteration as if its filter had been different.

A fork at iteration T begins with all the other run made up to T's pairs: texts, scores, pairs, trained models and what
earlier trainings logged. Records and weights are shared by hard links where the disk can. Of iteration T it leaves out
what came after the pairs (M_T, its answers, evaluation and log-probs), so its worker goes on from the training of M_T.

Which pairs are decided again: those M_T is trained on. When the pool appends (the paper), these are the pairs of all
iterations up to T, so what the fork keeps is what its filter says, whole; M_1 to M_{T-1} stay as the other run trained
them. When the pool replaces, they are those of iteration T.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from storage import RunStore
from storage.atomic import link_or_copy
from storage.state import NEEDS_WORKER, read_state
from synpo_lab.config import RunConfig, load
from synpo_lab.errors import RunError
from synpo_lab.home import open_home, open_store, storage_errors
from synpo_lab.jobs.launching import new_run_id, start_worker
from synpo_lab.jobs.paths import with_absolute_paths
from synpo_lab.jobs.provenance import provenance, stored_config
from synpo_lab.records import TABLES, EvalResult, Note, Pair, PairLogp, Response, Score, TrainStep
from synpo_lab.run import Run
from synpo_lab.stages.filter_pairs import filter_pairs

CHANGEABLE = (
    "title",
    "iterations",
    "filter",
    "pool",
    "simpo",
    "training",
    "engine",
    "eye",
)  # only M_T and later hear of it
_MODEL_OF = re.compile(r"(?P<what>[A-Z]+)_(?P<iteration>\d+)")


def fork(home: Path, run_id: str, iteration: int, changes: Sequence[str] = (), new_id: str | None = None) -> str:
    """Fork a run at an iteration with `changes` ("filter.min_gap=0.3"), start the fork's worker, return the fork's id.

    Raises RunError when the run is at work, is a data set, or has no complete pairs in that iteration; ConfigError for a
    change that cannot be.
    """
    run = make_fork(home, run_id, iteration, changes, new_id)
    with storage_errors():
        start_worker(run, stored_config(run))
    return run.run_id


def make_fork(
    home: Path, run_id: str, iteration: int, changes: Sequence[str] = (), new_id: str | None = None
) -> RunStore:
    """The fork's folder, whole or not at all, with nobody at work on it yet."""
    open_home(home)
    with storage_errors():
        store = open_store(home)
        parent = store.run(run_id)
        _check_can_fork(parent, iteration)
        config = _changed(parent, iteration, changes)
        redecided = forked_iterations(parent, config, iteration)
        info = provenance(config) | {"parent": _origin(parent, iteration, redecided)}
        return store.create_run(
            new_id or new_run_id(f"{config.recipe}-fork"),
            config.to_yaml(),
            info,
            lambda made: _fill(made, parent, config, iteration, redecided),
        )


def iterations_to_fork(run: RunStore) -> list[int]:
    """The iterations a run can be forked at: those whose pairs are complete."""
    found = (re.fullmatch(r"iteration=(\d+)/pairs", name) for name in run.markers())
    return sorted(int(match[1]) for match in found if match)


def forked_iterations(parent: RunStore, config: RunConfig, iteration: int) -> list[int]:
    """The iterations whose pairs a fork decides again."""
    if config.pool.mode == "replace":
        return [iteration]
    return [t for t in parent.iterations(Pair) if t <= iteration]


def _check_can_fork(parent: RunStore, iteration: int) -> None:
    run_id, state = parent.run_id, read_state(parent.folder).state
    if state in NEEDS_WORKER:
        raise RunError(
            f"run {run_id} is {state}: it can be forked once it has stopped",
            hint=f"stop it with `synpo-lab stop {run_id}`, or wait until it is finished",
        )
    if state == "imported":
        raise RunError(
            f"{run_id} is an imported data set: there is no training to go on from",
            hint="export what the filter keeps with `synpo-lab export`, and train on that",
        )
    known = iterations_to_fork(parent)
    if iteration not in known:
        there = f"they are complete in iterations: {', '.join(map(str, known))}"
        raise RunError(
            f"run {run_id} has no complete pairs in iteration {iteration}",
            hint=there if known else "a fork begins with pairs: let the run make some",
        )
    _check_models(parent, iteration)


def _check_models(parent: RunStore, iteration: int) -> None:
    trained = [name.partition("/")[2] for name in _markers_before(parent, iteration)]
    missing = [
        name for name in trained if (name == "G" or _MODEL_OF.fullmatch(name)) and not (parent.models / name).is_dir()
    ]
    if missing:
        raise RunError(
            f"run {parent.run_id} has lost the weights of {', '.join(missing)}",
            hint="put them back into its models folder, or fork at an earlier iteration",
        )


def _changed(parent: RunStore, iteration: int, changes: Sequence[str]) -> RunConfig:
    before = stored_config(parent)
    config = with_absolute_paths(load(parent.folder / "run.yaml", list(changes)))
    fixed = [
        name
        for name in RunConfig.model_fields
        if name not in CHANGEABLE and getattr(config, name) != getattr(before, name)
    ]
    if fixed:
        raise RunError(
            f"a fork cannot change {', '.join(fixed)}: what it begins with was made with it",
            hint=f"it can change {', '.join(CHANGEABLE)}; for the rest start a run with `synpo-lab run`",
        )
    if config.iterations < iteration:
        raise RunError(
            f"iterations = {config.iterations} ends before iteration {iteration}",
            hint=f"set iterations to {iteration} or more",
        )
    title = config.title if config.title != before.title else f"fork of {parent.run_id} at iteration {iteration}"
    return config.model_copy(update={"title": title})


def _origin(parent: RunStore, iteration: int, redecided: list[int]) -> dict[str, Any]:
    rules = stored_config(parent).filter.model_dump(mode="json")
    return {"run_id": parent.run_id, "iteration": iteration, "filter": rules, "decided_again": redecided}


def _fill(made: RunStore, parent: RunStore, config: RunConfig, iteration: int, redecided: list[int]) -> None:
    for name in _markers_before(parent, iteration):
        made.mark(name, parent.marker(name))
    for t in redecided:
        _decide_again(made, parent, config, t)
    for kind in TABLES.values():
        for t in parent.iterations(kind):
            if t <= iteration and not (kind is Pair and t in redecided):
                _take_over(made, parent, kind, t, whole=t < iteration)
    for folder in parent.models.iterdir():
        if _is_before(folder.name, iteration) and folder.is_dir():
            shutil.copytree(folder, made.models / folder.name, copy_function=link_or_copy)
    made.event("log", f"forked from {parent.run_id} at iteration {iteration}")


def _markers_before(run: RunStore, iteration: int) -> list[str]:
    """The names of what was complete when the pairs of the iteration were."""
    found = ((name, re.fullmatch(r"iteration=(\d+)/(.+)", name)) for name in run.markers())
    return [name for name, match in found if match and _is_step_before(int(match[1]), match[2], iteration)]


def _is_step_before(t: int, what: str, iteration: int) -> bool:
    return t < iteration or (t == iteration and (what in {"prompts", "pairs"} or what.startswith("R_")))


def _is_before(model: str, iteration: int) -> bool:
    """Whether a folder holds a finished model that was there when the pairs of the iteration were complete."""
    if model == "G":
        return True
    match = _MODEL_OF.fullmatch(model)
    return match is not None and int(match["iteration"]) < iteration + (match["what"] == "R")


def _decide_again(made: RunStore, parent: RunStore, config: RunConfig, t: int) -> None:
    decided = filter_pairs(
        parent.read(Pair, t),
        config.filter,
        at_most=config.pool.pairs_per_iteration,
        seed=Run(made, config).seed_for("pool", t),
        notes=parent.notes(Note),
    )
    made.append(decided)
    made.mark(f"iteration={t}/pairs", {"pairs": len(decided), "kept": sum(pair.kept for pair in decided)})


def _take_over(made: RunStore, parent: RunStore, kind: type, t: int, *, whole: bool) -> None:
    """The records of an iteration; of the last one only what does not come from M_T, which is trained anew."""
    if whole or kind not in _FROM_POLICY:
        return made.link(parent, kind, t)
    later = _FROM_POLICY[kind](parent, t)
    records: Iterator[Any] = parent.read(kind, t)
    made.append(record for record in records if not later(record))
    return None


Later = Callable[[Any], bool]


def _scores_of_answers(parent: RunStore, t: int) -> Later:
    answers = {made.response_id for made in parent.read(Response, t) if made.role == "eval"}
    return lambda score: score.response_id in answers


_FROM_POLICY: dict[type, Callable[[RunStore, int], Later]] = {
    Response: lambda parent, t: lambda made: made.role == "eval",
    Score: _scores_of_answers,
    TrainStep: lambda parent, t: lambda step: step.trainee == "policy",
    EvalResult: lambda parent, t: lambda result: True,
    PairLogp: lambda parent, t: lambda seen: True,
}
