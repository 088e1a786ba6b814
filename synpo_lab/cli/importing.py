"""`synpo-lab import`: preference data made elsewhere."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synpo_lab.cli.output import AsJson, Home, as_text, home_option, print_json, print_table
from synpo_lab.errors import ConfigError, RunError

if TYPE_CHECKING:
    from synpo_lab.importing import Look
    from synpo_lab.importing.summary import Summary
    from synpo_lab.jobs import RunStatus

FORMATS = "auto, trl, hh, ultrafeedback, two-responses, alpaca-eval or alpaca-eval-annotations"
LONGEST = 160  # characters of a text in an example
STOP_SECONDS = 20.0


def import_data(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH [PATH2]",
            help="A file, a folder or hub:OWNER/NAME. Two files of answers make pairs: first rejected, second chosen.",
        ),
    ],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Default: the file's name.")] = None,
    format: Annotated[str, typer.Option("--format", help=f"One of {FORMATS}.")] = "auto",
    columns: Annotated[
        list[str] | None,
        typer.Option("--map", metavar="WHAT=COLUMN", help="Where something is, for example prompt=question."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Look at every row and write nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before writing.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Look at preference data made elsewhere, say what would be refused and why, and import the rest."""
    from synpo_lab.home import open_home
    from synpo_lab.importing import look
    from synpo_lab.importing.launching import default_name, import_config, start_import
    from synpo_lab.jobs import Watch

    given = dict(_mapped(text) for text in columns or [])
    found = look(paths, format, given, at_most=None) if dry_run else look(paths, format, given)
    told = {"look": found.told()}
    if not as_json:
        _print_look(found)
    if dry_run:
        return print_json(told) if as_json else None
    found.check()
    name = name or default_name(paths)
    if not (yes or as_json) and sys.stdin.isatty() and not typer.confirm(f"Import this as {name}?", default=True):
        raise typer.Exit(1)
    folder = open_home(home)
    with _ctrl_c_stops(folder, name):
        added = start_import(folder, name, import_config(paths, format, given))
        last = _followed(folder, name, as_json=as_json) if added else Watch(folder).run(name)
    return _say_end(folder, name, last, added=added, told=told, as_json=as_json, option=home_option(home))


def _mapped(text: str) -> tuple[str, str]:
    target, equals, column = text.partition("=")
    if not equals or not target.strip() or not column.strip():
        raise ConfigError(f"--map {text!r} is not WHAT=COLUMN", hint="for example --map prompt=question")
    return target.strip(), column.strip()


def _followed(home: Path, name: str, *, as_json: bool) -> "RunStatus":
    from synpo_lab.cli.following import Silent, view_of, watch

    if as_json:
        return watch(home, name, Silent())
    with view_of(as_json=False) as view:
        return watch(home, name, view)


def _say_end(
    home: Path, name: str, last: "RunStatus", *, added: bool, told: dict[str, Any], as_json: bool, option: str
) -> None:
    from synpo_lab.home import open_store
    from synpo_lab.importing.launching import summary_of

    made = summary_of(open_store(home, read_only=True).run(name))
    if last.state != "imported" or made is None:
        message, _, hint = last.message.partition("\nhint: ")
        raise RunError(f"{name}: {last.state}, nothing was imported: {message}", hint=hint or "import it again")
    if as_json:
        return print_json(told | {"run_id": name, "state": last.state, "added": added, "imported": asdict(made)})
    if not added:
        return typer.echo(f"{name} holds exactly this already: nothing was added")
    _print_refused(made)
    return typer.echo(
        f"{made.sentence}\n"
        f"look at it:   synpo-lab serve{option}\n"
        f"ask about it: synpo-lab query \"SELECT * FROM pairs WHERE run_id = '{name}' LIMIT 5\"{option}"
    )


@contextmanager
def _ctrl_c_stops(home: Path, name: str) -> Iterator[None]:
    """An import is stopped by Ctrl-C, unlike a run: it is quickly made again, and half of it is of no use."""
    from synpo_lab.jobs import stop

    try:
        yield
    except KeyboardInterrupt:
        try:
            stop(home, name, wait=STOP_SECONDS, kill=True)
        except RunError as error:  # it has just come to its end
            typer.echo(f"\n{error.message}", err=True)
        else:
            typer.echo(f"\n{name} was stopped: nothing was imported", err=True)
        raise typer.Exit(130) from None


def _print_look(found: "Look") -> None:
    from synpo_lab.importing.columns import listed

    told = found.told()
    typer.echo(as_text(f"{told['read_as']}, {told['title']}"))
    for note in told["notes"]:
        typer.echo(as_text(f"note: {note}"))
    print_table([{"what": what, "column": column} for what, column in told["columns"].items()])
    if told["unused"]:
        typer.echo(as_text(f"not used: {listed(told['unused'])}"))
    for number, example in enumerate(told["examples"], start=1):
        rows = [{f"example {number}": what, "text": _short(text)} for what, text in example.items() if text is not None]
        print_table(rows)
    typer.echo(told["sentence"])
    if told["refused"]:
        print_table([{"refused for": reason, "rows": rows} for reason, rows in told["refused"].items()])
        print_table([{"where": one["place"], "why": one["why"]} for one in told["refusals"][:20]])


def _print_refused(made: "Summary") -> None:
    rows = [{"where": one.place, "why": one.why} for one in made.listed[:20]]
    if rows:
        print_table(rows, title="refused")


def _short(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} … [{len(line):,} characters]"
