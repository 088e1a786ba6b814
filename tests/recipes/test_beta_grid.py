"""The grid of betas, and the race that stops some early: real trainings of a small model, validation decided by the test."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage.database import Database
from storage.queries import grid_results
from synpo_lab.errors import TrainingError
from synpo_lab.home import open_store
from synpo_lab.recipes import beta_grid
from synpo_lab.recipes.workshop import Workshop
from synpo_lab.records import EvalResult
from synpo_lab.run import Run, StopRequested

Start = Callable[..., Run]

SHORT = {"max_new_tokens": 12}
RACE: dict[str, Any] = {
    "recipe": "seed-simpo",
    "iterations": 1,
    "templates": "pocket",
    "draft": SHORT,
    "scorer": {"name": "length"},
    "filter": {"min_gap": -1000.0, "max_repetition": 1.0},
    "validation": {"share": 0.25},
    "evaluation": {"sampling": SHORT},
    "eye": {"pairs": 0},
    "simpo": {"betas": [1, 2, 3], "learning_rate": 1e-3, "batch_size": 6, "epochs": 2, "race": 0.5},
}


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Beta 2 is best, beta 1 hardly worse, beta 3 worse everywhere. Returns the names of what was validated."""
    asked: list[str] = []
    real = Workshop.validate

    def validate(shop: Workshop, model: str, iteration: int) -> list[EvalResult]:
        asked.append(model)
        real(shop, model, iteration)
        lost = {"1": [0.0, 0.5, -0.4], "2": [0.0, 0.0, 0.0], "3": [0.5, 0.6, 0.7]}[model.partition("=")[2][0]]
        return [
            EvalResult(1, "validation", str(i), model, "M_0", "a", "b", 1 - by, 0.5, "a", 1, 1)
            for i, by in enumerate(lost)
        ]

    monkeypatch.setattr(Workshop, "validate", validate)
    return asked


def weights(run: Run, name: str) -> str:
    return hashlib.sha256((run.model_folder(name) / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_clearly_worse_beta_is_stopped_and_the_others_come_out_as_without_a_race(
    sums: dict[str, str], start: Start, judged: list[str]
) -> None:
    raced = start("raced", **RACE, **sums)
    assert judged == ["M_1-beta=1-step=6", "M_1-beta=2-step=6", "M_1-beta=3-step=6", "M_1-beta=1", "M_1-beta=2"]
    whole = start("whole", **(RACE | {"simpo": RACE["simpo"] | {"race": 0}}), **sums)
    assert judged[5:] == ["M_1-beta=1", "M_1-beta=2", "M_1-beta=3"]
    assert weights(raced, "M_1") == weights(whole, "M_1")

    marker = raced.marker("iteration=1/policy")
    assert marker is not None
    assert marker["beta"] == 2
    assert marker["validation"].keys() == {"1", "2"}
    assert marker["stopped"]["3"]["step"] == 6
    assert marker["stopped"]["3"]["mean"] == pytest.approx(0.4)
    assert marker["stopped"]["3"]["behind"] > 2
    assert {folder.name for folder in raced.model_folder("M_1").parent.iterdir()} == {"M_1"}


@pytest.mark.slow
def test_the_page_is_told_who_was_stopped_and_when(
    sums: dict[str, str], start: Start, judged: list[str], tmp_path: Path
) -> None:
    start("raced", **RACE, **sums)
    found = grid_results(Database(open_store(tmp_path / "home")), "raced")
    assert [(one.variant, one.stopped_at, one.won) for one in found] == [
        ("beta=1", None, False),
        ("beta=2", None, True),
        ("beta=3", 6, False),
    ]


@pytest.mark.slow
def test_a_race_that_was_stopped_half_way_goes_on_to_the_same_end(
    sums: dict[str, str], start: Start, judged: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = start("whole", **RACE, **sums)
    told = Workshop.validate

    def interrupted(shop: Workshop, model: str, iteration: int) -> list[EvalResult]:
        if model == "M_1-beta=2-step=6" and shop.run.run_id == "torn":
            raise StopRequested
        return told(shop, model, iteration)

    monkeypatch.setattr(Workshop, "validate", interrupted)
    with pytest.raises(StopRequested):
        start("torn", **RACE, **sums)
    monkeypatch.setattr(Workshop, "validate", told)
    torn = start("torn")
    assert weights(torn, "M_1") == weights(whole, "M_1")
    assert torn.marker("iteration=1/policy") == whole.marker("iteration=1/policy")


def test_a_full_disk_keeps_the_trained_betas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    variant = tmp_path / "M_1-beta=2"
    variant.mkdir()
    (variant / "model.safetensors").write_bytes(b"weights")
    monkeypatch.setattr(beta_grid, "_link_or_copy", full)
    with pytest.raises(TrainingError, match="is full") as caught:
        beta_grid._keep(variant, tmp_path / "M_1")
    assert "resume" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["M_1-beta=2"]
