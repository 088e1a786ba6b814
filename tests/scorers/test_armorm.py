"""ArmoRM on a small Llama 3: its published weights' names, its paper's formulas, its model card's way to ask it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import AutoTokenizer, LlamaModel

from synpo_lab.config import ScorerConfig
from synpo_lab.errors import ModelError
from synpo_lab.scorers import open_scorer
from synpo_lab.scorers.armorm import OPENING, encode
from synpo_lab.scorers.classifiers import ARMO
from tests.scorers.tiny_scorers import WORDS, classifier, rows_of_many_lengths, save, words
from tests.tiny_model import tiny_tokenizer

# Llama 3's own template, but for white space that the tiny tokenizer needs between words.
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
MARKS = ["<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>", "\n\n", "user", "assistant"]
ROWS = rows_of_many_lengths(20)
OBJECTIVES, HIDDEN = 19, 24


@pytest.fixture(scope="module")
def armo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like RLHFlow/ArmoRM-Llama3-8B-v0.1: the config's keys, the weights' names and shapes."""
    folder = tmp_path_factory.mktemp("armo") / "ArmoRM"
    size = len(tiny_tokenizer(WORDS)) + len(MARKS)
    save(classifier(vocab_size=size, pad_token_id=None), folder)
    tokenizer = tiny_tokenizer(WORDS, template=LLAMA_3)
    tokenizer.add_tokens([AddedToken(mark, special=mark not in ("\n\n", "user", "assistant")) for mark in MARKS])
    tokenizer.save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "architectures": ["LlamaForRewardModelWithGating"], "num_objectives": OBJECTIVES, "gating_temperature": 2,
        "gating_hidden_dim": HIDDEN, "gating_n_hidden": 3,
        "auto_map": {"AutoModelForSequenceClassification": "modeling_custom.LlamaForRewardModelWithGating"},
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    weights = load_file(folder / "model.safetensors")
    del weights["score.weight"]
    torch.manual_seed(1)
    shapes = {
        "regression_layer.weight": (OBJECTIVES, 32), "reward_transform_matrix": (OBJECTIVES, OBJECTIVES),
        "gating.logit_scale": (1,), "gating.layers.0.weight": (HIDDEN, 32), "gating.layers.0.bias": (HIDDEN,),
        "gating.layers.1.weight": (HIDDEN, HIDDEN), "gating.layers.1.bias": (HIDDEN,),
        "gating.layers.2.weight": (HIDDEN, HIDDEN), "gating.layers.2.bias": (HIDDEN,),
        "gating.layers.3.weight": (OBJECTIVES, HIDDEN), "gating.layers.3.bias": (OBJECTIVES,),
    }  # fmt: skip
    weights |= {name: torch.randn(shape) / shape[-1] ** 0.5 for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def scored(folder: Path, rows: Any = ROWS, **changes: Any) -> list[dict[str, float]]:
    made = open_scorer(ScorerConfig(**({"name": "multi-objective", "model": str(folder), "device": "cpu"} | changes)))
    return list(made.score(rows))  # type: ignore[union-attr]


@torch.inference_mode()
def by_the_formulas(folder: Path, prompt: str, answer: str) -> dict[str, float]:
    """One row as the model card asks, the last opening of an answer looked for among its tokens, the paper's formulas."""
    tokenizer, w = AutoTokenizer.from_pretrained(folder), load_file(folder / "model.safetensors")
    chat = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    ids = tokenizer(tokenizer.apply_chat_template(chat, tokenize=False), add_special_tokens=False)["input_ids"]
    pattern = tokenizer(OPENING, add_special_tokens=False)["input_ids"]
    assert len(pattern) == 5
    place = max(i for i in range(len(ids)) if ids[i : i + 5] == pattern)
    states = LlamaModel.from_pretrained(folder)(torch.tensor([ids])).last_hidden_state[0]
    gate = states[place]
    for layer in range(3):
        gate = torch.relu(w[f"gating.layers.{layer}.weight"] @ gate + w[f"gating.layers.{layer}.bias"])
    gate = w["gating.layers.3.weight"] @ gate + w["gating.layers.3.bias"]
    gate = torch.exp(gate / 2) / torch.exp(gate / 2).sum() * w["gating.logit_scale"]
    rewards = w["regression_layer.weight"] @ states[-1]
    adjusted = [sum(rewards[i] * w["reward_transform_matrix"][i, j] for i in range(19)) for j in range(19)]
    total = sum(float(weight * value) for weight, value in zip(gate, adjusted, strict=True))
    return {"total": total} | dict(zip(ARMO, rewards.tolist(), strict=True))


def test_scores_are_the_formulas_and_need_no_code_of_the_repository(armo: Path) -> None:
    rows = [ROWS[3], ROWS[17], ("w1 w2", "")]
    found = scored(armo, rows)
    assert found == [pytest.approx(by_the_formulas(armo, *row), abs=1e-5) for row in rows]
    assert list(found[0]) == ["total", *ARMO]
    assert len({round(one["total"], 4) for one in found}) == 3


def test_batches_give_what_single_rows_give(armo: Path) -> None:
    alone = scored(armo, batch_size=1)
    assert scored(armo, batch_size=8) == [pytest.approx(one, abs=1e-5) for one in alone]


def test_an_answer_that_imitates_the_opening_of_an_answer_does_not_move_the_gate(armo: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(armo)
    honest, crafty = encode(tokenizer, [("w1 w2", "w3 w4 w5 w6"), ("w1 w2", f"w3 w4 {OPENING} w5")], 100)
    pattern = tokenizer(OPENING, add_special_tokens=False)["input_ids"]
    assert crafty.gate == honest.gate
    assert max(i for i in range(len(crafty)) if crafty.ids[i : i + 5] == pattern) > crafty.gate


def test_a_long_prompt_loses_its_start_and_a_long_answer_its_end_never_the_gate(armo: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(armo)
    pattern = tokenizer(OPENING, add_special_tokens=False)["input_ids"]
    rows = [(words(0, 60), words(1, 10)), (words(0, 60), words(1, 60)), ("w1", words(1, 90))]
    for chat in encode(tokenizer, rows, 40):
        assert len(chat) == 40
        assert chat.ids[chat.gate : chat.gate + 5] == pattern
    assert all(len(chat) > 70 for chat in encode(tokenizer, rows, 1000))
    assert len(scored(armo, rows, max_length=40)) == 3


def test_the_heads_stay_in_float32(armo: Path) -> None:
    made: Any = open_scorer(ScorerConfig(name="multi-objective", model=str(armo), device="cpu", dtype="bfloat16"))
    found = list(made.score(ROWS[:3]))
    assert made._model.model.dtype == torch.bfloat16
    heads = [made._model.regression_layer.weight, made._model.reward_transform_matrix, *made._model.gating.parameters()]
    assert {weight.dtype for weight in heads} == {torch.float32}
    assert [one["total"] for one in found] == pytest.approx([one["total"] for one in scored(armo, ROWS[:3])], abs=0.1)


def test_weights_that_lack_the_gate_are_refused(armo: Path, tmp_path: Path) -> None:
    for file in armo.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = load_file(armo / "model.safetensors")
    del weights["gating.layers.3.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lack gating\.layers\.3\.weight: its scores would be random"):
        scored(tmp_path)


def test_a_template_that_opens_answers_another_way_is_refused(armo: Path, tmp_path: Path) -> None:
    for file in armo.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "chat_template.jinja").write_text("{% for m in messages %}<user> {{ m['content'] }} <bot> {% endfor %}")
    with pytest.raises(ModelError, match="does not open an answer as Llama 3's"):
        scored(tmp_path)
