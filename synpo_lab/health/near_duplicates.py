"""Prompts that are nearly another prompt, by MinHash and locality-sensitive hashing.

A prompt is the set of its word 3-grams; two are near-duplicates when their Jaccard similarity is about THRESHOLD or more
(Lee et al., arXiv 2107.06499, do the same with 5-grams of tokens of documents; prompts are short). Signatures of PERM
numbers are datasketch's; their bands of ROWS numbers are brought together by sorting columns of an array instead of
datasketch's MinHashLSH, whose dictionaries of sets took 5.5 kB per prompt where this took 0.6 (20,000 prompts).
"""

import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from synpo_lab.health.check import Check, Rows, sizes
from synpo_lab.health.facts import Facts
from synpo_lab.health.report import CheckResult
from synpo_lab.health.words import shingles

Signatures = NDArray[np.uint32]

NGRAM = 3
PERM = 64
ROWS = 4  # numbers per band: prompts of similarity .8 share one of the 16 bands with probability .9998
THRESHOLD = 0.8
MOST = 1_000_000  # different prompts; 256 MB of signatures
START = 1_024

NEAR_DUPLICATE = Check(
    "near-duplicate prompt", "rows",
    f"Another prompt of the data is nearly the same text (estimated Jaccard similarity of word 3-grams {THRESHOLD:g} or more), "
    "but not exactly: its subject weighs more than you may think, and copies can lie on both sides of a split.",
    "Keep one per cluster. Several pairs of exactly the same prompt are not counted here.", 0.05, 0.25,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cluster:
    """Where a prompt stands: the first prompt of its cluster, its likeness to it or to a neighbour, and how many there are."""

    first: int
    similarity: float
    prompts: int


class Prompts:
    """Signatures of different prompts, as they come."""

    def __init__(self, most: int = MOST) -> None:
        from datasketch import MinHash

        self._sketch = MinHash(num_perm=PERM, hashfunc=zlib.crc32)
        self._signatures = np.zeros((START, PERM), np.uint32)
        self._most = most
        self.keys: list[int] = []
        self.left_out = 0

    def add(self, key: int, text: str) -> None:
        """`key` is the prompt's; each is to be given once."""
        grams = shingles(text, NGRAM)
        if not grams or len(self.keys) >= self._most:
            self.left_out += bool(grams)
            return
        sketch = self._sketch
        sketch.clear()
        sketch.update_batch([gram.encode("utf-8", "surrogatepass") for gram in grams])
        if len(self.keys) == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.zeros_like(self._signatures)])
        self._signatures[len(self.keys)] = sketch.hashvalues
        self.keys.append(key)

    def clusters(self) -> dict[int, Cluster]:
        """By place in `keys`: every prompt that is near another."""
        return clusters(self._signatures[: len(self.keys)])


def clusters(signatures: Signatures) -> dict[int, Cluster]:
    """Every row [N, PERM] that is near another, joined through neighbours.

    Within a band, rows with equal numbers are compared with the first of them and the one before, not all with all: a
    template that a million prompts share costs a million comparisons.
    """
    parent = np.arange(len(signatures))
    likeness: dict[int, float] = {}
    for start in range(0, PERM, ROWS):
        for one, other in _candidates(np.ascontiguousarray(signatures[:, start : start + ROWS])):
            same = (signatures[one] == signatures[other]).mean(axis=1)
            for a, b, alike in zip(
                one[same >= THRESHOLD], other[same >= THRESHOLD], same[same >= THRESHOLD], strict=True
            ):
                likeness[int(a)] = max(likeness.get(int(a), 0.0), float(alike))
                likeness[int(b)] = max(likeness.get(int(b), 0.0), float(alike))
                _join(parent, int(a), int(b))
    roots = {place: _root(parent, place) for place in likeness}
    counts = Counter(roots.values())
    return {place: Cluster(roots[place], likeness[place], counts[roots[place]]) for place in sorted(likeness)}


def near_duplicates(facts: Facts, prompts: Prompts) -> tuple[CheckResult, Rows]:
    """The pairs whose prompt is near another one."""
    found = prompts.clusters()
    by_key = {prompts.keys[place]: cluster for place, cluster in found.items()}
    near = np.isin(facts.prompt_key, np.fromiter(by_key, np.int64))
    example: dict[int, int] = {}
    rows: dict[int, tuple[float | None, str]] = {}
    for row in np.flatnonzero(near):
        cluster = by_key[int(facts.prompt_key[row])]
        first = example.setdefault(cluster.first, int(row))
        rows[int(row)] = (cluster.similarity, f"{cluster.prompts} prompts like {facts.id_of(first)}")
    plot = sizes("Sizes of clusters of near-duplicates", "prompts in the cluster", "clusters",
                 Counter(cluster.first for cluster in found.values()).values())  # fmt: skip
    note = f"{prompts.left_out:,} prompts beyond the first {MOST:,} were not compared" if prompts.left_out else ""
    return NEAR_DUPLICATE.result(facts, rows, plot=plot, note=note), rows


def _candidates(band: NDArray[np.uint32]) -> Iterable[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs of places whose rows [N, ROWS] of the band are equal: with the first such row, and with the one before."""
    keys = band.view(np.dtype((np.void, band.dtype.itemsize * ROWS))).ravel()
    order = np.argsort(keys, kind="stable")
    fresh = np.ones(len(order), bool)
    fresh[1:] = keys[order[1:]] != keys[order[:-1]]
    first = order[np.maximum.accumulate(np.where(fresh, np.arange(len(order)), 0))]
    others = np.flatnonzero(~fresh)
    yield order[others], first[others]
    later = others[first[others] != order[others - 1]]
    yield order[later], order[later - 1]


def _root(parent: NDArray[np.int64], place: int) -> int:
    while parent[place] != place:
        parent[place] = parent[parent[place]]
        place = int(parent[place])
    return place


def _join(parent: NDArray[np.int64], one: int, other: int) -> None:
    a, b = _root(parent, one), _root(parent, other)
    parent[max(a, b)] = min(a, b)
