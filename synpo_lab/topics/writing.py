"""From a run's prompts to its topics, in bounded memory: a sample is looked at closely, the rest is placed by it.

  1. Read the prompts once and keep a sample of each group: seeds, evaluation prompts, the kept prompts of each round. Of
     seeds and evaluation prompts, which others are compared with, more is kept than is fitted on: all, as a rule.
  2. Fit on the samples: the vectors, their latent space, the topics with their labels, the map.
  3. Read the prompts again, in batches: topic and place of each; nearest seed and evaluation prompt; how alike to its
     own group's sample.

A sample holds the texts whose hashes are the smallest: the same whatever order they are read in. A million prompts of 40
words with 14,000 seeds took 7 minutes and 0.54 GB on one busy core; a pocket run's 1,900 take 3 to 5 s, half of it t-SNE.
"""

import heapq
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Literal

import numpy as np

from storage import RunStore
from storage.locks import hold_lock
from synpo_lab.diversity import Floats, Matrix, mean_similarity, nearest
from synpo_lab.errors import DataError
from synpo_lab.home import storage_errors
from synpo_lab.records import Prompt, Seed, Topic
from synpo_lab.topics.clusters import WORDLESS, Clusters, labels, number_of_topics
from synpo_lab.topics.plane import SAMPLE as ON_MAP
from synpo_lab.topics.plane import Plane
from synpo_lab.topics.vectors import SentenceVectors, TfidfVectors, Vectors
from synpo_lab.topics.words import LONGEST_TEXT

TFIDF = "tfidf"
MARK = "topics"  # the step's name among the run's markers
LOCK = "topics.lock"
SAMPLED = 30_000  # texts looked at closely, of all groups together
EMBEDDED = 5_000  # the same where each costs a pass of a model
COMPARED = 1_000  # prompts of a group that a prompt is compared with, as in SynPO's figure 5
REFERENCES = 20_000  # seeds, and evaluation prompts, at most, that a prompt's nearest is sought among
BATCH = 4_096
Kind = Literal["written", "seed", "evaluation"]
Group = tuple[Kind, int]  # and iteration
_KINDS: tuple[tuple[str, Kind], ...] = (("held-out", "evaluation"), ("kept", "written"))  # of a prompt, by its status


@dataclass(frozen=True, slots=True)
class Item:
    """A prompt or seed, cut to what is looked at. In a sample, items stand in the order of `rank`."""

    rank: int  # hash of the text: a random number that is always the same
    prompt_id: str
    text: str
    group: Group


@dataclass(frozen=True, slots=True)
class TopicsMade:
    """What was made of a run's prompts."""

    prompts: int  # rows written: prompts and seeds
    topics: int
    embeddings: str  # "tfidf", or the folder of the model
    seconds: float
    cut: str = ""  # in words: among how many of the seeds or evaluation prompts the nearest was sought, where not all


@dataclass
class Samples:
    """What is kept of the first reading: of each group the items of lowest rank, in that order.

    `size` of them are fitted on; of seeds and evaluation prompts REFERENCES are kept, to compare others with.
    """

    size: int
    by_group: dict[Group, list[tuple[int, str, Item]]] = field(default_factory=dict)
    seen: Counter[Kind] = field(default_factory=Counter)

    def add(self, item: Item) -> None:
        # A heap with the highest rank at its top, which is the one to go.
        heap = self.by_group.setdefault(item.group, [])
        entry = (-item.rank, item.prompt_id, item)
        if len(heap) < (self.size if item.group[0] == "written" else max(self.size, REFERENCES)):
            heapq.heappush(heap, entry)
        elif entry > heap[0]:
            heapq.heapreplace(heap, entry)
        self.seen[item.group[0]] += 1

    def of(self, group: Group) -> list[Item]:
        return [item for _, _, item in sorted(self.by_group.get(group, []), key=lambda entry: (-entry[0], entry[1]))]

    def references(self, kind: Kind) -> list[Item]:
        """The seeds or evaluation prompts that others are compared with: those of lowest rank."""
        kept = [item for group in self.by_group if group[0] == kind for item in self.of(group)]
        return sorted(kept, key=lambda item: (item.rank, item.prompt_id))[:REFERENCES]

    @property
    def cut(self) -> str:
        """In words, of which references there are more than others are compared with; "" where of none."""
        names: dict[Kind, str] = {"seed": "seeds", "evaluation": "evaluation prompts"}
        return "; ".join(
            f"the nearest was sought among {REFERENCES:,} of {self.seen[kind]:,} {name}"
            for kind, name in names.items()
            if self.seen[kind] > REFERENCES
        )

    def texts(self, limit: int) -> list[str]:
        """Different texts of all groups, in the order of their ranks."""
        ranks = {item.text: item.rank for group in self.by_group for item in self.of(group)[: self.size]}
        return sorted(ranks, key=lambda text: (ranks[text], text))[:limit]


