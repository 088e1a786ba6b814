"""Names are not weights: what a run notes of its models, and what it says when they change under it."""

from pathlib import Path

import pytest

from synpo_lab import origins
from synpo_lab.config import RunConfig
from synpo_lab.home import open_home, open_store
from synpo_lab.origins import commit_of, note_origins, told_of
from synpo_lab.run import Run


@pytest.fixture(autouse=True)
def forgetful() -> None:
    commit_of.cache_clear()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, and a hub copy in the folder returned."""

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def model(folder: Path, weights: bytes) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(weights)
    return folder


def run_of(tmp_path: Path, policy: Path) -> Run:
    config = RunConfig(policy=str(policy))
    return Run(open_store(open_home(tmp_path / "home")).create_run("one", config.to_yaml(), {}), config)


def warnings(run: Run) -> list[str]:
    return [line["message"] for line in run._store.events()[0] if line["level"] == "warning"]


def test_a_run_whose_policy_changed_under_it_is_told_so_on_resume(tmp_path: Path) -> None:
    policy = model(tmp_path / "policy", b"one")
    run = run_of(tmp_path, policy)
    note_origins(run)
    note_origins(run)
    assert warnings(run) == []
    first = told_of(str(policy))
    model(policy, b"two")
    note_origins(run)
    assert warnings(run) == [f"policy is not what this run began with: it was {first}, it is {told_of(str(policy))}"]


def test_a_hub_name_is_the_commit_it_is_at(monkeypatch: pytest.MonkeyPatch) -> None:
    class Info:
        sha = "0123456789abcdef0123456789abcdef01234567"

    monkeypatch.setattr("huggingface_hub.HfApi.model_info", lambda *_, **__: Info)
    assert told_of("hub:owner/name") == "owner/name@0123456789ab"


def test_without_a_network_the_copy_here_tells_the_commit(offline: Path) -> None:
    assert told_of("hub:owner/name", "v2") == "owner/name@v2"
    commit_of.cache_clear()
    reference = offline / "models--owner--name" / "refs" / "v2"
    reference.parent.mkdir(parents=True)
    reference.write_text("fedcba9876543210fedcba9876543210fedcba98")
    assert told_of("hub:owner/name", "v2") == "owner/name@fedcba987654"


def test_what_is_no_model_here_is_left_to_whoever_loads_it(tmp_path: Path) -> None:
    assert told_of(str(tmp_path / "nowhere")) is None
    assert origins.origins(RunConfig(policy=str(tmp_path / "nowhere"))) == {}
