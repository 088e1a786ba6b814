"""Generation on the machines of a Ray cluster: actors that each hold an engine, handed a batch of requests at a time.

A worker that is lost, with its machine or without, costs time only: its batch goes to another and a new one is asked for.
Completions depend on nothing but weights, request, sampling and seed, so they come out the same. Ray Data's map_batches
would do for one pass; but its actors end with each, it reads all input first, and work given to a lost machine waits for
that machine. Here the workers stay, with their weights, from one stage to the next.
"""

import copy
import logging
import os
import platform
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from synpo_lab.config import EngineConfig, SamplingConfig
from synpo_lab.engines import INSTALL, KeptEngine, open_engine
from synpo_lab.engines.base import Check, Completion, Request, never
from synpo_lab.errors import EngineError, LabError, MissingExtra, ModelError

HUB = "hub:"
POLL_SECONDS = 0.2  # between two looks at `check`
STOP_SECONDS = 0.5  # between two looks of a worker at the stop sign
START_SECONDS = 600.0  # until one worker at least is up
LOSSES = 3  # workers that one batch may cost


class RayEngine:
    """An engine whose work is done elsewhere. See engines.base.Engine for what its methods promise."""

    def __init__(
        self, name: str, model: str | Path, config: EngineConfig, *, trust_remote_code: bool = False, adapters: int = 0
    ) -> None:
        """Joins the cluster, or starts one on this machine. EngineError when it lacks what the workers ask for."""
        ray = _imported()
        self.name, self._model, self._size = name, str(model), config.ray.batch
        started = _connect(ray, config.ray.address)
        each = config.model_copy(update={"kind": config.ray.each})
        self._crew = _Crew(ray, config, (each, trust_remote_code, adapters), started)

    def generate(
        self, requests: Iterable[Request], sampling: SamplingConfig, *, seed: int, check: Check = never
    ) -> Iterator[Completion]:
        """Completions, a batch at a time, as workers finish them."""
        yield from self._crew.done(self._batches(requests), (self.name, self._model, sampling, seed), check)

    def mean_logps(self, rows: Iterable[tuple[str, str]], *, check: Check = never) -> Iterator[float]:
        """Mean log-prob per token of each (prompt, answer), in order."""
        found: dict[int, float] = {}
        wanted = 0
        for place, value in self._crew.done(self._batches(enumerate(rows)), (self.name, self._model, None, 0), check):
            found[place] = value
            while wanted in found:
                yield found.pop(wanted)
                wanted += 1

    def beside(self, name: str, model: str | Path) -> "RayEngine":
        """An engine for another model on the same workers; they change weights, or adapters only, when they are asked to."""
        other = copy.copy(self)
        other.name, other._model = name, str(model)
        return other

    def close(self) -> None:
        """Ends the workers, and the cluster if it was started here."""
        self._crew.close()

    def _batches(self, rows: Iterable[Any]) -> Iterator[list[Any]]:
        unread = iter(rows)
        while batch := list(islice(unread, self._size)):
            yield batch


@dataclass
class _Batch:
    """Rows on their way through a worker."""

    rows: list[Any]
    losses: int = 0


