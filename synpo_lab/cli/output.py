"""What every command prints with: people get tables, programs get JSON on standard output and nothing else there."""

import json
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from synpo_lab.errors import LabError

Home = Annotated[
    Path | None,
    typer.Option("--home", metavar="DIR", help="The lab home. Default: $SYNPO_LAB_HOME, else ~/.synpo-lab."),
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, and nothing else there.")]

# A model may have written the text: it must not steer the terminal it is shown on. Tab and newline are harmless.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)], "\ufffd")


def print_json(value: Any) -> None:
    """One document, one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()


def print_error(error: LabError) -> None:
    typer.secho("error: ", err=True, fg="red", bold=True, nl=False)
    typer.echo(error.message, err=True)
    if error.hint:
        typer.secho("hint: ", err=True, fg="cyan", bold=True, nl=False)
        typer.echo(error.hint, err=True)


def print_table(rows: Sequence[Mapping[str, Any]], columns: Iterable[str] | None = None, *, title: str = "") -> None:
    """Rows as a table, numbers to the right. None is left blank."""
    names = list(columns or (rows[0] if rows else []))
    table = Table(title=title or None, title_justify="left", header_style="bold")
    for name in names:
        numeric = any(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(as_text(row.get(name)) for name in names))
    # Into a pipe a table is as wide as it needs to be: what reads it there has no edge to fold at.
    console = Console(width=None if sys.stdout.isatty() else 10_000, markup=False, emoji=False)
    console.print(table)


def as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value).translate(_CONTROLS)


def home_option(home: Path | None) -> str:
    """What to add to a command we suggest, so that it finds the same lab home."""
    return "" if home is None else f" --home {shlex.quote(str(home))}"
