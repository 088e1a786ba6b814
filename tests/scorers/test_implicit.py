"""The implicit reward against log-probs computed directly with transformers."""

from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from transformers import AutoModelForCausalLM

from synpo_lab import origins
from synpo_lab.chat import encode_examples
from synpo_lab.config import ScorerConfig
from synpo_lab.engines import open_engine
from synpo_lab.errors import ConfigError, ModelError
from synpo_lab.models import load_tokenizer
from synpo_lab.scorers import implicit, open_scorer
from synpo_lab.scorers.base import release, watch
from tests.engines.tiny_adapter import save_adapter
from tests.tiny_model import save_tiny

ROWS = [("w1 w2", "w3"), ("w4", "w5 w6 w7 w8"), ("w9 w1", "")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    made = tmp_path_factory.mktemp("models")
    return save_tiny(made / "policy", seed=1), save_tiny(made / "reference", seed=2)


@torch.inference_mode()
def direct(folder: Path) -> list[float]:
    """The mean of log softmax(logits)[answer's tokens], the end token included."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), load_tokenizer(folder)
    found = []
    for example in encode_examples(tokenizer, ROWS):
        ids = torch.tensor([example.prompt + example.answer])
        logps = model(input_ids=ids).logits[0].log_softmax(-1)
        start = len(example.prompt)
        found.append(fmean(logps[start - 1 + i, token] for i, token in enumerate(example.answer)))
    return found


def fmean(values: Any) -> float:
    return float(torch.stack(list(values)).mean())


def scored(folder: Path, **changes: Any) -> list[dict[str, float]]:
    made: Any = open_scorer(ScorerConfig(name="implicit", model=str(folder), device="cpu", **changes))
    return list(made.score(ROWS))


def test_without_a_reference_it_is_the_mean_log_prob(folders: tuple[Path, Path]) -> None:
    found = scored(folders[0])
    assert [one["total"] for one in found] == pytest.approx(direct(folders[0]), abs=1e-4)
    assert all(list(one) == ["total", "policy"] for one in found)


def test_with_a_reference_it_is_the_difference(folders: tuple[Path, Path]) -> None:
    policy, reference = folders
    found = scored(policy, reference=str(reference))
    expected = [mine - theirs for mine, theirs in zip(direct(policy), direct(reference), strict=True)]
    assert [one["total"] for one in found] == pytest.approx(expected, abs=1e-4)
    assert [one["reference"] for one in found] == pytest.approx(direct(reference), abs=1e-4)


def test_a_policy_against_itself_is_zero(folders: tuple[Path, Path]) -> None:
    assert [one["total"] for one in scored(folders[0], reference=str(folders[0]))] == [0, 0, 0]


def test_both_models_are_in_its_name(folders: tuple[Path, Path]) -> None:
    config = ScorerConfig(name="implicit", model=str(folders[0]), reference=str(folders[1]))
    name = open_scorer(config).name
    assert name.startswith("implicit:policy@")
    assert " minus reference@" in name


def test_a_model_that_is_not_there_is_told_with_a_hint(tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        scored(tmp_path / "nowhere")
    assert caught.value.hint
    with pytest.raises(ConfigError, match=r"needs scorer\.model"):
        open_scorer(ScorerConfig(name="implicit"))


def test_a_revision_of_the_hub_is_what_is_loaded_and_the_references_is_its_own(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, reference = folders
    asked: list[tuple[str, str]] = []

    def fetched(name: str, *, revision: str, **_: Any) -> str:
        asked.append((name, revision))
        return str(policy)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    monkeypatch.setattr(origins, "commit_of", lambda name, revision: revision)
    config = ScorerConfig(
        name="implicit", model="hub:one/policy", revision="v2", reference="hub:one/reference", device="cpu"
    )
    assert open_scorer(config).name == "implicit:one/policy@v2 minus one/reference@main"
    made: Any = open_scorer(config.model_copy(update={"reference": str(reference)}))
    expected = [mine - theirs for mine, theirs in zip(direct(policy), direct(reference), strict=True)]
    assert [one["total"] for one in made.score(ROWS)] == pytest.approx(expected, abs=1e-4)
    assert asked == [("one/policy", "v2")]


def test_a_revision_that_is_not_there_is_told_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str, **_: Any) -> str:
        raise OSError("Revision Not Found for v9")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", absent)
    monkeypatch.setattr(origins, "commit_of", lambda name, revision: revision)
    made: Any = open_scorer(ScorerConfig(name="implicit", model="hub:one/policy", revision="v9", device="cpu"))
    with pytest.raises(ModelError, match="Revision Not Found") as caught:
        list(made.score(ROWS))
    assert "scorer.revision" in caught.value.hint


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which weights were loaded, in order."""
    places: list[str] = []

    def noted(name: str, model: Any, *how: Any, **more: Any) -> Any:
        places.append(str(model))
        return open_engine(name, model, *how, **more)

    monkeypatch.setattr(implicit, "open_engine", noted)
    return places


def test_its_models_are_loaded_once_until_it_is_closed(folders: tuple[Path, Path], opened: list[str]) -> None:
    policy, reference = map(str, folders)
    made: Any = open_scorer(ScorerConfig(name="implicit", model=policy, reference=reference, device="cpu"))
    first, again = list(made.score(ROWS)), list(made.score(ROWS))
    assert first == again
    assert opened == [policy, reference]
    release(made)
    assert list(made.score(ROWS)) == first
    assert opened == [policy, reference] * 2


def test_an_adapter_and_its_base_share_the_loaded_weights(
    folders: tuple[Path, Path], tmp_path: Path, opened: list[str]
) -> None:
    adapter = save_adapter(folders[0], tmp_path / "adapter")
    made: Any = open_scorer(ScorerConfig(name="implicit", model=str(adapter), reference=str(folders[0]), device="cpu"))
    for _ in range(2):
        found = list(made.score(ROWS))
        assert [one["reference"] for one in found] == pytest.approx(direct(folders[0]), abs=1e-4)
        assert all(abs(one["total"]) > 1e-3 for one in found)
    made.close()
    assert opened == [str(adapter)]


def test_models_that_do_not_fit_together_take_turns(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[str] = []

    def one_at_a_time(name: str, model: Any, *how: Any, **more: Any) -> Any:
        if held:
            raise ModelError("does not fit in the free memory", hint="end what else uses that memory")
        engine = open_engine(name, model, *how, **more)
        close = engine.close
        held.append(str(model))
        monkeypatch.setattr(engine, "close", lambda: (held.clear(), close()))
        return engine

    monkeypatch.setattr(implicit, "open_engine", one_at_a_time)
    found = scored(folders[0], reference=str(folders[1]))
    assert [one["reference"] for one in found] == pytest.approx(direct(folders[1]), abs=1e-4)
    assert [one["policy"] for one in found] == pytest.approx(direct(folders[0]), abs=1e-4)


def test_a_stop_is_heard_between_two_batches(folders: tuple[Path, Path]) -> None:
    class Stop(BaseException):
        pass

    asked = iter(range(100))

    def check() -> None:
        if next(asked) == 2:
            raise Stop

    made: Any = open_scorer(ScorerConfig(name="implicit", model=str(folders[0]), device="cpu", batch_size=2))
    watch(made, check)
    with pytest.raises(Stop):
        list(made.score(ROWS * 10))
    assert next(asked) == 3
