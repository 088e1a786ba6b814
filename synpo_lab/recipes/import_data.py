"""Import: a data set made elsewhere becomes a run of one round. Not a method of alignment; its rows fill the same tables.

1. Tell the format and what is taken from which column, as the look before it did.
2. Read every row; refuse those that are not what the format asks for, each with its line.
3. Show all tables at once. An import that stops or fails before that leaves none of its rows.
"""

from dataclasses import asdict

from storage.importers.source import fingerprint_of
from synpo_lab.config import RunConfig
from synpo_lab.errors import DataError
from synpo_lab.home import storage_errors
from synpo_lab.importing.converting import ITERATION
from synpo_lab.importing.gathering import Gatherer, converted_blocks
from synpo_lab.importing.plan import Plan, make_plan
from synpo_lab.importing.summary import IMPORTED, Summary
from synpo_lab.run import Run, tracked


def run(config: RunConfig, run: Run) -> None:
    if run.done(IMPORTED):
        return
    with run.stage("look"):
        source = config.source
        plan = make_plan(source.paths, source.format, source.columns)
        with storage_errors():
            stamps = [one.stamps() for one in plan.sources]
            total = plan.sources[-1].count()
            size = sum(one.size for one in plan.sources)
            fingerprint = fingerprint_of(plan.sources)
    with run.stage("read rows", ITERATION, total) as progress, run.all_at_once(ITERATION) as staging:
        gatherer = Gatherer(staging.add)
        with converted_blocks(plan.reading, plan.blocks(), size) as converted:
            for one in tracked(converted, progress, count=lambda done: done.tally.rows):
                gatherer.take(one)
        if not gatherer.tally.taken:
            raise DataError(
                f"none of the {gatherer.tally.rows:,} rows could be taken: {_first_refusal(gatherer)}",
                hint="look at it first (`synpo-lab import PATH --dry-run`, or the page Data); what is what: prompt=COLUMN "
                "(--map; Columns)",
            )
        _check_unchanged(plan, stamps)
        rows = staging.rows
    summary = Summary.of(plan, gatherer.tally, dict(rows), gatherer.duplicates, fingerprint)
    run.mark(IMPORTED, asdict(summary))
    run.log(summary.sentence, stage="import")


def _check_unchanged(plan: Plan, stamps: list[list[tuple[int, int]]]) -> None:
    """Part of an older and part of a newer file would be a data set that nobody has."""
    with storage_errors():
        changed = [source.name for source, stamp in zip(plan.sources, stamps, strict=True) if source.stamps() != stamp]
    if changed:
        raise DataError(
            f"{changed[0]} was changed while it was read: nothing was imported",
            hint="import it again once nothing writes to it any more",
        )


def _first_refusal(gatherer: Gatherer) -> str:
    first = next(iter(gatherer.tally.refusals), None)
    return f"{first.place}: {first.why}" if first else "there are none"
