"""What a run is told before its first stage."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from synpo_lab.config import parse
from synpo_lab.errors import ConfigError, LabError, ModelError
from synpo_lab.models import with_chat_template
from synpo_lab.recipes import workshop
from synpo_lab.recipes.preflight import check_chat, check_gpus, context_of
from synpo_lab.records import Response, TrainStep
from synpo_lab.run import Run
from tests.recipes.test_recipes import SMALL
from tests.scorers.tiny_scorers import classifier, save
from tests.tiny_model import save_tiny

Start = Callable[..., Run]


def nothing_was_made(tmp_path: Path) -> bool:
    parts = tmp_path.glob("home/runs/r/**/*.parquet")
    return not [part for part in parts if any(kind in str(part) for kind in ("responses", "train_steps"))]


@pytest.mark.parametrize(
    ("scorer", "told"),
    [
        ({"name": "reward-model", "model": "nowhere"}, "no model folder at 'nowhere'"),
        ({"name": "pairwise", "model": "REWARD"}, "is no PairRM"),
        ({"name": "multi-objective", "model": "BROKEN"}, "cannot be loaded"),
        ({"name": "reward-model", "model": "OLD", "trust_remote_code": True}, "written for another version"),
    ],
)
def test_a_scorer_that_cannot_be_had_is_told_before_anything_is_made(
    quick: dict[str, str], start: Start, tmp_path: Path, scorer: dict[str, Any], told: str
) -> None:
    folder = save(classifier(), tmp_path / "model")
    if scorer["model"] == "BROKEN":
        (folder / "config.json").write_text("{")
    if scorer["model"] == "OLD":
        config = json.loads((folder / "config.json").read_text())
        config["auto_map"] = {"AutoModelForSequenceClassification": "modelling.Scorer"}
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "modelling.py").write_text("from transformers import NoSuchDocstring\n")
    model = scorer["model"] if scorer["model"] == "nowhere" else str(folder)
    with pytest.raises(LabError, match=told):
        start(**(SMALL | {"scorer": scorer | {"model": model}}), **quick)
    assert nothing_was_made(tmp_path)


def test_a_policy_that_is_none_is_told_before_anything_is_made(
    quick: dict[str, str], start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workshop, "context_of", context_of)
    with pytest.raises(ModelError, match=r"has no config\.json"):
        start(**SMALL, **quick)
    assert nothing_was_made(tmp_path)


THINKS = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<user> {{ m['content'] }} <bot>"
    "{% else %} {{ m['content'].split('</think>')[-1] }}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %} <think>\n{% endif %}"
)
ONE_ROLE = "{% for m in messages %}{% if m.role != 'user' %}{{ raise_exception('users only') }}{% endif %}{% endfor %}x"


@pytest.mark.parametrize(
    ("template", "told"), [(THINKS, "renders a prompt differently once it has an answer"), (ONE_ROLE, "users only")]
)
def test_a_chat_template_that_cannot_be_trained_on_is_told_before_anything_is_made(
    sums: dict[str, str], start: Start, tmp_path: Path, template: str, told: str
) -> None:
    """As DeepSeek-R1's distilled models: what generation begins with is not in the chat that is trained on."""
    folder = save_tiny(tmp_path / "policy")
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    with pytest.raises(ModelError, match=told) as caught:
        start(**(SMALL | sums | {"policy": str(folder)}))
    assert "chat_template" in caught.value.hint
    assert "plain" in caught.value.hint
    assert nothing_was_made(tmp_path)


def test_a_template_of_ones_own_in_the_config_takes_its_place(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "policy")
    (folder / "chat_template.jinja").write_text(THINKS, encoding="utf-8")
    with pytest.raises(ModelError):
        check_chat(folder, ("w1 w2", "w3"), trust_remote_code=False)
    check_chat(with_chat_template(folder, "plain", tmp_path / "M_0"), ("w1 w2", "w3"), trust_remote_code=False)


