"""Texts of models are shown, whatever is in them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages.text import beginning, count, counted, excerpt, moment, number, one_line, percent, signed, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünïcode 日本語 👩‍👩‍👧", "plain, ünïcode 日本語 👩‍👩‍👧"),
        ("a\0b", "a␀b"),
        ("a\x1b[31mb\x7f", "a␛[31mb␡"),
        ("safe\u202egpj.exe", "safe⟨U+202E⟩gpj.exe"),
        ("\u2066x\u2069\ufeff", "⟨U+2066⟩x⟨U+2069⟩⟨U+FEFF⟩"),
        ("half \ud83d of a pair", "half ⟨U+D83D⟩ of a pair"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ],
)
def test_what_would_act_is_shown_instead(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text(alphabet=st.characters(), max_size=50))
def test_what_is_shown_can_always_be_sent_to_a_browser(text: str) -> None:
    shown = visible(text)
    shown.encode("utf-8")
    assert not any(ord(letter) < 32 and letter not in "\n\t" for letter in shown)


def test_a_table_shows_a_text_in_one_line() -> None:
    assert one_line("  a\n\n b\t\tc ") == "a b c"


def test_a_long_text_says_how_long_it_is() -> None:
    assert excerpt("x" * 1200, 3) == "xxx … [1,200 characters in all]"
    assert excerpt("xxx", 3) == "xxx"


def test_a_text_that_was_cut_before_only_says_that_there_is_more() -> None:
    assert beginning("ab cd", 3) == "ab …"
    assert beginning("abc", 3) == "abc"


def test_numbers_are_written_for_people_and_nothing_is_a_dash() -> None:
    assert [count(1234567), number(-0.5), signed(0.25), percent(0.6251)] == ["1,234,567", "−0.500", "+0.250", "62.5%"]
    assert {count(None), number(None), signed(None), percent(None)} == {"–"}


def test_one_row_is_not_rows() -> None:
    assert [counted(n, "row") for n in (0, 1, 2, 2000)] == ["0 rows", "1 row", "2 rows", "2,000 rows"]


def test_a_time_says_its_zone_until_the_browser_knows_better() -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert moment(at) == moment(at.timestamp()) == moment(at.replace(tzinfo=None))
    assert moment(at) == '<time datetime="2026-01-02T03:04:05+00:00" >2026-01-02 03:04 UTC</time>'
    assert "03:04:05 UTC" in moment(at, clock=True)
