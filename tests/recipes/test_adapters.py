"""Recipes whose trainings make LoRA adapters: G, R_t and M_t are generated with over M_0's weights, loaded once a stage."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synpo_lab.config import load
from synpo_lab.engines import open_engine as plain_open
from synpo_lab.engines.adapters import adapter_of, same_weights
from synpo_lab.pocket import resolve_policy
from synpo_lab.recipes import workshop
from synpo_lab.records import EvalResult, Response
from synpo_lab.run import Run

Start = Callable[..., Run]

QUIET = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "engine",
    [
        pytest.param({"kind": "transformers", "device": "cpu"}, id="transformers"),
        pytest.param(
            {"kind": "vllm", "device": "cpu", "vllm": {"cpu_cache_gib": 1, "max_num_seqs": 32, "max_lora_rank": 8}},
            id="vllm",
            marks=[pytest.mark.vllm, *QUIET],
        ),
    ],
)
def test_synpo_with_adapters_generates_over_one_base(
    engine: dict[str, Any], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def open_it(name: str, model: str | Path, *rest: Any, **how: Any) -> Any:
        opened.append(name)
        return plain_open(name, model, *rest, **how)

    monkeypatch.setattr(workshop, "open_engine", open_it)
    training = {"epochs": 2, "learning_rate": 5e-3, "lora": {"r": 8}}
    values = load("pocket").model_dump(mode="json") | {"iterations": 1, "engine": engine}
    values["prompts"] |= {"per_iteration": 60, "train": values["prompts"]["train"] | training}
    values["improver"] |= {"train": values["improver"]["train"] | training, "drafts_per_seed": 1, "min_gap": -10}
    values["simpo"] |= training | {"betas": [2], "epochs": 1}
    values["filter"] |= {"min_gap": -10, "max_repetition": 1}
    values["evaluation"] |= {"limit": 20}
    run = start(**values)
    for name in ("G", "R_1", "M_1"):
        adapter = adapter_of(run.model_folder(name))
        assert adapter is not None
        assert same_weights(adapter.base, resolve_policy("pocket"))
    answered = {(response.role, response.model) for response in run.read(Response)}
    assert {("initial", "M_0"), ("improved", "R_1"), ("eval", "M_1")} <= answered
    assert list(run.read(EvalResult))
    assert "R_1" not in opened  # its base was loaded for the initial answers and the drafts before it
    assert len(opened) < 8
