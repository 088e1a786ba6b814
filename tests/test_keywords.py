import random
from collections import Counter
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.keywords import content_words, keyword_list, keyword_lists, sample


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Name three fruits but not plum.", ["name", "three", "fruits", "plum"]),
        ("Why did Marie visit the harbour?", ["visit", "harbour"]),
        ("What is the best way to cook rice? Tell me.", ["best", "way", "cook", "rice", "tell"]),
        ("rice rice RICE", ["rice"]),
        ("12 a of the", []),
        ("", []),
        ("naïve café — Straße", ["naïve", "café"]),
    ],
)
def test_content_words_leave_out_stop_words_numbers_and_names(text: str, words: list[str]) -> None:
    assert content_words(text) == words


@given(st.text())
def test_content_words_are_distinct_and_lower_case(text: str) -> None:
    words = content_words(text)
    assert len(words) == len(set(words))
    assert words == [word.lower() for word in words]


def test_a_list_holds_its_noise_and_the_rest_from_its_own_text() -> None:
    made = keyword_list(["rice", "cook", "pan"], ["moon"], per_prompt=3, rng=random.Random(0))
    assert made is not None
    assert len(made.words) == 3
    assert made.noise == ("moon",)
    assert set(made.words) - {"moon"} < {"rice", "cook", "pan"}


def test_a_text_with_too_few_words_gives_no_list() -> None:
    assert keyword_list(["rice"], ["moon"], per_prompt=3, rng=random.Random(0)) is None


def test_noise_that_is_a_word_of_the_text_is_no_noise() -> None:
    assert keyword_list(["rice", "cook", "moon"], ["moon"], per_prompt=3, rng=random.Random(0)) is None


PARAGRAPHS = ["cook rice pan water salt", "moon star night sky cloud", "car road wheel engine fuel"]
WORDS = [paragraph.split() for paragraph in PARAGRAPHS]


@pytest.mark.parametrize("noise", [0, 1, 2])
def test_lists_have_the_asked_size_and_noise_and_never_repeat(noise: int) -> None:
    lists = list(islice(keyword_lists(WORDS, per_prompt=3, noise=noise, rng=random.Random(1)), 20))
    assert len(lists) == 20
    assert all(len(made.words) == 3 and len(made.noise) == noise for made in lists)
    assert len({frozenset(made.words) for made in lists}) == 20
    for made in lists:
        own = set(made.words) - set(made.noise)
        assert any(own <= set(paragraph.split()) for paragraph in PARAGRAPHS)


def test_lists_end_when_nothing_new_can_be_drawn() -> None:
    assert len(list(keyword_lists([["cook", "rice", "pan"]], per_prompt=3, noise=0, rng=random.Random(0)))) == 1


def test_texts_without_words_give_no_lists() -> None:
    assert list(keyword_lists([[], []], per_prompt=2, noise=0, rng=random.Random(0))) == []


def test_the_same_seed_gives_the_same_lists() -> None:
    first, second = (
        list(islice(keyword_lists(WORDS, per_prompt=3, noise=1, rng=random.Random(5)), 9)) for _ in range(2)
    )
    assert first == second


def test_few_texts_are_all_kept_in_their_order_and_of_many_a_fair_sample() -> None:
    assert sample(iter(PARAGRAPHS), 3, random.Random(0)) == PARAGRAPHS
    counts = Counter(text for seed in range(2000) for text in sample(map(str, range(10)), 3, random.Random(seed)))
    assert sum(counts.values()) == 6000
    assert all(500 < count < 700 for count in counts.values())  # 600 on average, 20 the standard deviation
