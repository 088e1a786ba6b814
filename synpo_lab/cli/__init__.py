"""The command line: `synpo-lab VERB`. The same verbs as the pages; every one has `--json`.

Heavy modules are imported by the command that needs them, so `--help`, `status` and `query` start at once.
"""

import sys

import typer

from synpo_lab.cli import (
    asking,
    checking,
    configs,
    doctor,
    eye,
    forking,
    importing,
    planning,
    pocket,
    running,
    serving,
    topics,
)
from synpo_lab.cli.output import print_error
from synpo_lab.errors import LabError

app = typer.Typer(
    name="synpo-lab",
    help="SynPO Lab: watch a model write its own prompts, improve its own answers, and train on the difference.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(serving.serve)
app.command()(planning.init)
app.command()(planning.plan)
app.command()(running.run)
app.command()(running.resume)
app.command()(running.stop)
app.command()(running.status)
app.command()(forking.fork)
app.command(name="import")(importing.import_data)
app.command()(asking.compare)
app.command()(asking.query)
app.command()(asking.export)
app.command()(topics.topics)
app.command()(checking.check)
app.command()(eye.eye)
app.command(name="config")(configs.show)
app.command(name="doctor")(doctor.report)
app.add_typer(pocket.app, name="pocket")


def main(arguments: list[str] | None = None) -> None:
    """The console script. Ends with code 2 and one message for a mistake the user can mend."""
    try:
        app(arguments, prog_name="synpo-lab")
    except LabError as error:
        print_error(error)
        sys.exit(2)
