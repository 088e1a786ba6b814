"""`synpo-lab pocket build | table`: make the embedded model again; run SynPO and its baselines and compare them."""

from pathlib import Path
from typing import Annotated

import typer

from synpo_lab.cli.output import AsJson, Home, home_option, print_json, print_table

app = typer.Typer(help="The embedded pocket world.", no_args_is_help=True)

CONTESTANTS = ("pocket", "pocket-seed-sft", "pocket-seed-simpo", "pocket-sampling-ranking")


@app.callback()
def pocket() -> None:
    """The embedded pocket world."""


@app.command()
def build(
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder the model is written to.")],
    scale: Annotated[
        float, typer.Option("--scale", min=0.0001, help="Times the training rows of the shipped model.")
    ] = 1.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Every random choice follows from it.")] = 0,
) -> None:
    """Train M_0 of the pocket world from nothing, as the shipped one was: under an hour on one CPU core."""
    from synpo_lab.pocket import build as pocket_build

    pocket_build.build(to, scale=scale, seed=seed, report=typer.echo)


@app.command()
def table(
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", min=0, help="A run seed; may be repeated. [default: 0]")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """SynPO and its three baselines, from the same M_0 and seeds, one after the other and in one table per run seed.

    What an earlier call finished is not run again.
    """
    from synpo_lab.home import open_home
    from synpo_lab.report import comparison_rows, shown

    folder, found = open_home(home), []
    for seed in seeds or [0]:
        runs = [_finished(folder, name, seed, home, as_json=as_json) for name in CONTESTANTS]
        rows = comparison_rows(folder, runs)
        found += rows
        if not as_json:
            print_table([{"run": row["run_id"], **shown(row)} for row in rows], title=f"run seed {seed}")
    if as_json:
        print_json(found)


def _finished(folder: Path, name: str, seed: int, home: Path | None, *, as_json: bool) -> str:
    """The id of the finished run of this built-in config and seed, run now if need be."""
    from synpo_lab import config as configs
    from synpo_lab.cli.following import follow
    from synpo_lab.jobs import Watch, launch, resume

    run_id = f"{name}-seed{seed}"
    states = {run.run_id: run.state for run in Watch(folder).runs()}
    if run_id not in states:
        launch(folder, configs.load(name, [f"seed={seed}"]), run_id)
    elif states[run_id] in ("stopped", "interrupted", "failed"):
        resume(folder, run_id)
    if states.get(run_id) != "finished" and follow(folder, run_id, as_json=as_json, option=home_option(home)):
        raise typer.Exit(1)
    return run_id
