"""Stay with a run until it ends: a progress bar on a terminal, plain lines in a log, JSON lines for a program."""

import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from storage.state import NEEDS_WORKER
from synpo_lab.cli.output import print_json, print_table
from synpo_lab.home import open_store, storage_errors
from synpo_lab.jobs import RunStatus, Watch
from synpo_lab.jobs.timeline import RUN_STAGE
from synpo_lab.jobs.wording import duration, pace, stage_name
from synpo_lab.report import result_rows, shown
from synpo_lab.run import FINISHED

POLL_SECONDS = 0.25
EXIT_CODES = {"finished": 0}  # every other end is 1: what was asked for is not there


class View(Protocol):
    """One way of showing a run."""

    def event(self, event: dict[str, Any]) -> None: ...

    def status(self, status: RunStatus) -> None: ...


def follow(home: Path, run_id: str, *, as_json: bool, after: int = 0, option: str = "") -> int:
    """Show the run until it ends, its events from byte `after` on; return the exit code."""
    with view_of(as_json) as view:
        last = watch(home, run_id, view, after)
    _say_end(home, last, as_json=as_json, option=option)
    return EXIT_CODES.get(last.state, 1)


def watch(home: Path, run_id: str, view: View, offset: int = 0) -> RunStatus:
    """Show the run until it ends; how it ended."""
    following, run = Watch(home), open_store(home, read_only=True).run(run_id)
    while True:
        status = following.run(run_id)
        with storage_errors():
            events, offset = run.events(offset)
        for event in events:
            view.event(event)
        view.status(status)
        if status.state not in NEEDS_WORKER:
            return status
        time.sleep(POLL_SECONDS)


def _say_end(home: Path, last: RunStatus, *, as_json: bool, option: str) -> None:
    rows = result_rows(home, last.run_id)
    if as_json:
        return print_json(
            {"kind": "end", "run_id": last.run_id, "state": last.state, "message": last.message, "results": rows}
        )
    if rows:
        print_table([shown(row) for row in rows])
    typer.echo(
        f"{last.run_id} {last.state} after {duration(last.elapsed)}" + (f": {last.message}" if last.message else "")
    )
    if last.state != "finished":
        mend = " (with --set KEY=VALUE, what the hint names)" if last.state == "failed" else ""
        typer.echo(f"go on with it by `synpo-lab resume {last.run_id}{option}`{mend}")
    return None


def event_line(event: dict[str, Any]) -> str:
    """What a log says of the event: stages when they end, warnings and words; nothing of mere progress."""
    if event["level"] != "info":
        return f"{event['level']}: {event['message']}"
    if event["done"] is None:
        return "" if event["stage"] == RUN_STAGE else str(event["message"])
    if not event["message"].startswith(FINISHED):
        return ""
    counted = f", {event['done']:,}" if event["total"] else ""
    return f"{stage_name(event['stage'], event['iteration'])}: {event['message']}{counted}"


@contextmanager
def view_of(as_json: bool) -> Iterator[View]:
    """What suits where standard output goes."""
    if as_json:
        yield JsonLines()
    elif sys.stdout.isatty():
        with BarView() as bar:
            yield bar
    else:
        yield PlainLines()


class JsonLines:
    """Every event, and every change of state, one JSON document per line."""

    def __init__(self) -> None:
        self._state = ""

    def event(self, event: dict[str, Any]) -> None:
        print_json({"kind": "event", **event})

    def status(self, status: RunStatus) -> None:
        if status.state != self._state:
            self._state = status.state
            print_json({"kind": "state", "run_id": status.run_id, "state": status.state, "message": status.message})


class Silent:
    """Nothing: for a command that says all at its end."""

    def event(self, event: dict[str, Any]) -> None: ...

    def status(self, status: RunStatus) -> None: ...


class PlainLines:
    """A line when a stage is finished and for every message: for logs."""

    def __init__(self) -> None:
        self._waiting = ""

    def event(self, event: dict[str, Any]) -> None:
        if line := event_line(event):
            typer.echo(line)

    def status(self, status: RunStatus) -> None:
        if status.state == "queued" and status.message != self._waiting:
            self._waiting = status.message
            typer.echo(f"queued, {status.message}")


class BarView(AbstractContextManager["BarView"]):
    """The stage's bar at the bottom, what is finished above it."""

    def __init__(self) -> None:
        what, pace = (TextColumn(f"{{task.{field}}}", markup=False) for field in ("description", "fields[pace]"))
        self._bar = Progress(SpinnerColumn(), what, BarColumn(30), pace, transient=True)
        self._task = self._bar.add_task("", total=None, pace="")

    def __enter__(self) -> "BarView":
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def event(self, event: dict[str, Any]) -> None:
        if line := event_line(event):
            self._bar.console.print(line, markup=False, highlight=False)

    def status(self, status: RunStatus) -> None:
        what, total = stage_name(status.stage, status.iteration, status.iterations), status.total
        if status.state == "queued":
            what, total = f"queued, {status.message}", None
        self._bar.update(self._task, description=what, completed=status.done or 0, total=total, pace=pace(status))
