"""Texts and numbers for people. What a model wrote is never trusted: it is shown as text, whatever is in it."""

import re
from datetime import UTC, datetime

from markupsafe import Markup

NOTHING = "–"

_BIDI = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_PICTURES = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {0x7F: "␡"}
_NAMED = {code: f"⟨U+{code:04X}⟩" for code in [*_BIDI, *range(0x80, 0xA0), 0xFEFF, *range(0xD800, 0xE000)]}
_SHOWN = _PICTURES | _NAMED


def visible(text: str) -> str:
    """The text with everything that would act instead of being read (controls, direction marks, halves of surrogate
    pairs) replaced by a picture or name of it."""
    return text.translate(_SHOWN)


def one_line(text: str) -> str:
    """A text as a table shows it."""
    return visible(re.sub(r"\s+", " ", text).strip())


def excerpt(text: str, limit: int) -> str:
    """At most `limit` characters, and what is missing said."""
    return text if len(text) <= limit else f"{text[:limit]} … [{len(text):,} characters in all]"


def beginning(text: str, limit: int) -> str:
    """At most `limit` characters, and an ellipsis where there is more: of a text that was cut before, whose length
    nobody knows here."""
    return text if len(text) <= limit else f"{text[:limit].rstrip()} …"


def count(value: int | None) -> str:
    return NOTHING if value is None else f"{value:,}"


def counted(value: int, what: str) -> str:
    """ "1 row", "2,000 rows"."""
    return f"{value:,} {what}" if value == 1 else f"{value:,} {what}s"


def number(value: float | None, digits: int = 3) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    return NOTHING if value is None else f"{value:+.{digits}f}".replace("-", "−")


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{value:.1%}"


def moment(value: datetime | float, *, clock: bool = False) -> Markup:
    """A time that the browser shows in the visitor's own zone (see head.html); UTC where no script runs.

    `clock`: with seconds.
    """
    at = value.replace(tzinfo=UTC) if isinstance(value, datetime) else datetime.fromtimestamp(value, UTC)
    shown = at.strftime("%Y-%m-%d %H:%M:%S" if clock else "%Y-%m-%d %H:%M")
    return Markup('<time datetime="{}" {}>{} UTC</time>').format(at.isoformat(), "data-clock" if clock else "", shown)
