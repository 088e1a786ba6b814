"""How alike texts are, given as vectors of length 1. Pure functions; rows may be sparse (TF-IDF) or dense (embeddings).

A row of zeros is a text without a known word: its cosine similarity to anything is 0.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Matrix = Any  # scipy.sparse.csr_matrix or NDArray[np.float32], [N, D]

PRODUCTS = 4_000_000  # similarities held at a time: what bounds the memory


def mean_similarity(vectors: Matrix, others: Matrix, among: NDArray[np.bool_]) -> Floats:
    """Mean cosine similarity of each of `vectors` [N, D] to `others` [M, D]: [N]; NaN where there is no other.

    `among` [N]: which of the vectors are themselves one of the others; that one is left out of the mean. SynPO
    (arXiv 2410.06961, figure 5) plots how these means are spread over 1,000 prompts and their embeddings.
    """
    # The mean of products is the product with the mean: no similarity of two texts need be computed.
    sums = np.asarray(vectors @ _sum(others)).ravel().astype(float)
    lengths = _squared_lengths(vectors)
    count = others.shape[0] - among
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(count > 0, (sums - among * lengths) / count, np.nan)
    return np.asarray(np.clip(means, -1, 1))


def nearest(vectors: Matrix, references: Matrix) -> tuple[Floats, NDArray[np.int64]]:
    """The highest cosine similarity of each of `vectors` [N, D] to one of `references` [M, D], and which: [N], [N].

    0..1: opposite is as far as unrelated. M must be at least 1.
    """
    step = max(1, PRODUCTS // references.shape[0])
    turned = references.T
    found = [_nearest(vectors[i : i + step] @ turned) for i in range(0, vectors.shape[0], step)]
    if not found:
        return np.zeros(0), np.zeros(0, np.int64)
    values, places = (np.concatenate(part) for part in zip(*found, strict=True))
    return np.clip(values, 0, 1), places


def _nearest(products: Matrix) -> tuple[Floats, NDArray[np.int64]]:
    # Dense: scipy's argmax sorts a sparse matrix first, which takes longer than everything else here.
    filled = products.toarray() if hasattr(products, "toarray") else products
    places = filled.argmax(axis=1).astype(np.int64)
    return np.take_along_axis(filled, places[:, None], 1).ravel().astype(float), places


def _sum(rows: Matrix) -> NDArray[np.float64]:
    return np.asarray(rows.sum(axis=0), float).ravel()


def _squared_lengths(rows: Matrix) -> Floats:
    squares = rows.multiply(rows) if hasattr(rows, "multiply") else rows * rows
    return np.asarray(squares.sum(axis=1), float).ravel()