def test_rows_are_cut_to_what_the_policy_reads(
    quick: dict[str, str], start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_tiny(tmp_path / "short", max_position_embeddings=64)
    monkeypatch.setattr(workshop, "context_of", lambda policy, **how: context_of(folder, **how))
    seen: list[int] = []
    plain = workshop.train_sft

    def noted(base: Any, rows: Any, config: Any, *rest: Any, **more: Any) -> Any:
        seen.append(config.max_length)
        return plain(base, rows, config, *rest, **more)

    monkeypatch.setattr(workshop, "train_sft", noted)
    run = start(**(SMALL | {"iterations": 1, "prompts": SMALL["prompts"] | {"train": {"max_length": 48}}}), **quick)
    assert seen == [48, 64]  # G's own, and the improver's, whose default is 2048
    told = [line["message"] for line in run._store.events()[0] if line["level"] == "warning"]
    assert "the policy reads 64 tokens: longer rows of a training are cut to that" in told
    assert list(run.read(Response))
    assert list(run.read(TrainStep))


def test_a_limit_draws_the_same_validation_seeds_for_every_beta_and_iteration(
    quick: dict[str, str], start: Start
) -> None:
    from synpo_lab.records import EvalResult

    run = start(**(SMALL | {"validation": {"limit": 10}}), **quick)
    asked = {
        (t, variant): {r.prompt_id for r in run.read(Response, t) if r.role == "eval" and r.model == variant}
        for t in (1, 2)
        for variant in (f"M_{t}-beta=2", f"M_{t}-beta=10")
    }
    assert {len(ids) for ids in asked.values()} == {10}
    assert len({frozenset(ids) for ids in asked.values()}) == 1
    assert len(list(run.read(EvalResult, 1))) == 20


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


JUDGE = {"name": "judge", "model": "m", "judge": {"engine": {"kind": "vllm", "vllm": {"data_parallel": 3}}}}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"training": {"processes": 8}}, "training.processes asks for 8 GPUs, this machine has 2"),
        ({"engine": {"kind": "vllm", "vllm": {"tensor_parallel": 2, "data_parallel": 2}}},
         "engine.vllm.tensor_parallel x data_parallel asks for 4 GPUs, this machine has 2"),
        ({"engine": {"kind": "openai", "openai": {"trained": "vllm"}, "vllm": {"tensor_parallel": 3}}},
         "engine.vllm.tensor_parallel x data_parallel asks for 3 GPUs, this machine has 2"),
        ({"training": {"processes": 4}, "scorer": JUDGE},
         "training.processes asks for 4, scorer.judge.engine.vllm.tensor_parallel x data_parallel asks for 3 GPUs, "
         "this machine has 2"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("two_gpus")
def test_more_gpus_than_there_are_is_one_error(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_gpus(parse(values))
    assert caught.value.message == told
    assert "2 or less" in caught.value.hint


@pytest.mark.parametrize(
    "values",
    [
        {"training": {"processes": 2}, "engine": {"kind": "vllm", "vllm": {"tensor_parallel": 2}}},
        {"training": {"processes": 8}, "engine": {"device": "cpu"}},
        {"engine": {"vllm": {"tensor_parallel": 8}}},  # transformers generates
        {"engine": {"kind": "ray", "ray": {"each": "vllm", "workers": 8, "gpus": 1}}},  # on other machines, perhaps
        {"scorer": JUDGE | {"name": "length"}},
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_what_asks_for_no_more_gpus_than_there_are_is_let_through(values: dict[str, Any]) -> None:
    check_gpus(parse(values))


@pytest.mark.usefixtures("two_gpus")
def test_too_many_processes_are_told_before_anything_is_made(
    quick: dict[str, str], start: Start, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="asks for 8 GPUs"):
        start(**(SMALL | {"training": {"processes": 8}}), **quick)
    assert nothing_was_made(tmp_path)


def test_where_no_gpu_is_processes_share_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_gpus(parse({"training": {"processes": 8}, "engine": {"device": "cpu"}}))