class _Crew:
    """The workers of a cluster: those at rest, those at work, and those that are to come."""

    def __init__(self, ray: Any, config: EngineConfig, engine: tuple[EngineConfig, bool, int], started: bool) -> None:
        self._ray, self._wanted, self._engine, self._started = ray, config.ray, engine, started
        self._resting: deque[Any] = deque()
        self._coming: dict[Any, Any] = {}  # a worker by the promise of its first word
        self._waited_since = time.monotonic()
        self._runs = 0
        try:
            self._check_resources()
            self._stop = ray.remote(num_cpus=0, scheduling_strategy=_here(ray))(_StopSign).remote()
        except BaseException:
            self.close()
            raise

    def done(self, batches: Iterator[list[Any]], task: tuple[Any, ...], check: Check) -> Iterator[Any]:
        """Each batch's results as workers give them. One batch more than workers is read ahead."""
        self._runs += 1
        again: deque[_Batch] = deque()
        running: dict[Any, tuple[Any, _Batch]] = {}
        waiting = next(batches, None)
        try:
            while again or running or waiting is not None:
                self._call(self._wanted.workers - len(self._resting) - len(self._coming) - len(running))
                while self._resting and (again or waiting is not None):
                    batch = again.popleft() if again else _Batch(waiting or [])
                    if batch.rows is waiting:
                        waiting = next(batches, None)
                    worker = self._resting.popleft()
                    running[worker.work.remote(self._runs, task, batch.rows)] = worker, batch
                check()
                for promise in self._kept([*running, *self._coming]):
                    if promise in self._coming:
                        self._welcome(promise)
                    else:
                        yield from self._result(promise, *running.pop(promise), again)
        finally:
            if running:
                self._stop.set.remote(self._runs)
            self._resting.extend(worker for worker, _ in running.values())

    def close(self) -> None:
        for worker in (*self._resting, *self._coming.values()):
            self._ray.kill(worker)
        self._resting, self._coming = deque(), {}
        if self._started:
            self._ray.shutdown()
        self._started = False

    def _call(self, missing: int) -> None:
        """Ask the cluster for more workers."""
        options = {"num_cpus": self._wanted.cpus, "num_gpus": self._wanted.gpus, "max_restarts": 0}
        for _ in range(missing):
            worker = self._ray.remote(**options)(_Worker).remote(*self._engine, self._stop)
            self._coming[worker.ready.remote()] = worker
            self._waited_since = time.monotonic()

    def _kept(self, promises: list[Any]) -> list[Any]:
        """Promises that are kept by now, or broken; waits a moment for one."""
        found: list[Any] = self._ray.wait(promises, num_returns=len(promises), timeout=0)[0]
        if not found:
            found = self._ray.wait(promises, num_returns=1, timeout=POLL_SECONDS)[0]
        idle = len(promises) == len(self._coming) and not found
        if idle and time.monotonic() - self._waited_since > START_SECONDS:
            raise EngineError(
                f"no Ray worker came up in {START_SECONDS:g} s",
                hint="`ray status` says what the cluster lacks; lower engine.ray.workers, cpus or gpus, then resume",
            )
        return found

    def _welcome(self, promise: Any) -> None:
        worker = self._coming.pop(promise)
        try:
            self._ray.get(promise)
        except self._ray.exceptions.RayError:
            return  # lost before it began; another is asked for
        self._resting.append(worker)

    def _result(self, promise: Any, worker: Any, batch: _Batch, again: deque[_Batch]) -> list[Any]:
        try:
            made: Any = self._ray.get(promise)
        except (self._ray.exceptions.RayActorError, self._ray.exceptions.ObjectLostError) as error:
            self._ray.kill(worker)  # what only seems lost would keep its place for ever
            batch.losses += 1
            if batch.losses >= LOSSES:
                raise EngineError(
                    f"{LOSSES} Ray workers died over the same {len(batch.rows)} requests: {_last_line(error)}",
                    hint="memory is the likely reason: lower engine.ray.batch or engine.batch_size; see `ray status`",
                ) from None
            again.append(batch)
            return []
        except self._ray.exceptions.RayError as error:
            raise EngineError(
                f"a Ray worker failed: {_last_line(error)}", hint="the logs under /tmp/ray say more; then resume"
            ) from None
        self._resting.append(worker)
        if isinstance(made, LabError):
            raise made
        results: list[Any] = made
        return results

    def _check_resources(self) -> None:
        there = self._ray.cluster_resources()
        engine = self._engine[0]
        if there.get("GPU") and not self._wanted.gpus and engine.device != "cpu" and engine.kind != "scripted":
            raise EngineError(
                f"the Ray cluster has {there['GPU']:g} GPUs, engine.ray.gpus = 0 reserves none: its workers would not see them",
                hint="set engine.ray.gpus: 1 (GPUs per worker), or engine.device: cpu to leave the GPUs to others",
            )
        for what, each in (("CPU", self._wanted.cpus), ("GPU", self._wanted.gpus)):
            wanted = each * self._wanted.workers
            if wanted > there.get(what, 0):
                raise EngineError(
                    f"the Ray cluster has {there.get(what, 0):g} {what}s, {self._wanted.workers} workers want {wanted:g}",
                    hint=f"lower engine.ray.workers or engine.ray.{what.lower()}s, or add machines to the cluster",
                )


