"""Opening engines, keeping one, and saying which can be had."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from synpo_lab import engines
from synpo_lab.config import EngineConfig, VllmConfig
from synpo_lab.engines import KeptEngine, available, open_engine
from synpo_lab.engines.adapters import adapter_of, same_weights
from synpo_lab.engines.scripted_engine import ScriptedEngine
from synpo_lab.engines.transformers_engine import TransformersEngine
from synpo_lab.engines.vllm_engine import _one_gpu, _seeing
from synpo_lab.errors import EngineError, MissingExtra, ModelError
from tests.engines.tiny_adapter import save_adapter
from tests.engines.tiny_server import serving
from tests.tiny_model import save_tiny


def test_every_kind_of_the_config_is_reported_with_its_version_or_how_to_install_it() -> None:
    found = {engine.kind: engine for engine in available()}
    assert set(found) == set(EngineConfig.model_fields["kind"].annotation.__args__)  # type: ignore[union-attr]
    assert found["transformers"].ready
    assert found["transformers"].version.startswith("5.")
    assert found["scripted"].ready
    assert all(engine.install for engine in found.values() if not engine.ready)


def test_reporting_imports_no_heavy_package() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from synpo_lab.engines import available; available();"
        "print([name for name in ('torch', 'transformers', 'vllm', 'ray', 'openai') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", ["vllm", "openai", "ray"])
def test_an_engine_whose_package_is_missing_says_how_to_install_it(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    for name in [name for name in sys.modules if name.split(".")[0] == kind]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, kind, None)  # an import of it raises ImportError
    with pytest.raises(MissingExtra, match=kind if kind == "openai" else "cannot be imported") as caught:
        open_engine("M_0", save_tiny(tmp_path / "m"), EngineConfig(kind=kind, device="cpu"), initial=True)  # type: ignore[arg-type]
    assert caught.value.hint == engines.INSTALL[kind]


def test_a_server_generates_with_the_initial_policy_and_this_machine_with_trained_ones(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m")
    with serving() as server:
        config = EngineConfig.model_validate({"kind": "openai", "openai": {"base_url": server.url}, "threads": 1})
        initial, trained = open_engine("M_0", folder, config, initial=True), open_engine("M_1", folder, config)
        assert type(initial).__name__ == "OpenAIEngine"
        assert type(trained) is TransformersEngine
        initial.close()


class Opened:
    """Counts how often engines are opened and closed."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def __call__(self, name: str, model: str | Path, adapters: int) -> Any:
        self.events.append(f"open {Path(model).name}{f' for rank {adapters}' if adapters else ''}")
        events = self.events

        class Engine(ScriptedEngine):
            def beside(self, name: str, other: str | Path) -> Any:
                adapter = adapter_of(other)
                return self if same_weights(adapter.base if adapter else other, model) and adapters else None

            def close(self) -> None:
                events.append(f"close {Path(model).name}")

        return Engine(name)


def test_one_engine_is_kept_for_models_of_one_base_and_two_are_never_open(tmp_path: Path) -> None:
    base, other = save_tiny(tmp_path / "base"), save_tiny(tmp_path / "other")
    adapter = save_adapter(base, tmp_path / "adapter")
    opened = Opened()
    kept = KeptEngine(opened)
    kept.get("M_0", base)
    kept.get("M_1", adapter)  # the engine was not ready for adapters: opened anew, and from now on it is
    assert opened.events == ["open base", "close base", "open adapter for rank 8"]
    opened.events.clear()
    kept.close()
    kept.get("M_0", base)
    kept.get("M_1", adapter)
    kept.get("M_0", base)
    kept.get("O", other)
    kept.close()
    kept.close()
    assert opened.events == [
        "close adapter", "open base for rank 8", "close base", "open other for rank 8", "close other"
    ]  # fmt: skip


def test_an_engine_is_ready_from_the_first_for_adapters_that_are_known_to_follow(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    opened = Opened()
    kept = KeptEngine(opened, 16)
    kept.get("M_0", base)
    kept.get("M_1", save_adapter(base, tmp_path / "adapter"))
    assert opened.events == ["open base for rank 16"]


def test_an_adapter_folder_says_what_it_stands_on(tmp_path: Path) -> None:
    base = save_tiny(tmp_path / "base")
    adapter = adapter_of(save_adapter(base, tmp_path / "adapter", rank=4))
    assert adapter is not None
    assert (adapter.rank, adapter.plain) == (4, True)
    assert same_weights(adapter.base, base)
    assert adapter_of(base) is None
    assert adapter_of("hub:some/model") is None
    (tmp_path / "adapter" / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match="does not say what it adapts"):
        adapter_of(tmp_path / "adapter")


def test_a_base_on_the_hub_is_named_as_the_config_names_it(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(
        '{"base_model_name_or_path": "owner/name", "peft_type": "LORA", "r": 8}'
    )
    adapter = adapter_of(tmp_path)
    assert adapter is not None
    assert adapter.base == "hub:owner/name"
    assert same_weights(adapter.base, "hub:owner/name")


@pytest.mark.parametrize(
    ("device", "visible", "gpu"),
    [
        ("cuda", None, None),
        ("cpu", None, None),
        ("cuda:1", None, "1"),
        ("cuda:1", "4, 6", "6"),
        ("cuda:0", "GPU-a", "GPU-a"),
    ],
)
def test_vllm_computes_on_the_gpu_that_the_device_names(
    device: str, visible: str | None, gpu: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert _one_gpu(torch.device(device), VllmConfig()) == gpu
    with _seeing(gpu):
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == (gpu or visible)
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


def test_one_named_gpu_is_not_several() -> None:
    with pytest.raises(EngineError, match="names one GPU") as caught:
        _one_gpu(torch.device("cuda:1"), VllmConfig(tensor_parallel=2))
    assert "CUDA_VISIBLE_DEVICES" in caught.value.hint
