"""The launch form's word on what a run will take."""

import sys

import pytest

from pages.plan_told import plan_told
from synpo_lab.config import load, parse
from synpo_lab.planning import gpus
from synpo_lab.planning.gpus import GPUS, gpu_seen_as


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "gpu_here", lambda: None)


def test_a_toy_takes_minutes_and_the_gpu_is_said_to_be_assumed() -> None:
    told = plan_told(load("pocket").to_yaml())
    assert "minutes" in told
    assert "is assumed" in told


def test_what_does_not_fit_comes_with_advice() -> None:
    text = parse({"policy": "hub:princeton-nlp/Llama-3-Base-8B-SFT", "seeds": "nowhere.jsonl"}).to_yaml()
    told = plan_told(text)
    assert "does NOT fit" in told
    assert "<li>" in told


def test_a_wrong_config_or_model_is_told_with_a_hint_and_escaped() -> None:
    assert "lab-problem" in plan_told("iterations: 0")
    told = plan_told("policy: '<script>'")
    assert "lab-problem" in told
    assert "<script>" not in told


@pytest.mark.parametrize(
    ("driver", "name"),
    [
        ("NVIDIA H200", "h200"), ("NVIDIA A100-SXM4-80GB", "a100-80gb"), ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA L40S", "l40s"), ("NVIDIA L4", "l4"), ("Tesla T4", "t4"), ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA A10G", "a10g"), ("NVIDIA H100 80GB HBM3", "h100"), ("NVIDIA GeForce RTX 4060 Ti", "rtx-4060ti-16gb"),
    ],
)  # fmt: skip
def test_a_gpu_is_known_by_its_drivers_name(driver: str, name: str) -> None:
    assert gpu_seen_as(driver) == GPUS[name]
    assert gpu_seen_as("Abacus 3000") is None


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "/nowhere")
    assert gpus.gpu_here() is None
    assert "torch" not in vars(sys.modules["synpo_lab.planning.gpus"])
