"""Texts that were decoded wrongly somewhere, or hold what no text should.

The mojibake patterns are the commonest of those that ftfy (Speer, 2019, doi 10.5281/zenodo.2591652) mends: UTF-8 read as
Windows-1252 or Latin-1.
"""

import re

_SIGNS = [
    (re.compile("\ufffd"), "U+FFFD, a character that could not be decoded"),
    (re.compile("\0"), "NUL"),
    (re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\x7f]"), "a control character"),
    (
        re.compile("Ã[\u0080-\u00bf\u0152\u0153\u0160\u0161\u0178\u017d\u017e\u0192\u02c6\u02dc\u2013-\u203a\u20ac\u2122]"
                   "|Â[\u0080-\u00bf]|â€[\u0080-\u00bf\u0153\u02dc\u2018-\u203a\u2122]|ï»¿|(?:[ÐÑ][\u0080-\u00bf]){2}"),
        "mojibake: UTF-8 read as another encoding",
    ),
    (re.compile("[\x80-\x84\x86-\x9f]"), "a C1 control character"),
]  # fmt: skip
_CONTROLS = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f]")


def encoding_trouble(text: str) -> str | None:
    """What is wrong with the text's encoding; None where nothing shows. Cannot see wrong letters that are letters."""
    if text.isascii() and not _CONTROLS.search(text):
        return None
    return next((said for sign, said in _SIGNS if sign.search(text)), None)
