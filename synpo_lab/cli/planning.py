"""`synpo-lab plan` and `synpo-lab init`: what a run will take, and a config to start from."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synpo_lab.cli.output import AsJson, print_json, print_table
from synpo_lab.errors import ConfigError

if TYPE_CHECKING:
    from synpo_lab.planning import Plan


def plan(
    source: Annotated[str, typer.Argument(metavar="CONFIG", help="A built-in config or a YAML file.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="key=value, as for run.")] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="For this GPU (see --gpu list). Default: this machine's.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a run will take before anything starts: GPU memory, disk, hours per iteration. Code 1 when it does not fit."""
    from synpo_lab.config import load
    from synpo_lab.planning import plan as make
    from synpo_lab.planning.gpus import GPUS, gpu_called, gpu_to_plan_for

    if gpu == "list":
        return typer.echo("\n".join(GPUS))
    chosen, known = (gpu_called(gpu), True) if gpu else gpu_to_plan_for()
    made = make(load(source, overrides), chosen)
    if as_json:
        print_json(asdict(made) | {"fits": made.fits, "line": made.line})
    else:
        _print(made, assumed=not known)
    if not made.fits:
        raise typer.Exit(1)
    return None


def _print(made: "Plan", *, assumed: bool) -> None:
    from synpo_lab.planning import hours_told as _time

    note = " (no GPU we know is here: this one is assumed; name another with --gpu)" if assumed else ""
    typer.echo(f"{made.policy.name}: {made.policy.parameters:,} parameters, on one {made.gpu.name}{note}")
    typer.echo(
        f"texts {made.lengths.told}: prompts {made.lengths.prompt:.0f}, answers {made.lengths.answer:.0f} tokens\n"
    )
    for holding in made.holdings:
        verdict = "fits" if holding.fits else "does NOT fit"
        typer.echo(f"{holding.name}: {holding.gib:.1f} GiB of {made.gpu.memory_gib:.0f}, {verdict}")
        print_table([{"part": p.what, "GiB": f"{p.bytes / 2**30:.2f}", "why": p.why} for p in holding.parts])
    for name, stages in (("once", made.once), ("iteration 1", made.first), ("the last iteration", made.last)):
        hours = sum(stage.hours for stage in stages)
        typer.echo(f"\n{name}: {_time(hours)}")
        print_table(
            [{"stage": s.name, "does": s.what, "tokens": f"{s.tokens:,.0f}", "time": _time(s.hours)} for s in stages]
        )
    typer.echo(f"\nthe whole run: {_time(made.hours)}, {made.disk_gib:.1f} GiB of disk")
    if made.tiny:
        typer.echo("a model this small waits for launches, not for arithmetic: expect minutes on any machine")
    for line in made.advice:
        typer.echo(f"hint: {line}")


def init(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Which one. Without it: their names.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="The file to write. Default: NAME.yaml here.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a commented config to start from: for a small GPU, the paper's two, or a server that drafts."""
    from synpo_lab.starts import start_text, starts

    if name is None:
        rows = [{"name": key, "for": told} for key, told in starts().items()]
        return print_json(rows) if as_json else print_table(rows)
    path = to or Path(f"{name}.yaml")
    text = start_text(name)
    if path.exists():
        raise ConfigError(f"{path} exists already", hint="give another with --to")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}", hint="give another with --to") from None
    if as_json:
        return print_json({"path": str(path)})
    return typer.echo(f"wrote {path}; look it over, then: synpo-lab plan {path}")
