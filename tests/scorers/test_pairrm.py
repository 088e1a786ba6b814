"""PairRM: a small DeBERTa under the published parameter names, against the published forward pass done by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from synpo_lab.config import ScorerConfig
from synpo_lab.errors import ModelError
from synpo_lab.scorers import open_scorer
from synpo_lab.scorers.base import against_anchors
from synpo_lab.scorers.pairrm import ONE, OTHER, SOURCE, DebertaV2Config, DebertaV2Model, PairRM
from tests.scorers.tiny_scorers import WORDS, classifier, save, words

PROMPT, LEFT, RIGHT = "w1 w2 w3", "w4 w5", "w6 w7 w8 w9"


def markers_tokenizer() -> PreTrainedTokenizerFast:
    names = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", SOURCE, ONE, OTHER, *(f"w{i}" for i in range(WORDS))]
    tokenizer = Tokenizer(WordLevel({name: i for i, name in enumerate(names)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]", unk_token="[UNK]",
        additional_special_tokens=[SOURCE, ONE, OTHER],
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As llm-blender/PairRM-hf lies on the Hub: pretrained_model.*, head_layer.1.*, head_layer.4.*, ids in the config."""
    made = tmp_path_factory.mktemp("pairrm") / "PairRM"
    tokenizer = markers_tokenizer()
    torch.manual_seed(0)
    config = DebertaV2Config(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=512, relative_attention=True, position_buckets=16, pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm", share_att_key=True, position_biased_input=False, type_vocab_size=0, pad_token_id=0,
        initializer_range=0.5, hidden_dropout_prob=0.1, n_tasks=1, drop_out=0.05,
        source_prefix_id=4, cand1_prefix_id=5, cand2_prefix_id=6, sep_token_id=2,
    )  # fmt: skip
    inner = DebertaV2Model(config)
    weights = {f"pretrained_model.{name}": value for name, value in inner.state_dict().items()}
    weights |= {
        "head_layer.1.weight": torch.randn(32, 64) / 4, "head_layer.1.bias": torch.randn(32),
        "head_layer.4.weight": torch.randn(1, 32), "head_layer.4.bias": torch.randn(1),
    }  # fmt: skip
    made.mkdir()
    tokenizer.save_pretrained(made)
    save_file(weights, made / "model.safetensors", metadata={"format": "pt"})
    (made / "config.json").write_text(config.to_json_string(use_diff=False))
    return made


def ranker(folder: Path, **changes: Any) -> PairRM:
    made = open_scorer(ScorerConfig(name="pairwise", model=str(folder), **{"device": "cpu", **changes}))
    assert isinstance(made, PairRM)
    return made


@torch.inference_mode()
def by_hand(folder: Path, prompt: str, one: str, other: str) -> float:
    """f(one, other): hidden states of a plain DebertaV2Model at the three markers, and the head's two layers written out."""
    weights = load_file(folder / "model.safetensors")
    model = DebertaV2Model(DebertaV2Config(**json.loads((folder / "config.json").read_text()))).eval()
    prefix = "pretrained_model."
    model.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
    tokenizer = markers_tokenizer()
    ids = [
        id
        for mark, text in ((SOURCE, prompt), (ONE, one), (OTHER, other))
        for id in tokenizer(mark + " " + text)["input_ids"]
    ]
    states = model(input_ids=torch.tensor([ids])).last_hidden_state[0]
    source, left, right = (states[ids.index(tokenizer.convert_tokens_to_ids(mark))] for mark in (SOURCE, ONE, OTHER))

    def head(side: torch.Tensor) -> torch.Tensor:
        inner = torch.tanh(weights["head_layer.1.weight"] @ torch.cat([source, side]) + weights["head_layer.1.bias"])
        return weights["head_layer.4.weight"] @ inner + weights["head_layer.4.bias"]

    return float(head(left) - head(right))


def test_the_number_is_the_published_forward_in_both_orders(folder: Path) -> None:
    there, back = by_hand(folder, PROMPT, LEFT, RIGHT), by_hand(folder, PROMPT, RIGHT, LEFT)
    [found] = ranker(folder).compare([(PROMPT, LEFT, RIGHT)])
    assert found == {"total": pytest.approx((there - back) / 2, abs=1e-5), "order": float(there * back < 0)}
    assert abs(there + back) > 1e-3  # one order alone would say something else


