"""Texts as vectors of length 1: TF-IDF by default, a sentence-embedding model when one is named."""

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from synpo_lab.diversity import Matrix
from synpo_lab.errors import ModelError
from synpo_lab.topics.words import LONGEST_TEXT, words

Dense = NDArray[np.float32]

VOCABULARY = 30_000  # words
DIMENSIONS = 50  # of the space in which topics are found
BATCH = 64  # texts embedded at once
LONGEST_TOKENS = 512


class Vectors(Protocol):
    """Turns texts into rows of length 1 (zeros: no known word), and rows into a few dimensions."""

    def of(self, texts: Sequence[str]) -> Matrix:
        """[N, D], sparse or dense."""

    def reduced(self, rows: Matrix) -> Dense:
        """[N, D] -> [N, d], of length 1 or 0."""


class TfidfVectors:
    """TF-IDF over the words of a sample, and its latent semantic space (truncated SVD) for distances between topics."""

    def __init__(self, sample: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer

        self._tfidf = TfidfVectorizer(analyzer=words, max_features=VOCABULARY, sublinear_tf=True, dtype=np.float32)
        counted = (
            sample if any(words(text) for text in sample) else [*sample, "empty"]
        )  # an empty vocabulary is refused
        self._reduce = _latent_space(self._tfidf.fit_transform(counted))

    def of(self, texts: Sequence[str]) -> Matrix:
        return self._tfidf.transform(texts)

    def reduced(self, rows: Matrix) -> Dense:
        return self._reduce(rows)


def _latent_space(rows: Matrix) -> Callable[[Matrix], Dense]:
    from sklearn.decomposition import TruncatedSVD

    dimensions = min(DIMENSIONS, rows.shape[1] - 1, rows.shape[0])
    if dimensions < 2:
        return lambda given: given.toarray()
    space = TruncatedSVD(dimensions, random_state=0)
    # It divides by the total variance, which is 0 when all texts are equal.
    with np.errstate(invalid="ignore", divide="ignore"):
        space.fit(rows)
    return lambda given: _of_length_1(space.transform(given))


class SentenceVectors:
    """A local sentence-embedding model: its last hidden states pooled as its folder says, the mean where it is silent.

    What sentence-transformers computes, without that package: https://sbert.net/docs/sentence_transformer/usage/usage.html
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "config.json").is_file():
            raise ModelError(
                f"{folder} is no model folder: it has no config.json",
                hint="name a local sentence-embedding model such as a download of all-MiniLM-L6-v2, or `tfidf`",
            )
        self._tokenizer, self._model = _loaded(folder)
        self._pool = _pooling(folder)

    def of(self, texts: Sequence[str]) -> Matrix:
        import torch

        with torch.inference_mode():
            made = [self._batch(texts[i : i + BATCH]) for i in range(0, len(texts), BATCH)]
        return np.concatenate(made) if made else np.zeros((0, self._model.config.hidden_size), np.float32)

    def reduced(self, rows: Matrix) -> Dense:
        return np.asarray(rows)

    def _batch(self, texts: Sequence[str]) -> Dense:
        given = self._tokenizer(
            [text[:LONGEST_TEXT] for text in texts],
            padding=True,
            truncation=True,
            max_length=min(LONGEST_TOKENS, self._tokenizer.model_max_length),
            return_tensors="pt",
        )
        hidden = self._model(**given).last_hidden_state
        return _of_length_1(self._pool(hidden, given["attention_mask"]).float().numpy())


def _loaded(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging as progress

    progress.disable_progress_bar()
    logging.getLogger("transformers.modeling_utils").setLevel(logging.ERROR)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model = AutoModel.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype="float32"
        )
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"the embedding model {folder} cannot be read: {error}",
            hint="it needs config.json, tokenizer.json and model.safetensors",
        ) from None
    return tokenizer, model.eval()


def _pooling(folder: Path) -> Callable[[Any, Any], Any]:
    path = folder / "1_Pooling" / "config.json"
    told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return _first if told.get("pooling_mode_cls_token") or told.get("pooling_mode") == "cls" else _mean


def _mean(hidden: Any, mask: Any) -> Any:
    """[B, T, D], [B, T] -> [B, D]; rows without a token give zeros."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1).clamp(min=1)


def _first(hidden: Any, mask: Any) -> Any:
    return hidden[:, 0]


def _of_length_1(rows: NDArray[Any]) -> Dense:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-9), np.float32)
