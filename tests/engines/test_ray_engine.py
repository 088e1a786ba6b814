"""The ray engine on a real cluster of two nodes in this machine, one of which is lost."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from synpo_lab.config import EngineConfig, SamplingConfig
from synpo_lab.engines.base import Completion, Request
from synpo_lab.engines.ray_engine import RayEngine, _Crew, _Worker
from synpo_lab.engines.transformers_engine import TransformersEngine
from synpo_lab.errors import EngineError, ModelError
from tests.engines.tiny_adapter import save_adapter
from tests.tiny_model import save_tiny

ray = pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.thorough,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
SAMPLING = SamplingConfig(temperature=0.8, max_new_tokens=60)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.second = cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("ray") / "model")


def config(**settings: Any) -> EngineConfig:
    return EngineConfig.model_validate(
        {"kind": "ray", "device": "cpu", "threads": 1, "ray": {"workers": 2, "batch": 8, **settings}}
    )


def asked(n: int = 200) -> list[Request]:
    return [Request(f"k{i}", f"w{i % 26} w{i % 7}") for i in range(n)]


def locally(folder: Path, model: Path | None = None) -> dict[str, Completion]:
    engine = TransformersEngine("M_0", model or folder, EngineConfig(device="cpu", threads=1))
    return {made.key: made for made in engine.generate(asked(), SAMPLING, seed=4)}


def workers(engine: RayEngine) -> list[Any]:
    return [*engine._crew._resting, *engine._crew._coming.values()]


def test_two_nodes_share_the_work_and_keep_the_base_for_an_adapter(cluster: Any, folder: Path, tmp_path: Path) -> None:
    engine = RayEngine("M_0", folder, config())
    try:
        made = {completion.key: completion for completion in engine.generate(asked(), SAMPLING, seed=4)}
        assert made == locally(folder)
        adapter = save_adapter(folder, tmp_path / "adapter")
        other = engine.beside("M_1", adapter)
        adapted = {completion.key: completion for completion in other.generate(asked(), SAMPLING, seed=4)}
        assert adapted == locally(folder, adapter) != made
        nodes = {
            ray.get(w.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id())) for w in workers(engine)
        }
        assert len(nodes) == 2
    finally:
        engine.close()


def test_a_worker_that_is_killed_costs_nothing_but_time(cluster: Any, folder: Path) -> None:
    engine = RayEngine("M_0", folder, config())
    try:
        list(engine.generate(asked(16), SAMPLING, seed=4))
        victim = ray.get(workers(engine)[0].__ray_call__.remote(lambda _: os.getpid()))
        stream = engine.generate(asked(), SAMPLING, seed=4)
        made = [next(stream) for _ in range(3)]
        os.kill(victim, signal.SIGKILL)
        made += stream
        assert len(made) == 200
        assert {completion.key: completion for completion in made} == locally(folder)
    finally:
        engine.close()


def test_a_batch_that_kills_every_worker_is_given_up_with_a_reason(
    cluster: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from synpo_lab.engines import ray_engine

    class Fragile(ray_engine._Worker):
        def work(self, *_: Any) -> Any:
            os._exit(1)

    monkeypatch.setattr(ray_engine, "_Worker", Fragile)
    engine = RayEngine("M_0", folder, config(workers=1))
    try:
        with pytest.raises(EngineError, match="3 Ray workers died over the same 8 requests") as caught:
            list(engine.generate(asked(8), SAMPLING, seed=0))
        assert "memory" in caught.value.hint
    finally:
        engine.close()


def test_the_stop_sign_stands_on_the_machine_of_the_run_and_its_fall_stops_nothing(cluster: Any, folder: Path) -> None:
    engine = RayEngine("M_0", folder, config())
    try:
        sign = engine._crew._stop
        stands = ray.get(sign.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()))
        assert stands == ray.get_runtime_context().get_node_id()
        stream = engine.generate(asked(), SAMPLING, seed=4)
        made = [next(stream) for _ in range(3)]
        ray.kill(sign)
        made += stream
        assert {completion.key: completion for completion in made} == locally(folder)
    finally:
        engine.close()


def test_the_loss_of_a_machine_costs_nothing_but_time(cluster: Any, folder: Path) -> None:
    engine = RayEngine("M_0", folder, config())
    try:
        list(engine.generate(asked(16), SAMPLING, seed=4))
        stream = engine.generate(asked(), SAMPLING, seed=4)
        made = [next(stream) for _ in range(3)]
        cluster.remove_node(cluster.second, allow_graceful=False)
        made += stream
        assert len(made) == 200
        assert {completion.key: completion for completion in made} == locally(folder)
    finally:
        engine.close()


class Gpus:
    """A cluster that says it has two GPUs."""

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 8, "GPU": 2}


@pytest.mark.parametrize(("device", "gpus", "fits"), [("auto", 0, False), ("cuda", 0, False), ("cpu", 0, True)])
def test_gpus_of_a_cluster_are_used_only_when_they_are_reserved(device: str, gpus: float, fits: bool) -> None:
    wanted = config(gpus=gpus).model_copy(update={"device": device})
    each = wanted.model_copy(update={"kind": "transformers"})
    crew = _Crew.__new__(_Crew)
    crew._ray, crew._wanted, crew._engine = Gpus(), wanted.ray, (each, False, 0)
    if fits:
        crew._check_resources()
        return
    with pytest.raises(EngineError, match="has 2 GPUs") as caught:
        crew._check_resources()
    assert "engine.ray.gpus" in caught.value.hint


@pytest.mark.parametrize(("gpus", "seen"), [(0, ""), (1, "3")])
def test_a_worker_without_a_gpu_of_its_own_sees_none(monkeypatch: pytest.MonkeyPatch, gpus: float, seen: str) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    _Worker(config(gpus=gpus), False, 0, None)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


def test_a_worker_that_does_not_see_the_models_folder_says_what_it_must_share(folder: Path, tmp_path: Path) -> None:
    worker = _Worker(config(), False, 0, None)
    worker._check = lambda run: None  # type: ignore[method-assign]
    absent = worker.work(1, ("M_1", str(tmp_path / "absent"), SAMPLING, 0), asked(1))
    assert isinstance(absent, ModelError)
    assert str(tmp_path / "absent") in absent.message
    assert "a machine of the Ray cluster" in absent.message
    assert "same path" in absent.hint
    (tmp_path / "empty").mkdir()
    empty = worker.work(1, ("M_1", str(tmp_path / "empty"), SAMPLING, 0), asked(1))
    assert "config.json" in empty.message
    assert "cluster" not in empty.message
