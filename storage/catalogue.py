"""The public tables as views.sql declares them: for the SQL page, the command line, the README and the tests."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_BLOCK = re.compile(
    r"^-- (?P<name>\w+)\n-- (?P<question>.+)\n(?P<columns>(?:-- \w+: .+\n)+)(?P<sql>CREATE VIEW (?P=name) AS\n[^;]+);",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class View:
    """One public table."""

    name: str
    question: str
    columns: dict[str, str]  # column -> what it means, in order
    sql: str  # its CREATE VIEW statement

    def over(self, source: str) -> str:
        """The table as a SELECT over the rows of another, `source`, instead of over all parts."""
        return self.sql.partition(" AS\n")[2].replace(f"parts.{self.name}", f"({source})")


@cache
def public_views() -> dict[str, View]:
    """Every public table by name, in the order of the file."""
    text = (Path(__file__).parent / "views.sql").read_text(encoding="utf-8")
    return {match["name"]: _view(match) for match in _BLOCK.finditer(text)}


def _view(match: re.Match[str]) -> View:
    columns = dict(line.removeprefix("-- ").split(": ", 1) for line in match["columns"].splitlines())
    return View(match["name"], match["question"], columns, match["sql"])