class _StopSign:
    """An actor that all workers can see: which run nobody waits for any more."""

    def __init__(self) -> None:
        self._run = 0

    def set(self, run: int) -> None:
        self._run = max(self._run, run)

    def stopped(self) -> int:
        return self._run


class _Stopped(Exception):
    """Nobody waits for the results."""


class _Worker:
    """An engine on one machine of the cluster, for one model after another."""

    def __init__(self, config: EngineConfig, trust: bool, adapters: int, stop: Any) -> None:
        import ray

        def opened(name: str, model: str | Path, rank: int) -> Any:
            return open_engine(name, model, config, trust_remote_code=trust, adapters=rank)

        if not config.ray.gpus:
            os.environ["CUDA_VISIBLE_DEVICES"] = (
                ""  # whatever the machine's own Ray was told: others have reserved them
            )
        self._ray, self._stop, self._looked = ray, stop, 0.0
        self._kept = KeptEngine(opened, adapters)

    def ready(self) -> bool:
        return True

    def work(self, run: int, task: tuple[Any, ...], rows: list[Any]) -> Any:
        """A list of results. A LabError is a result too: raised here, Ray would bury its hint in words of its own."""
        name, model, sampling, seed = task
        try:
            self._check(run)
            engine = self._kept.get(name, model)
            if sampling is not None:
                return list(engine.generate(rows, sampling, seed=seed, check=lambda: self._check(run)))
            return list(zip((at for at, _ in rows), engine.mean_logps([row for _, row in rows]), strict=True))
        except LabError as error:
            return _as_seen_here(error, model)
        except _Stopped:
            return []

    def _check(self, run: int) -> None:
        if time.monotonic() - self._looked < STOP_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            stopped = self._ray.get(self._stop.stopped.remote())
        except self._ray.exceptions.RayError:
            return  # the sign fell, which says nothing: the work is wanted until it says otherwise
        if stopped >= run:
            self._looked = 0.0
            raise _Stopped


def _as_seen_here(error: LabError, model: str | Path) -> LabError:
    """An error over a folder that the run's machine has, and this one has not."""
    if not isinstance(error, ModelError) or str(model).startswith(HUB) or Path(model).is_dir():
        return error
    return ModelError(
        f"{error.message} on {platform.node()}, a machine of the Ray cluster",
        hint="every machine must see the lab home, and models in folders, at the same path: keep them on a shared disk",
    )


def _imported() -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no telemetry
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # a worker without GPUs sees none
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray
    except ImportError as error:
        raise MissingExtra(f"Ray cannot be imported: {error}", hint=INSTALL["ray"]) from None
    return ray


def _connect(ray: Any, address: str | None) -> bool:
    """Joins the cluster at `address`, starts one if that is None, uses the one joined already. Returns whether it did."""
    if ray.is_initialized():
        return False
    local = {"include_dashboard": False, "_node_ip_address": "127.0.0.1"} if address is None else {}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level=logging.ERROR, **local)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise EngineError(
            f"no Ray cluster at {address!r}: {_last_line(error)}",
            hint="start one with `ray start --head`, or leave engine.ray.address out to use this machine alone",
        ) from None
    return True


def _here(ray: Any) -> Any:
    """Places an actor on this machine: the loss of another must not take it."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)


def _last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
