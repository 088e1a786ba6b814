"""`synpo-lab compare | query | export`: read what runs have made."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from synpo_lab.cli.output import AsJson, Home, print_json, print_table

FORMATS = "trl, datasets, parquet, jsonl, csv, alpaca-eval or llm-comparator"


def compare(
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN...", help="The runs, in the order to show them.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Put runs side by side: M_0, each iteration of a SynPO run, the end of every other run."""
    from synpo_lab.home import open_home
    from synpo_lab.report import comparison_rows, shown

    rows = comparison_rows(open_home(home, writable=False), run_ids)
    if as_json:
        return print_json(rows)
    return print_table([{"run": row["run_id"], **shown(row)} for row in rows])


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT over the public tables.")],
    home: Home = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="At most so many rows.")] = 1000,
    seconds: Annotated[float, typer.Option("--seconds", min=0.1, help="Give up after so long.")] = 60.0,
    as_json: AsJson = False,
) -> None:
    """Ask anything in SQL. Read-only: the same sandbox as the SQL page."""
    from storage.sandbox import Console
    from synpo_lab.home import open_home, open_store, storage_errors

    with storage_errors():
        console = Console(open_store(open_home(home, writable=False), read_only=True), time_limit=seconds, children=1)
        try:
            answer = console.query(sql, max_rows=rows)
        finally:
            console.close()
    found = [dict(zip(answer.columns, row, strict=True)) for row in answer.rows]
    print_json(found) if as_json else print_table(found, answer.columns)
    if answer.truncated:
        typer.echo(f"there are more rows; these are the first {rows:,} (--rows)", err=True)


def export(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as `synpo-lab status` shows it.")],
    to: Annotated[str, typer.Option("--to", metavar="PATH", help="A file, a folder to put it in, or hub:OWNER/NAME.")],
    format: Annotated[str, typer.Option("--format", help=f"One of {FORMATS}.")] = "trl",
    kept: Annotated[
        bool | None,
        typer.Option("--kept/--all", help="Only pairs the run trained on (as usual, without --filter), or every pair."),
    ] = None,
    named: Annotated[
        str | None,
        typer.Option("--filter", metavar="NAME|FILE", help="Pairs that a saved filter, preset or YAML file keeps."),
    ] = None,
    verdict: Annotated[
        str | None, typer.Option("--verdict", help="Pairs by readers' verdicts: chosen, bad, any, none, note, ...")
    ] = None,
    finding: Annotated[str | None, typer.Option("--finding", help="Pairs the health report found this in.")] = None,
    topic: Annotated[int | None, typer.Option("--topic", help="Pairs whose prompt is of this topic.")] = None,
    eye: Annotated[str | None, typer.Option("--eye", help="Pairs the policy sees so: 'ranked wrongly', ...")] = None,
    search: Annotated[str | None, typer.Option("--search", help="Pairs with this in a text or note.")] = None,
    evaluation: Annotated[
        bool | None,
        typer.Option(
            "--evaluation/--pairs",
            help="What alpaca-eval and llm-comparator are of. Usual: the evaluation, "
            "where there is one and no pairs are chosen.",
        ),
    ] = None,
    where: Annotated[str | None, typer.Option("--where", help="Only pairs for which this SQL condition holds.")] = None,
    iteration: Annotated[int | None, typer.Option("--iteration", help="Only pairs of this round.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="Texts as lists of messages (trl and datasets).")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    public: Annotated[bool, typer.Option("--public", help="A repository on the Hub that everyone can see.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write a run's pairs, or its evaluation answers, to a file or folder that other tools read, or to the Hub."""
    from storage.database import Database
    from storage.export import export as write
    from storage.pair_filter import NO_RULES, PairFilter
    from storage.queries.pair_query import PairQuery
    from synpo_lab import filters
    from synpo_lab.home import open_home, open_store, storage_errors
    from synpo_lab.publishing import publish

    wanted: Any = format
    folder = open_home(home, writable=False)
    rules = PairFilter(**filters.read_named(folder, named).model_dump()) if named else NO_RULES
    if where:
        rules = replace(rules, where=f"({rules.where}\n) AND ({where}\n)" if rules.where else where)
    query = PairQuery(
        iteration=iteration, verdict=verdict, finding=finding, topic=topic, eye=eye, search=search,
        rules=None if rules == NO_RULES else rules,
    )  # fmt: skip
    chosen = kept is not None or query != PairQuery()
    query = replace(query, kept=True if kept or (kept is None and named is None) else None)
    with storage_errors():
        database = Database(open_store(folder, read_only=True))
        if to.startswith("hub:"):
            published = publish(
                database, run_id, to.removeprefix("hub:"), query=query, kept=False, chat=chat, public=public
            )
            said = {"url": published.url, "rows": published.rows}
            _tell_flattened(published.flattened)
            return print_json(said) if as_json else typer.echo(f"{published.rows:,} rows at {published.url}")
        made = write(
            database, run_id, Path(to).expanduser(), wanted, not chosen, query=query if chosen else None, chat=chat,
            overwrite=overwrite, evaluation=evaluation,
        )  # fmt: skip
    _tell_flattened(made.flattened)
    if as_json:
        return print_json({"path": str(made.path), "rows": made.rows, "bytes": made.bytes})
    return typer.echo(f"{made.rows:,} rows in {made.path}, {made.bytes:,} bytes")


def _tell_flattened(prompts: int) -> None:
    if prompts:
        typer.echo(
            f"{prompts:,} of the prompts are conversations, written as one text; --chat keeps their turns", err=True
        )
