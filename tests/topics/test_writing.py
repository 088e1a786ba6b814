"""A run's topics, written whole."""

import math
import multiprocessing
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from storage import RunStore, Store
from storage.locks import hold_lock
from synpo_lab.errors import DataError, ModelError, StorageError
from synpo_lab.records import Prompt, Seed, Topic, content_id
from synpo_lab.topics import write_topics, writing
from synpo_lab.topics.words import words
from tests.plausible_run import write_run

SEEDS = ["name two fruits", "is a plum a fruit?"]
TESTS = ["name three rivers", "sort this list: b, a"]
ROUNDS = {1: ["name two rivers", "name two fruits please", ""], 2: ["sort this list: d, c", "xyzzy", "你好吗"]}


def prompt(t: int, text: str, status: Any = "kept") -> Prompt:
    return Prompt(t, content_id("prompt", text), text, [], None, "generator", status, None)


@pytest.fixture
def run(tiny_store: Callable[..., Store]) -> RunStore:
    records = [
        *(Seed(0, content_id("prompt", text), text, "gold", "train") for text in SEEDS),
        *(prompt(0, text, "held-out") for text in TESTS),
        *(prompt(t, text) for t, texts in ROUNDS.items() for text in texts),
        prompt(1, "dropped", "dropped"),
    ]
    return tiny_store(records).run("run")


def by_text(run: RunStore) -> dict[str, Topic]:
    ids = {content_id("prompt", text): text for text in [*SEEDS, *TESTS, *ROUNDS[1], *ROUNDS[2]]}
    return {ids[made.prompt_id]: made for made in run.read(Topic)}


def test_seeds_evaluation_and_kept_prompts_get_a_row_each_and_no_other(run: RunStore) -> None:
    made = write_topics(run)
    rows = list(run.read(Topic))
    assert (made.prompts, len(rows)) == (10, 10)
    assert sorted((row.iteration, row.kind) for row in rows) == [
        (0, "evaluation"), (0, "evaluation"), (0, "seed"), (0, "seed"), *[(1, "written")] * 3, *[(2, "written")] * 3,
    ]  # fmt: skip
    marker = run.marker("topics")
    assert marker is not None
    assert (marker["prompts"], marker["topics"]) == (made.prompts, made.topics)


def test_novelty_and_overlap_are_those_of_scikit_learn(run: RunStore) -> None:
    write_topics(run)
    texts = [*SEEDS, *TESTS, *ROUNDS[1], *ROUNDS[2]]
    table = cosine_similarity(TfidfVectorizer(analyzer=words, sublinear_tf=True).fit_transform(texts))
    found = by_text(run)
    for place, text in enumerate(texts):
        row, to_seeds, to_tests = found[text], table[place][:2], table[place][2:4]
        if row.kind == "seed":
            assert row.novelty is None
        else:
            assert row.novelty == pytest.approx(1 - to_seeds.max(), abs=1e-5)
            expected = content_id("prompt", SEEDS[int(to_seeds.argmax())]) if to_seeds.max() > 0 else None
            assert row.nearest_seed == expected
        if row.kind == "evaluation":
            assert row.overlap is None
        else:
            assert row.overlap == pytest.approx(to_tests.max(), abs=1e-5)
    first = [4, 5, 6]
    assert found[ROUNDS[1][0]].similarity == pytest.approx(table[4][first].sum() / 2 - 0.5, abs=1e-5)


def test_a_copy_of_an_evaluation_prompt_overlaps_wholly_even_without_words(tiny_store: Callable[..., Store]) -> None:
    run = tiny_store([prompt(0, "!!!", "held-out"), prompt(0, "name a fruit", "held-out")]).run("run")
    run.append([Prompt(1, f"{n}", text, [], None, "import", "kept", None) for n, text in enumerate(["!!!", "???"])])
    write_topics(run)
    overlaps = [row.overlap for row in run.read(Topic, 1)]
    assert overlaps == [1.0, 0.0]