def test_swapping_the_answers_swaps_the_sign(folder: Path) -> None:
    rows = [(words(i, 3), words(i + 1, 1 + i % 7), words(i + 5, 1 + i % 4)) for i in range(30)]
    made = ranker(folder, batch_size=4)
    there = [found["total"] for found in made.compare(rows)]
    back = [found["total"] for found in made.compare((prompt, other, one) for prompt, one, other in rows)]
    assert there == pytest.approx([-value for value in back], abs=1e-5)
    assert len(set(there)) == 30


@settings(max_examples=15)
@given(prompt=st.text(max_size=60), one=st.text(max_size=60), other=st.text(max_size=60))
def test_any_texts_give_a_finite_number_of_a_turning_sign(folder: Path, prompt: str, one: str, other: str) -> None:
    [there, back] = ranker(folder).compare([(prompt, one, other), (prompt, other, one)])
    assert there["total"] == pytest.approx(-back["total"], abs=1e-5)


def test_batches_give_what_single_rows_give(folder: Path) -> None:
    rows = [(words(i, 1 + i % 5), words(i, 1 + i % 9), words(i + 3, 1 + i % 6)) for i in range(20)]
    alone = list(ranker(folder, batch_size=1).compare(rows))
    assert list(ranker(folder, batch_size=16).compare(rows)) == [pytest.approx(one, abs=1e-4) for one in alone]


def test_markers_inside_a_text_are_not_taken_for_ours(folder: Path) -> None:
    made = ranker(folder)
    [row] = made._encode([(f"w1 {OTHER} w2 {ONE}", f"w3 {SOURCE}", f"w4 {ONE}")])
    assert [row.ids[place] for place in row.marks] == [4, 5, 6]
    assert row.marks[0] == 1
    assert row.ids[row.marks[1] - 1] == row.ids[row.marks[2] - 1] == 1  # each behind the [CLS] of its own part


def test_long_texts_are_cut_and_the_prompts_room_goes_to_the_answers(folder: Path) -> None:
    made = ranker(folder)
    [row] = made._encode([("w1", words(0, 5000), words(3, 5000))])
    assert len(row) <= 2048
    assert len(row) > 2000
    [cut] = made._encode([(words(0, 5000), words(0, 5000), words(3, 5000))])
    assert cut.marks[1] == 1224 + 1
    assert len(list(made.compare([(words(0, 900), "w1", words(3, 900))]))) == 1


def test_a_batch_that_does_not_fit_is_halved(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(words(i, 3), words(i, 4), words(i + 1, 5)) for i in range(10)]
    made, plain = ranker(folder, batch_size=8), ranker(folder)
    whole = made._numbers

    def tight(batch: list[Any]) -> list[float]:
        if len(batch) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return whole(batch)

    monkeypatch.setattr(made, "_numbers", tight)
    assert list(made.compare(rows)) == [pytest.approx(one, abs=1e-4) for one in plain.compare(rows)]


def test_what_is_no_pairrm_is_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelError, match=r"is no PairRM: its tokenizer has no <\|source\|>") as caught:
        list(ranker(save(classifier(), tmp_path / "rm")).compare([(PROMPT, LEFT, RIGHT)]))
    assert "reward-model" in caught.value.hint
    other = tmp_path / "no head"
    other.mkdir()
    for file in folder.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    weights = {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("head_layer")}
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="scores would be random"):
        list(ranker(other).compare([(PROMPT, LEFT, RIGHT)]))


def test_the_gap_to_the_anchor_is_the_rankers_own_number(folder: Path) -> None:
    made = ranker(folder)
    [against] = made.compare([(PROMPT, LEFT, RIGHT)])
    best, anchor = against_anchors(made, [(PROMPT, LEFT), (PROMPT, RIGHT)], {PROMPT: RIGHT})
    assert anchor == {"total": 0.0}
    assert best["total"] - anchor["total"] == pytest.approx(against["total"])
