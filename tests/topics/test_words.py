from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.topics.words import LONGEST_TEXT, LONGEST_WORD, words


def test_words_are_case_folded_and_keep_their_apostrophes() -> None:
    assert words("What's NEW, Straße 7?") == ["what's", "new", "strasse", "7"]


def test_a_word_keeps_its_combining_marks() -> None:
    assert words("हिन्दी में") == ["हिन्दी", "में"]


def test_scripts_without_spaces_are_counted_in_pairs() -> None:
    assert words("你好吗 GPT4很好") == ["你好", "好吗", "gpt4", "很好"]
    assert words("好") == ["好"]


def test_rubbish_has_no_words() -> None:
    assert words("") == words(" \0\n--- !!! ") == words("A" * (LONGEST_WORD + 1)) == []


def test_a_huge_text_is_looked_at_as_far_as_it_is_useful() -> None:
    assert len(words("ab " * 1_000_000)) <= LONGEST_TEXT


@given(st.text())
def test_no_text_is_refused_and_no_word_is_empty(text: str) -> None:
    assert all(word and not word.isspace() for word in words(text))
