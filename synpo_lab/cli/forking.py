"""`synpo-lab fork`."""

from typing import Annotated

import typer

from synpo_lab.cli.output import AsJson, Home
from synpo_lab.cli.running import Detach, RunId, ctrl_c_leaves_going, started


def fork(
    run_id: RunId,
    iteration: Annotated[int, typer.Option("--iteration", "-t", metavar="T", help="Go on from its pairs.")],
    home: Home = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a key, for example filter.min_gap=0.3."),
    ] = None,
    named: Annotated[
        str | None, typer.Option("--filter", metavar="NAME|FILE", help="A saved filter, a preset, or a YAML file.")
    ] = None,
    new_id: Annotated[
        str | None, typer.Option("--run-id", metavar="ID", help="Default: the recipe and the time.")
    ] = None,
    detach: Detach = False,
    as_json: AsJson = False,
) -> None:
    """Go on from iteration T of a run as if its filter had been different, in a run of its own.

    It begins with the texts, scores, pairs and models that were there before T's training, and trains M_T on what the
    new filter keeps.
    """
    from synpo_lab import filters
    from synpo_lab.home import open_home
    from synpo_lab.jobs import fork as fork_run
    from synpo_lab.jobs import new_run_id

    folder, new_id = open_home(home), new_id or new_run_id(f"{run_id[:30]}-fork")
    rules = None if named is None else filters.read_named(folder, named)
    changes = [*(filters.changes(rules) if rules else []), *(overrides or [])]
    with ctrl_c_leaves_going(new_id, home):
        fork_run(folder, run_id, iteration, changes, new_id)
        started(new_id, home, folder, after=0, detach=detach, as_json=as_json)
