"""An answer read as Markdown. It may hold anything: no HTML of its own, no link that leads anywhere, no picture fetched."""

from functools import cache
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from pages.text import visible

LONGEST = 20_000  # characters; a longer text is shown as it is


def rendered(text: str) -> Markup | None:
    """The text as HTML that cannot act; None when it is too long or cannot be rendered."""
    if len(text) > LONGEST:
        return None
    return Markup('<div class="lab-markdown">{}</div>').format(Markup(_parser().render(visible(text))))


@cache
def _parser() -> MarkdownIt:
    # js-default: every tag comes from the parser, HTML in the text is escaped; and tables and strikethrough are read.
    made = MarkdownIt("js-default", {"maxNesting": 20})
    for name, rule in {"link_open": _link_open, "link_close": _link_close, "image": _image}.items():
        made.add_render_rule(name, rule)
    return made


def _link_open(_: Any, tokens: list[Token], index: int, *rest: Any) -> str:
    return Markup('<u class="lab-link" title="{}">').format(tokens[index].attrGet("href") or "")


def _link_close(*_: Any) -> str:
    return "</u>"


def _image(_: Any, tokens: list[Token], index: int, *rest: Any) -> str:
    token = tokens[index]
    return Markup('<span class="lab-picture">picture: {} ({})</span>').format(
        token.content or "without a name", token.attrGet("src") or ""
    )