def test_the_nearest_is_sought_among_all_seeds_however_few_are_fitted_on(
    tiny_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The samples that the vectors are fitted on hold 5 of the 40 seeds; a copy of any seed still has novelty 0."""
    monkeypatch.setattr(writing, "COMPARED", 5)
    monkeypatch.setattr(writing, "SAMPLED", 15)
    texts = [f"name {n} fruits of kind {n * n}" for n in range(40)]
    seeds = [Seed(0, content_id("prompt", text), text, "gold", "train") for text in texts]
    run = tiny_store([*seeds, *(prompt(1, text) for text in texts)]).run("run")
    made = write_topics(run)
    written = [row for row in run.read(Topic) if row.kind == "written"]
    assert [(row.novelty, row.nearest_seed) for row in written] == [(0.0, row.prompt_id) for row in written]
    assert made.cut == ""


def test_more_seeds_than_can_be_compared_with_are_cut_and_that_is_told(
    tiny_store: Callable[..., Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "REFERENCES", 3)
    monkeypatch.setattr(writing, "COMPARED", 2)
    monkeypatch.setattr(writing, "SAMPLED", 4)
    seeds = [Seed(0, content_id("prompt", str(n)), f"name {n} fruits", "gold", "train") for n in range(9)]
    run = tiny_store([*seeds, prompt(1, "name 3 fruits")]).run("run")
    write_topics(run)
    assert (run.marker("topics") or {})["cut"] == "the nearest was sought among 3 of 9 seeds"


def test_finding_topics_again_replaces_them_and_gives_the_same(run: RunStore) -> None:
    write_topics(run)
    before = list(run.read(Topic))
    write_topics(run)
    assert list(run.read(Topic)) == before


def test_the_number_of_topics_can_be_asked_for(run: RunStore) -> None:
    assert write_topics(run, 2).topics == 3  # and one of prompts without words


@pytest.mark.parametrize(
    "texts", [["same"] * 20, [""] * 20, ["a b", "b a"], ["one"], ["你好"] * 5, ["\0\ud800", "x" * 99_999]]
)
def test_odd_prompts_get_topics_too(tiny_store: Callable[..., Store], texts: list[str]) -> None:
    run = tiny_store([Prompt(1, f"{n}", text, [], None, "import", "kept", None) for n, text in enumerate(texts)]).run(
        "run"
    )
    assert write_topics(run).prompts == len(texts)
    for row in run.read(Topic):
        assert math.isfinite(row.x + row.y)
        assert (row.novelty, row.overlap) == (None, None)
        assert row.similarity is None or -1 <= row.similarity <= 1


def test_values_stay_in_their_ranges_on_a_plausible_run(tmp_path: Path) -> None:
    run = write_run(tmp_path, iterations=2, prompts=60)
    write_topics(run)
    rows = list(run.read(Topic))
    assert all(0 <= value <= 1 for row in rows for value in (row.novelty, row.overlap) if value is not None)
    assert all(max(abs(row.x), abs(row.y)) <= 1 + 1e-9 for row in rows)
    assert len({row.label for row in rows}) == len({row.topic for row in rows})


def test_a_sample_gives_the_places_of_all(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "BATCH", 2)
    assert write_topics(run).prompts == 10


def test_progress_is_told_in_rows(run: RunStore) -> None:
    told: list[int] = []
    write_topics(run, count=told.append)
    assert sum(told) == 10


def test_a_run_without_prompts_has_no_topics(tiny_store: Callable[..., Store]) -> None:
    with pytest.raises(DataError, match="no prompts yet"):
        write_topics(tiny_store([]).run("run"))


def test_two_processes_do_not_write_the_topics_of_a_run_at_once(run: RunStore) -> None:
    with hold_lock(run.folder / "topics.lock", busy="busy"), pytest.raises(StorageError, match="by another process"):
        write_topics(run)


def test_a_folder_that_is_no_model_is_a_mistake(run: RunStore, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder"):
        write_topics(run, embeddings=str(tmp_path))


@pytest.mark.slow
@pytest.mark.thorough
def test_memory_does_not_grow_with_the_number_of_prompts(tiny_store: Callable[..., Store]) -> None:
    store = tiny_store([prompt(1, f"name {n % 977} fruits like number {n}") for n in range(60_000)])
    few, many = (_peak(store, rows) for rows in (30_000, 60_000))
    assert many < few + 150_000_000


def _peak(store: Store, rows: int) -> int:
    """Bytes a process of its own needs at most to find the topics of the first `rows` prompts."""
    name = f"of-{rows}"
    run = store.create_run(name, "recipe: import\n", {})
    run.append(record for n, record in enumerate(store.run("run").read(Prompt)) if n < rows)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (store.home, name))


def _measured(home: Path, name: str) -> int:
    from synpo_lab.home import open_store

    write_topics(open_store(home).run(name))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
