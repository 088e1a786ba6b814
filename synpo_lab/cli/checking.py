"""`synpo-lab check`: is the preference data of a run sound?"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synpo_lab.cli.output import AsJson, Home, as_text, home_option, print_json, print_table

if TYPE_CHECKING:
    from synpo_lab.health.progress import Tell
    from synpo_lab.health.report import CheckResult, Report


def check(
    run_id: Annotated[str, typer.Argument(metavar="RUN|DATASET", help="A run's id, or an imported data set's.")],
    evaluation: Annotated[
        list[Path] | None,
        typer.Option("--eval", metavar="FILE", help="Evaluation prompts (AlpacaEval JSON, or JSONL) to look for."),
    ] = None,
    texts: Annotated[
        int | None, typer.Option("--texts", min=1, help="Read the texts of at most so many pairs. Default: 100,000.")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Check a run's pairs: duplicates, cut answers, length bias, contamination, wrong labels, and what changed."""
    from synpo_lab.health import check_run
    from synpo_lab.health.checkup import MOST_TEXTS
    from synpo_lab.home import open_home

    with _on_terminal() as tell:
        report = check_run(open_home(home), run_id, evaluation or [], most_texts=texts or MOST_TEXTS, tell=tell)
    print_json(report.to_json()) if as_json else _print(report, home)


def _print(report: "Report", home: Path | None) -> None:
    from synpo_lab.health.report import edits_told, scope, worst_first

    typer.echo(scope(report))
    print_table([_row(check) for check in worst_first(report.checks)])
    for sentence in edits_told(report):
        typer.echo(as_text(sentence))
    sql = f"SELECT kind, pair_id, detail FROM findings WHERE run_id = '{report.run_id}'"
    typer.echo(f'the rows:  synpo-lab query "{sql}"{home_option(home)}')


def _row(check: "CheckResult") -> dict[str, object]:
    from synpo_lab.health.report import WORDS, shown_number

    fine = check.judgement == "fine"
    return {
        "check": check.name,
        "number": f"{shown_number(check)} {check.unit}",
        "share": "" if check.share is None or check.found is None else f"{check.share:.2%}",
        "judgement": WORDS[check.judgement],
        "what to do": check.note if fine or check.judgement == "unknown" else check.advice,
    }


@contextmanager
def _on_terminal() -> "Iterator[Tell]":
    """What to call with the progress: shows it where standard error is a terminal."""
    from rich.console import Console

    with Console(stderr=True, quiet=not sys.stderr.isatty()).status("checking") as status:
        yield lambda what, done, total: status.update(
            f"checking: {what}" + (f", {done:,} of {total:,}" if total else "")
        )
