"""Names as SQL writes them, for the statements that take no parameters."""

from collections.abc import Sequence


def quoted(text: str) -> str:
    """A string literal."""
    return "'" + text.replace("'", "''") + "'"


def enum(names: Sequence[str]) -> str:
    """The type that holds one of these names in a byte or two."""
    return f"ENUM({', '.join(map(quoted, names))})"
