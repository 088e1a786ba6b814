"""Topics and their labels, by hand and for any rows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from synpo_lab.topics.clusters import MOST_TOPICS, WORDLESS, Clusters, labels, number_of_topics
from synpo_lab.topics.plane import FEWEST, Plane
from synpo_lab.topics.vectors import TfidfVectors

FRUIT = [f"name {n} fruits such as plum or fig" for n in "two three four five".split()]
SORTED = [f"sort this list of {what} by the alphabet" for what in "towns birds words".split()]


def test_two_kinds_of_prompts_are_two_topics_the_larger_first() -> None:
    texts = [*SORTED, *FRUIT]
    vectors = TfidfVectors(texts)
    rows = vectors.reduced(vectors.of(texts))
    found = Clusters(rows, 2).of(rows)
    assert adjusted_rand_score([1, 1, 1, 0, 0, 0, 0], found) == 1
    assert found.tolist() == [1, 1, 1, 0, 0, 0, 0]


def test_a_label_is_what_tells_a_topic_from_the_others_by_hand() -> None:
    """Two topics of 4 words each, so A = 4. Topic 0: "plum" 2/4 log(1 + 4/2) = .549, "list" 2/4 log(1 + 4/3) = .424;
    topic 1: "town" 3/4 log(1 + 4/3) = .635, "list" 1/4 log(1 + 4/3) = .212."""
    assert labels(["plum plum list list", "town town town list"], np.array([0, 1]), 2) == ["plum, list", "town, list"]


def test_function_words_are_left_out_of_labels_unless_there_is_nothing_else() -> None:
    assert labels(["what is the plum", "what is the"], np.array([0, 1]), 2) == ["plum", "is, the, what"]


def test_a_topic_without_words_says_so() -> None:
    assert labels(["", "!!!"], np.array([0, 0]), 1) == [WORDLESS]
    assert labels(["plum", "!!!"], np.array([0, 1]), 2) == ["plum", WORDLESS]


@pytest.mark.parametrize(
    ("texts", "number"), [(0, 1), (1, 1), (100, 4), (800, 10), (2_600, 18), (1_000_000, MOST_TOPICS)]
)
def test_the_number_of_topics_grows_with_the_square_root(texts: int, number: int) -> None:
    assert number_of_topics(texts) == number


def test_rows_of_zeros_are_a_topic_of_their_own() -> None:
    rows = np.array([[1, 0], [0, 1], [0, 0]], np.float32)
    clusters = Clusters(rows, 2)
    assert clusters.of(rows)[2] == clusters.wordless == 2
    assert Clusters(np.zeros((3, 2), np.float32), 4).of(np.zeros((3, 2), np.float32)).tolist() == [0, 0, 0]


def test_more_topics_than_different_texts_are_not_made() -> None:
    rows = np.tile(np.array([[1, 0], [0, 1]], np.float32), (20, 1))
    assert Clusters(rows, 9).of(rows).max() == 1


@settings(max_examples=10)
@given(st.integers(1, 40), st.integers(0, 3))
def test_a_map_is_finite_within_its_square_and_always_the_same(n: int, seed: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(n, 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    one, other = Plane(rows).of(rows), Plane(rows).of(rows)
    assert np.isfinite(one).all()
    assert np.abs(one).max() <= 1 + 1e-9
    assert (one == other).all()


def test_equal_texts_stand_at_one_place_and_unlike_kinds_apart() -> None:
    texts = [f"{text} {i}" for i in range(FEWEST) for text in (FRUIT[0], SORTED[0])] + [FRUIT[0]] * 2
    vectors = TfidfVectors(texts)
    rows = vectors.reduced(vectors.of(texts))
    places = Plane(rows).of(rows)
    assert places[-1] == pytest.approx(places[-2])
    fruit, lists = places[: 2 * FEWEST : 2], places[1 : 2 * FEWEST : 2]
    across = np.linalg.norm(fruit.mean(0) - lists.mean(0))
    assert across > 2 * max(np.linalg.norm(kind - kind.mean(0), axis=1).mean() for kind in (fruit, lists))


def test_a_label_has_no_markup_and_no_words_every_request_is_made_of() -> None:
    texts = ["I'm told: know <br><br/>&nbsp; I want, given the following, volcano &amp; lava"] * 3
    texts += ["don't use <b class='x'>trumpet</b> music; tell what’s needed, a < b and c > d"] * 3
    one, other = labels(texts, np.array([0, 0, 0, 1, 1, 1]), 2)
    assert {"volcano", "lava"} <= set(one.split(", "))
    assert {"trumpet", "music"} <= set(other.split(", "))
    assert labels(["<br>", "&nbsp;"], np.array([0, 0]), 1) == [WORDLESS]
    assert not {"br", "nbsp", "amp", "class", "i'm", "know", "want", "given", "don't"} & set(
        f"{one}, {other}".split(", ")
    )