def write_topics(
    run: RunStore, number: int | None = None, embeddings: str = TFIDF, count: Callable[[int], None] = lambda done: None
) -> TopicsMade:
    """Find the topics of a run's kept prompts, seeds and evaluation prompts, and write them in place of those there are.

    `number`: how many topics to look for, else as many as suits; `embeddings`: "tfidf" or the folder of a
    sentence-embedding model; `count` is told how many rows have been written. Raises DataError when the run has no prompts,
    StorageError when another process is at it, ModelError when the model cannot be read.
    """
    began = time.monotonic()
    with storage_errors(), _alone(run):
        samples = _samples(run, SAMPLED if embeddings == TFIDF else EMBEDDED)
        if not samples.by_group:
            raise DataError(
                f"run {run.run_id} has no prompts yet", hint="they come once the prompt generator is trained"
            )
        finder = _Finder(samples, number, embeddings)
        written = run.replace(Topic, _counted(finder.topics(_items(run)), count))
        made = TopicsMade(written, finder.number, embeddings, round(time.monotonic() - began, 3), samples.cut)
        run.mark(MARK, asdict(made))
    return made


class _Finder:
    """Everything fitted on the samples."""

    def __init__(self, samples: Samples, number: int | None, embeddings: str) -> None:
        texts = samples.texts(SAMPLED if embeddings == TFIDF else EMBEDDED)
        self._vectors: Vectors = (
            TfidfVectors(texts) if embeddings == TFIDF else SentenceVectors(Path(embeddings).expanduser())
        )
        rows = self._vectors.of(texts)
        reduced = self._vectors.reduced(rows)
        self._clusters = Clusters(reduced, number or number_of_topics(len(texts)))
        found = self._clusters.of(reduced)
        self.number = int(found.max()) + 1
        self._labels = [*labels(texts, found, self._clusters.wordless), WORDLESS]
        self._plane = Plane(reduced[: 2 * ON_MAP])
        self._seeds = _References(self._vectors, samples.references("seed"))
        self._evaluation = _References(self._vectors, samples.references("evaluation"))
        self._groups = {group: _Group(self._vectors, samples.of(group)[:COMPARED]) for group in samples.by_group}

    def topics(self, items: Iterable[Item]) -> Iterator[Topic]:
        for batch in _batches(items):
            yield from self._of(batch)

    def _of(self, batch: list[Item]) -> Iterator[Topic]:
        rows = self._vectors.of([item.text for item in batch])
        reduced = self._vectors.reduced(rows)
        topics, places = self._clusters.of(reduced), self._plane.of(reduced)
        group = batch[0].group
        seeds = self._seeds.nearest(batch, rows) if group[0] != "seed" else _NOTHING
        tests = self._evaluation.nearest(batch, rows) if group[0] != "evaluation" else _NOTHING
        alike = self._groups[group].alike(batch, rows)
        for i, item in enumerate(batch):
            seed, test = seeds.at(i), tests.at(i)
            yield Topic(
                iteration=group[1],
                prompt_id=item.prompt_id,
                topic=int(topics[i]),
                label=self._labels[topics[i]],
                x=float(places[i, 0]),
                y=float(places[i, 1]),
                novelty=None if seed is None else 1 - seed[0],
                overlap=None if test is None else test[0],
                similarity=None if np.isnan(alike[i]) else float(alike[i]),
                nearest_seed=None if seed is None else seed[1],
                nearest_evaluation=None if test is None else test[1],
                kind=group[0],
            )


