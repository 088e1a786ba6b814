"""Models of several objectives (ArmoRM's kind): a repository folder with a modelling file of its own, made here."""

import json
from pathlib import Path
from typing import Any

import pytest

from synpo_lab.config import ScorerConfig
from synpo_lab.errors import MissingExtra, ModelError
from synpo_lab.scorers import open_scorer
from synpo_lab.scorers.classifiers import ARMO
from tests.scorers.tiny_scorers import classifier, rows_of_many_lengths, save

# The parts of ArmoRM's modeling_custom.py that matter here: its output's names, its heads, how it finds the last token.
MODELLING = """
from dataclasses import dataclass
import torch
from torch import nn
from transformers import LlamaModel, LlamaPreTrainedModel
from transformers.utils import ModelOutput

@dataclass
class CustomOutput(ModelOutput):
    rewards: torch.FloatTensor = None
    hidden_state: torch.FloatTensor = None
    score: torch.FloatTensor = None
    logits: torch.FloatTensor = None

class RewardModelWithGating(LlamaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.model = LlamaModel(config)
        self.regression_layer = nn.Linear(config.hidden_size, config.num_objectives, bias=False)
        self.gating = nn.Linear(config.hidden_size, config.num_objectives)
        self.post_init()

    def forward(self, input_ids, attention_mask=None, **unused):
        hidden = self.model(input_ids, attention_mask=attention_mask)[0]
        rows = torch.arange(len(input_ids))
        if self.config.pad_token_id is None:
            assert len(input_ids) == 1
            last = torch.tensor([-1])
        else:
            last = (torch.eq(input_ids, self.config.pad_token_id).int().argmax(-1) - 1) % input_ids.shape[-1]
        hidden = hidden[rows, last]
        rewards = self.regression_layer(hidden)
        score = (torch.softmax(self.gating(hidden), -1) * rewards).sum(-1)
        return CustomOutput(rewards=rewards, hidden_state=hidden, score=score, logits=score)
"""
ROWS = rows_of_many_lengths(20)


def repository(folder: Path, objectives: int) -> Path:
    """Weights, config and modelling file as a hub repository of this kind holds them."""
    import torch
    from safetensors.torch import load_file, save_file

    save(classifier(pad_token_id=None), folder)
    (folder / "modeling_custom.py").write_text(MODELLING)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "architectures": ["RewardModelWithGating"], "num_objectives": objectives,
        "auto_map": {"AutoModelForSequenceClassification": "modeling_custom.RewardModelWithGating"},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    torch.manual_seed(1)
    size = config["hidden_size"]
    weights |= {
        "regression_layer.weight": torch.randn(objectives, size),
        "gating.weight": torch.randn(objectives, size),
        "gating.bias": torch.randn(objectives),
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def armo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repository(tmp_path_factory.mktemp("armo") / "armo", 19)


def scored(folder: Path, rows: Any = ROWS, **changes: Any) -> list[dict[str, float]]:
    config = {"name": "multi-objective", "model": str(folder), "device": "cpu", "trust_remote_code": True} | changes
    return list(open_scorer(ScorerConfig(**config)).score(rows))  # type: ignore[union-attr]


def test_its_own_code_runs_only_when_the_config_says_so(armo: Path) -> None:
    with pytest.raises(ModelError) as caught:
        scored(armo, trust_remote_code=False)
    assert "scorer.trust_remote_code: true" in caught.value.hint


def test_armorms_nineteen_objectives_are_named_and_the_total_is_the_gated_sum(armo: Path) -> None:
    [first, *others] = scored(armo)
    assert list(first) == ["total", *ARMO]
    assert len({aspects["total"] for aspects in [first, *others]}) > 10
    assert min(first[name] for name in ARMO) <= first["total"] <= max(first[name] for name in ARMO)


def test_batches_give_what_single_rows_give(armo: Path) -> None:
    alone = scored(armo, batch_size=1)
    together = scored(armo, batch_size=8)
    assert together == [pytest.approx(one, abs=1e-4) for one in alone]


def test_objectives_can_be_named_and_else_are_numbered(tmp_path: Path) -> None:
    folder = repository(tmp_path / "three", 3)
    assert list(scored(folder, ROWS[:1])[0]) == ["total", "objective 1", "objective 2", "objective 3"]
    named = scored(folder, ROWS[:1], aspects=["helpful", "true", "short"])
    assert list(named[0]) == ["total", "helpful", "true", "short"]
    with pytest.raises(ModelError, match="names 2 objectives, the model has 3"):
        scored(folder, ROWS[:1], aspects=["helpful", "true"])


def test_a_plain_classifier_is_not_multi_objective(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gives no `score` and `rewards`") as caught:
        scored(save(classifier(), tmp_path / "plain"), ROWS[:1])
    assert "reward-model" in caught.value.hint


def test_code_written_for_another_transformers_is_told_from_a_missing_package(tmp_path: Path) -> None:
    folder = repository(tmp_path / "old", 3)
    (folder / "modeling_custom.py").write_text("from transformers import NoSuchDocstring\n" + MODELLING)
    with pytest.raises(ModelError, match="written for another version"):
        scored(folder, ROWS[:1])
    other = repository(tmp_path / "lacking", 3)
    (other / "modeling_custom.py").write_text("import a_package_nobody_has\n" + MODELLING)
    with pytest.raises(MissingExtra, match="a_package_nobody_has"):
        scored(other, ROWS[:1])
