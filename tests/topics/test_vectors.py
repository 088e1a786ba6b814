"""Vectors by TF-IDF, and by a small sentence-embedding model made here."""

import json
from pathlib import Path

import numpy as np
import pytest

from storage import RunStore
from synpo_lab.errors import ModelError
from synpo_lab.records import Topic
from synpo_lab.topics import write_topics
from synpo_lab.topics.vectors import SentenceVectors, TfidfVectors
from tests.plausible_run import write_run

TEXTS = ["name two fruits", "sort this list", "name three fruits", ""]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights, in the layout of a sentence-embedding model."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("model")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({word for text in TEXTS for word in text.split()})]
    tokenizer = Tokenizer(WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(words), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


def test_tfidf_rows_have_length_one_or_no_known_word() -> None:
    vectors = TfidfVectors(TEXTS)
    rows = vectors.of([*TEXTS, "xyzzy"])
    lengths = (
        np.sqrt(rows.multiply(rows).sum(1)).A1 if hasattr(rows.sum(1), "A1") else np.linalg.norm(rows.toarray(), axis=1)
    )
    assert lengths == pytest.approx([1, 1, 1, 0, 0], abs=1e-6)
    reduced = np.linalg.norm(vectors.reduced(rows), axis=1)
    assert reduced == pytest.approx([1, 1, 1, 0, 0], abs=1e-5)


@pytest.mark.slow
def test_sentence_vectors_are_the_mean_over_the_text_s_tokens_whatever_it_is_padded_to(model: Path) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    rows = SentenceVectors(model).of(TEXTS)
    tokenizer, bert = AutoTokenizer.from_pretrained(model), AutoModel.from_pretrained(model).eval()
    for row, text in zip(rows, TEXTS, strict=True):
        with torch.inference_mode():
            mean = bert(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).numpy()
        assert row == pytest.approx(mean / np.linalg.norm(mean), abs=1e-4)


@pytest.mark.slow
def test_a_model_that_pools_by_its_first_token_is_pooled_so(model: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "first"
    shutil.copytree(model, folder)
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": True}))
    first, mean = SentenceVectors(folder).of(TEXTS), SentenceVectors(model).of(TEXTS)
    assert np.linalg.norm(first, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    assert np.abs(first - mean).max() > 1e-3


@pytest.mark.slow
def test_a_run_s_topics_by_a_model(model: Path, tmp_path: Path) -> None:
    run: RunStore = write_run(tmp_path, iterations=1, prompts=20)
    made = write_topics(run, 3, str(model))
    assert (made.embeddings, made.topics) == (str(model), 3)
    assert all(0 <= row.novelty <= 1 for row in run.read(Topic) if row.novelty is not None)


@pytest.mark.slow
def test_a_broken_model_is_a_mistake_with_a_hint(model: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError, match="cannot be read") as caught:
        SentenceVectors(tmp_path)
    assert "model.safetensors" in caught.value.hint
