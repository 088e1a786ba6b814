"""`synpo-lab eye`: how the trained policies rank the pairs of a run."""

import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from synpo_lab.cli.output import AsJson, Home, home_option, print_json, print_table

if TYPE_CHECKING:
    from storage.queries.eye import EyeCount


def eye(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as `synpo-lab status` shows it.")],
    iteration: Annotated[int | None, typer.Option("--iteration", min=1, metavar="T", help="Only M_T.")] = None,
    pairs: Annotated[
        int | None, typer.Option("--pairs", min=1, metavar="N", help="Ask about at most N pairs of the pool.")
    ] = None,
    ask: Annotated[bool, typer.Option("--ask/--no-ask", help="Compute what is missing, or only show.")] = True,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Do not wait: start and return.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Which pairs does the trained policy still rank wrongly? Asks M_0 and M_t where the run has not, in the background."""
    from synpo_lab.home import open_home
    from synpo_lab.jobs.looking import look

    folder = open_home(home, writable=ask)
    if ask:
        process = look(folder, run_id, iteration, pairs=pairs)
        if detach:
            return _started(run_id, home, as_json)
        _wait(process, folder, run_id, as_json)
    rows = _counts(folder, run_id, iteration)
    return print_json([asdict(row) for row in rows]) if as_json else _print(rows, run_id)


def _started(run_id: str, home: Path | None, as_json: bool) -> None:
    if as_json:
        return print_json({"kind": "started", "run_id": run_id})
    return typer.echo(f"on its way; see `synpo-lab eye {run_id} --no-ask{home_option(home)}`")


def _wait(process: "subprocess.Popen[bytes]", folder: Path, run_id: str, quiet: bool) -> None:
    """Tell what it logs until it ends. RunError when it failed."""
    from synpo_lab.cli.following import event_line
    from synpo_lab.errors import RunError
    from synpo_lab.home import open_store, storage_errors

    run = open_store(folder, read_only=True).run(run_id)
    with storage_errors():
        _, after = run.events()
    last, ended = "", False
    while not ended:
        ended = process.poll() is not None
        with storage_errors():
            events, after = run.events(after)
        for event in events:
            last = event["message"]
            if (line := event_line(event)) and not quiet:
                typer.echo(line)
        if not ended:
            _pause()
    if process.returncode:
        raise RunError(last or "the policies could not be asked", hint=f"the log is {run.folder / 'worker.log'}")


def _pause() -> None:
    import time

    time.sleep(0.1)


def _counts(folder: Path, run_id: str, iteration: int | None) -> "list[EyeCount]":
    from storage.database import Database
    from storage.queries.eye import eye_counts
    from synpo_lab.home import open_store, storage_errors

    with storage_errors():
        database = Database(open_store(folder, read_only=True))
        try:
            rows = eye_counts(database, run_id)
        finally:
            database.close()
    return [row for row in rows if iteration in {None, row.policy}]


def _print(rows: "list[EyeCount]", run_id: str) -> None:
    if not rows:
        return typer.echo(f"nobody has asked the policies of {run_id} about its pairs yet")
    return print_table([_shown(row) for row in rows], title="pairs the policy was trained on")


def _shown(row: "EyeCount") -> dict[str, Any]:
    return {
        "policy": f"M_{row.policy}",
        "pairs": row.pairs,
        "margin > gamma": row.satisfied,
        "0 to gamma": row.short_of_gamma,
        "ranked wrongly": row.ranked_wrongly,
        "learned": row.learned,
        "unlearned": row.unlearned,
        "mean margin": round(row.margin, 3),
        "under M_0": round(row.margin_0, 3),
        "chosen, nats/token": round(row.logp_chosen, 3),
        "M_0's": round(row.logp_chosen_0, 3),
        "beta": f"{row.beta:g}",
        "gamma": f"{row.gamma:g}",
    }