@dataclass(frozen=True, slots=True)
class _Nearest:
    """The nearest of some references to each row: similarities, and their ids (None: nothing in common)."""

    similarities: Floats | None
    ids: list[str | None]

    def at(self, i: int) -> tuple[float, str | None] | None:
        return None if self.similarities is None else (float(self.similarities[i]), self.ids[i])


_NOTHING = _Nearest(None, [])


class _References:
    """Texts that others are compared with."""

    def __init__(self, vectors: Vectors, items: list[Item]) -> None:
        self._ids = [item.prompt_id for item in items]
        self._by_text = {item.text: item.prompt_id for item in reversed(items)}
        self._rows = vectors.of([item.text for item in items]) if items else None

    def nearest(self, batch: list[Item], rows: Matrix) -> _Nearest:
        if self._rows is None:
            return _NOTHING
        similarities, places = nearest(rows, self._rows)
        ids: list[str | None] = [
            self._ids[place] if value > 0 else None for value, place in zip(similarities, places, strict=True)
        ]
        # The same text is the nearest there can be, also where it has no word that the vectors know.
        for i, item in enumerate(batch):
            if (same := self._by_text.get(item.text)) is not None:
                similarities[i], ids[i] = 1.0, same
        return _Nearest(similarities, ids)


class _Group:
    """The prompts that those of a group are compared with."""

    def __init__(self, vectors: Vectors, items: list[Item]) -> None:
        self._ids = {item.prompt_id for item in items}
        self._rows = vectors.of([item.text for item in items])

    def alike(self, batch: list[Item], rows: Matrix) -> Floats:
        return mean_similarity(rows, self._rows, np.array([item.prompt_id in self._ids for item in batch]))


def _samples(run: RunStore, sampled: int) -> Samples:
    groups = 2 + len(run.iterations(Prompt))
    samples = Samples(max(COMPARED, sampled // groups))
    for item in _items(run):
        samples.add(item)
    return samples


def _items(run: RunStore) -> Iterator[Item]:
    """The seeds, the evaluation prompts and the kept prompts of a run, one group after the other."""
    for seed in run.read(Seed):
        yield _item(seed.seed_id, seed.prompt, ("seed", seed.iteration))
    for iteration in run.iterations(Prompt):
        for status, kind in _KINDS:
            for prompt in run.read(Prompt, iteration):
                if prompt.status == status:
                    yield _item(prompt.prompt_id, prompt.text, (kind, iteration))


def _item(prompt_id: str, text: str, group: Group) -> Item:
    cut = text[:LONGEST_TEXT]
    return Item(zlib.crc32(cut.encode("utf-8", "surrogatepass")), prompt_id, cut, group)


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Lists of items of one group, in the order given."""
    batch: list[Item] = []
    for item in items:
        if len(batch) == BATCH or (batch and batch[0].group != item.group):
            yield batch
            batch = []
        batch.append(item)
    if batch:
        yield batch


def _counted(topics: Iterable[Topic], count: Callable[[int], None]) -> Iterator[Topic]:
    topics = iter(topics)
    while chunk := list(islice(topics, BATCH)):
        yield from chunk
        count(len(chunk))


@contextmanager
def _alone(run: RunStore) -> Iterator[None]:
    """Two writers at once would each leave the other's rows."""
    busy = f"the topics of run {run.run_id} are being found by another process"
    with hold_lock(run.folder / LOCK, busy=busy, hint="wait until it is done"):
        yield
