"""Markdown of a text nobody vouches for."""

import time
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages.markdown import LONGEST, rendered

TAGS = {
    *"div p h1 h2 h3 h4 h5 h6 ul ol li blockquote pre code em strong s hr br u span".split(),
    *"table thead tbody tr th td".split(),
}
ATTRIBUTES = {"class", "title", "start", "style"}
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](data:text/html,<script>alert(1)</script>)",
    '[click](https://example.com "onmouseover=alert(1)")',
    '[a](https://x.y/"onmouseover="alert(1))',
    "![pixel](https://example.com/track.png)",
    '![x" onerror="alert(1)](https://e.com/"x"onerror=y)',
    "<https://example.com>",
    "[x]: javascript:alert(1)\n\n[x]",
    '```"><script>alert(1)</script>\nx\n```',
    "| a | b |\n|:-:|--:|\n| <b onclick=x> | ![i](http://h) |",
    "<!-- --><iframe src=//h></iframe><style>*{}</style>",
]


class Seen(HTMLParser):
    """Every tag and attribute of some HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: dict[str, str | None] = {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= dict(attrs)


def check(html: str) -> None:
    seen = Seen(html)
    assert seen.tags <= TAGS
    assert set(seen.attributes) <= ATTRIBUTES
    assert (seen.attributes.get("style") or "text-align:").startswith("text-align:")


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_in_a_text_becomes_a_tag_a_link_or_a_request(text: str) -> None:
    check(rendered(text) or "")


@given(st.text("<>\"'`[]()!*_#|-:\n ax=/&;\\", max_size=200))
def test_no_text_at_all_becomes_one(text: str) -> None:
    check(rendered(text) or "")


def test_headings_lists_code_and_tables_are_read() -> None:
    html = rendered("# Head\n\n- one\n- **two**\n\n```py\nx < 1\n```\n\n| a |\n|---|\n| b |\n")
    assert html is not None
    for part in ("<h1>Head</h1>", "<li>one</li>", "<strong>two</strong>", "x &lt; 1", "<td>b</td>"):
        assert part in html


def test_a_link_says_where_it_leads_and_a_picture_what_it_is() -> None:
    html = rendered("[site](https://e.com/a) ![cat](https://e.com/c.png)")
    assert '<u class="lab-link" title="https://e.com/a">site</u>' in (html or "")
    assert "picture: cat (https://e.com/c.png)" in (html or "")


def test_controls_are_named_and_a_text_too_long_is_left_as_it_is() -> None:
    assert "␀" in (rendered("a\0b") or "")
    assert "⟨U+202E⟩" in (rendered("a\u202eb") or "")
    assert rendered("x" * (LONGEST + 1)) is None


@pytest.mark.parametrize("piece", ["[", "![", "> ", "*_", "`", "<", "[a](", "- ", "|-", "[^", "&#", "**a "])
def test_texts_made_to_be_slow_take_no_age(piece: str) -> None:
    began = time.perf_counter()
    assert rendered(piece * (LONGEST // len(piece))) is not None
    assert time.perf_counter() - began < 20
