"""What vLLM is opened with, field by field: no vLLM and no GPU is needed to say."""

import os
import sys
from types import ModuleType
from typing import Any

import pytest
import torch

from synpo_lab.config import EngineConfig
from synpo_lab.engines import vllm_engine
from synpo_lab.engines.vllm_engine import GIB, LORA_RANKS
from synpo_lab.errors import EngineError


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with CUDA, as far as the choice of a device goes."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0))


def config(device: str = "cuda", **settings: Any) -> EngineConfig:
    return EngineConfig.model_validate({"kind": "vllm", "device": device, "vllm": settings})


def arguments(device: str = "cuda", *, base: str = "folder", rank: int = 0, **settings: Any) -> dict[str, Any]:
    asked = config(device, **settings)
    return vllm_engine._arguments(base, asked, False, rank=rank, on_cpu=device == "cpu")


PLAIN_GPU = {
    "model": "folder", "dtype": "bfloat16", "trust_remote_code": False, "max_model_len": None, "max_num_seqs": 256,
    "enable_prefix_caching": True, "enforce_eager": False, "tensor_parallel_size": 1, "disable_log_stats": True,
    "use_tqdm_on_load": False, "gpu_memory_utilization": 0.9,
}  # fmt: skip


@pytest.mark.usefixtures("gpu")
def test_a_gpu_gets_a_share_of_its_memory_and_compiled_code() -> None:
    assert arguments() == PLAIN_GPU


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("setting", "field", "value"),
    [
        ("tensor_parallel", "tensor_parallel_size", 4),
        ("gpu_memory_utilization", "gpu_memory_utilization", 0.5),
        ("enforce_eager", "enforce_eager", True),
        ("max_model_len", "max_model_len", 4096),
        ("max_num_seqs", "max_num_seqs", 32),
        ("prefix_caching", "enable_prefix_caching", False),
    ],
)
def test_a_setting_reaches_its_field_and_changes_no_other(setting: str, field: str, value: Any) -> None:
    assert arguments(**{setting: value}) == PLAIN_GPU | {field: value}


def test_a_cpu_gets_a_cache_of_its_own_size_and_no_compilation() -> None:
    cpu = {"dtype": "float32", "enforce_eager": True, "enable_chunked_prefill": False, "kv_cache_memory_bytes": 3 * GIB}
    plain = {name: value for name, value in PLAIN_GPU.items() if name != "gpu_memory_utilization"}
    assert arguments("cpu", cpu_cache_gib=3) == plain | cpu
    assert arguments("cpu", enforce_eager=False)["enforce_eager"] is False


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("rank", "room"), [(1, 1), (4, 8), (16, 16), (65, 128), (512, 512)])
def test_adapters_are_given_the_least_room_vllm_knows(rank: int, room: int) -> None:
    assert arguments(rank=rank) == PLAIN_GPU | {"enable_lora": True, "max_loras": 1, "max_lora_rank": room}
    assert room in LORA_RANKS


def test_a_hub_model_is_named_as_the_hub_does() -> None:
    assert arguments("cpu", base="hub:owner/name")["model"] == "owner/name"


class Opened(Exception):
    """Instead of starting vLLM."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What vLLM's two ways to be started are called with, and what they would see."""
    seen: dict[str, Any] = {}

    def way(name: str) -> Any:
        def start(given: dict[str, Any]) -> None:
            seen.update(way=name, gpus=os.environ.get("CUDA_VISIBLE_DEVICES"), **given)
            raise Opened

        return type(name, (), {"from_engine_args": staticmethod(start)})

    for module, names in {
        "vllm": {},
        "vllm.engine": {},
        "vllm.engine.arg_utils": {"EngineArgs": dict, "AsyncEngineArgs": dict},
        "vllm.v1": {},
        "vllm.v1.engine": {},
        "vllm.v1.engine.async_llm": {"AsyncLLM": way("AsyncLLM")},
        "vllm.v1.engine.llm_engine": {"LLMEngine": way("LLMEngine")},
    }.items():
        made = ModuleType(module)
        vars(made).update(names)
        monkeypatch.setitem(sys.modules, module, made)
    for name in ("VLLM_NO_USAGE_STATS", "VLLM_LOGGING_LEVEL", "VLLM_ENABLE_V1_MULTIPROCESSING"):
        monkeypatch.setenv(name, "0")  # they are as before after the test
    return seen


def opened(asked: EngineConfig) -> None:
    with pytest.raises(EngineError, match="does not start"):
        vllm_engine._Core("folder", asked, False, rank=0)


@pytest.mark.usefixtures("gpu")
def test_copies_of_the_weights_are_processes_beside_one_another(started: dict[str, Any]) -> None:
    opened(config(data_parallel=2, tensor_parallel=2))
    assert started["way"] == "AsyncLLM"
    assert (started["data_parallel_size"], started["tensor_parallel_size"]) == (2, 2)
    opened(config())
    assert started["way"] == "LLMEngine"


@pytest.mark.usefixtures("gpu")
def test_of_several_gpus_the_one_that_is_named_is_used(
    started: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 7")
    opened(config("cuda:1"))
    assert started["gpus"] == "7"
    opened(config("cuda"))
    assert started["gpus"] == "5, 7"
    with pytest.raises(EngineError, match="names one GPU"):
        vllm_engine._Core("folder", config("cuda:1", tensor_parallel=2), False, rank=0)


@pytest.mark.usefixtures("gpu")
def test_a_gpu_before_ampere_gets_float16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    assert arguments()["dtype"] == "float16"


def test_a_gpu_without_bfloat16_is_told_what_to_set() -> None:
    told = ValueError(
        "Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your Tesla T4 GPU ..."
    )
    assert "engine.dtype: float16" in vllm_engine._not_started("folder", told).hint
