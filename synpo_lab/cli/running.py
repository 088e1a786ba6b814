"""`synpo-lab run | resume | stop | status`."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synpo_lab.cli.output import AsJson, Home, home_option, print_json, print_table

if TYPE_CHECKING:
    from synpo_lab.jobs import RunStatus

RunId = Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as `synpo-lab status` shows it.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, for example filter.min_gap=0.3.")
]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Do not follow the run: start it and return.")]


def run(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A YAML file, or a built-in config such as pocket.")],
    home: Home = None,
    run_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="Default: the config's name and the time.")
    ] = None,
    overrides: Overrides = None,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Start a run in the background and follow it. It goes on when this command, or the terminal, ends."""
    from synpo_lab import config as configs
    from synpo_lab.home import open_home
    from synpo_lab.jobs import launch, new_run_id

    loaded = configs.load(config, overrides)
    folder, run_id = open_home(home), run_id or new_run_id(Path(config).stem)
    with ctrl_c_leaves_going(run_id, home):
        launch(folder, loaded, run_id)
        started(run_id, home, folder, after=0, detach=detach, as_json=as_json)


def resume(
    run_id: RunId,
    home: Home = None,
    overrides: Overrides = None,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a stopped, interrupted or failed run. Nothing that was finished is done again.

    --set changes how things are computed (engine, training, micro_batch_size ...), and sections nothing is made with yet.
    """
    from synpo_lab.home import open_home
    from synpo_lab.jobs import resume as resume_run

    folder = open_home(home)
    after = _log_size(folder, run_id)
    with ctrl_c_leaves_going(run_id, home):
        resume_run(folder, run_id, overrides or [])
        started(run_id, home, folder, after=after, detach=detach, as_json=as_json)


def stop(
    run_id: RunId,
    home: Home = None,
    kill: Annotated[bool, typer.Option("--kill", help="End it hard when it has not stopped in time.")] = False,
    wait: Annotated[float, typer.Option("--wait", min=0, metavar="SECONDS", help="How long to wait for it.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Stop a run at the next safe point. Everything it has made is kept."""
    from synpo_lab.home import open_home
    from synpo_lab.jobs import Watch
    from synpo_lab.jobs import stop as stop_run

    folder = open_home(home)
    ended = stop_run(folder, run_id, wait=wait, kill=kill)
    state = Watch(folder).run(run_id).state
    if as_json:
        print_json({"run_id": run_id, "state": state})
    elif ended:
        typer.echo(f"{run_id} is {state}; go on with it by `synpo-lab resume {run_id}{home_option(home)}`")
    else:
        typer.echo(f"{run_id} will stop at its next safe point; `--kill` does not wait for it")
    if not ended:
        raise typer.Exit(1)


def status(
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="One run. Default: all of them.")] = None,
    home: Home = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Stay with the run until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """How the runs are doing."""
    from synpo_lab.home import open_home
    from synpo_lab.jobs import Watch

    folder = open_home(home, writable=False)
    if run_id is None:
        statuses = Watch(folder).runs()
        print_json([asdict(one) for one in statuses]) if as_json else _print_runs(statuses)
    elif follow:
        with ctrl_c_leaves_going(run_id, home):
            _follow(run_id, home, folder, after=_log_size(folder, run_id), as_json=as_json)
    else:
        one = Watch(folder).run(run_id)
        print_json(asdict(one)) if as_json else _print_run(one, folder)


@contextmanager
def ctrl_c_leaves_going(run_id: str, home: Path | None) -> Iterator[None]:
    """Ctrl-C inside the block ends the command, not the run."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo(
            f"\n{run_id} goes on without you.\n"
            f"  watch it:  synpo-lab status {run_id} --follow{home_option(home)}\n"
            f"  stop it:   synpo-lab stop {run_id}{home_option(home)}",
            err=True,
        )
        raise typer.Exit(130) from None


def started(run_id: str, home: Path | None, folder: Path, *, after: int, detach: bool, as_json: bool) -> None:
    """Follow a run that was just started, or say how to."""
    if not detach:
        return _follow(run_id, home, folder, after=after, as_json=as_json)
    if as_json:
        return print_json({"kind": "started", "run_id": run_id, "home": str(folder)})
    return typer.echo(f"{run_id} is on its way; watch it with `synpo-lab status {run_id} --follow{home_option(home)}`")


def _follow(run_id: str, home: Path | None, folder: Path, *, after: int, as_json: bool) -> None:
    from synpo_lab.cli.following import follow

    raise typer.Exit(follow(folder, run_id, as_json=as_json, after=after, option=home_option(home)))


def _log_size(folder: Path, run_id: str) -> int:
    """Where the run's log ends now: what came before is not told again."""
    from synpo_lab.home import open_store, storage_errors

    with storage_errors():
        return open_store(folder, read_only=True).run(run_id).events()[1]


def _print_runs(statuses: "list[RunStatus]") -> None:
    if not statuses:
        return typer.echo("no runs yet; start one with `synpo-lab run pocket`")
    return print_table([{"run": one.run_id, "state": one.state, **_progress(one)} for one in statuses])


def _print_run(one: "RunStatus", folder: Path) -> None:
    from synpo_lab.jobs import log_tail

    rows = {"run": one.run_id, "title": one.title, "recipe": one.recipe, "state": one.state, **_progress(one)}
    print_table([{"what": name, "is": value} for name, value in rows.items() if value])
    if one.state == "failed":
        typer.echo(log_tail(folder / "runs" / one.run_id, 20))


def _progress(one: "RunStatus") -> dict[str, str]:
    from synpo_lab.jobs.wording import duration, pace, stage_name

    ended = one.state in {"finished", "imported"}
    return {
        "at": "" if ended else stage_name(one.stage, one.iteration, one.iterations),
        "progress": "" if ended else pace(one),
        "worked": duration(one.elapsed),
        "message": one.message,
    }
