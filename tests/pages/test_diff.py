"""Word-level differences."""

import time

from hypothesis import given
from hypothesis import strategies as st

from pages.diff import LONGEST, Span, as_html, word_diff


def text_of(spans: list[Span]) -> str:
    return "".join(span.text for span in spans)


def test_what_went_and_what_came_are_told_apart_without_colours() -> None:
    found = word_diff("sure! apple, ant and fig.", "sure! apple, cherry and fig.")
    assert found is not None
    assert as_html(found[0]) == "sure! apple, <del>ant </del>and fig."
    assert as_html(found[1]) == "sure! apple, <ins>cherry </ins>and fig."


def test_equal_texts_have_no_marks_and_white_space_alone_is_no_difference() -> None:
    found = word_diff("one two", "one  two")
    assert found is not None
    assert {span.kind for side in found for span in side} == {"same"}


def test_markup_in_a_text_stays_text() -> None:
    found = word_diff("a <b>bold</b>", "a <script>alert(1)</script>")
    assert found is not None
    shown = as_html(found[1])
    assert "<script" not in shown
    assert "&lt;" in shown


@given(st.text(max_size=80), st.text(max_size=80))
def test_nothing_is_lost_in_either_text(before: str, after: str) -> None:
    found = word_diff(before, after)
    assert found is not None
    assert (text_of(found[0]), text_of(found[1])) == (before, after)
    assert all(span.kind != "new" for span in found[0])
    assert all(span.kind != "gone" for span in found[1])


def test_words_left_alone_between_larger_changes_join_them() -> None:
    found = word_diff("one two three the four five six end", "un deux trois the quatre cinq six end")
    assert found is not None
    assert [(span.kind, span.text) for span in found[1]] == [
        ("new", "un deux trois the quatre cinq "),
        ("same", "six end"),
    ]


def test_a_word_between_two_changed_words_stays_unmarked() -> None:
    found = word_diff("red and blue", "pink and green")
    assert found is not None
    assert [span.kind for span in found[0]] == ["gone", "same", "gone"]


def test_texts_too_long_to_compare_are_refused_and_the_longest_allowed_take_no_age() -> None:
    assert word_diff("a " * (LONGEST + 1), "b") is None
    began = time.perf_counter()
    assert word_diff("a b " * (LONGEST // 2), "b a " * (LONGEST // 2 - 9)) is not None
    assert time.perf_counter() - began < 10
