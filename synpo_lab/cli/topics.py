"""`synpo-lab topics`: what the prompts of a run are about."""

from dataclasses import asdict
from typing import Annotated

import typer

from synpo_lab.cli.output import AsJson, Home, print_json, print_table


def topics(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The run's id, as `synpo-lab status` shows it.")],
    number: Annotated[
        int | None, typer.Option("--topics", metavar="N", min=1, max=200, help="How many. Default: as many as suit.")
    ] = None,
    embeddings: Annotated[
        str, typer.Option("--embeddings", metavar="tfidf|FOLDER", help="TF-IDF, or a local sentence-embedding model.")
    ] = "tfidf",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Find the topics of a run's prompts, how new they are, and whether they overlap the evaluation set."""
    from storage.database import Database
    from storage.queries.topics import topic_sizes
    from synpo_lab.home import open_home, open_store, storage_errors
    from synpo_lab.topics import write_topics

    store = open_store(open_home(home))
    with storage_errors():
        run = store.run(run_id)
    made = write_topics(run, number, embeddings)
    with storage_errors():
        database = Database(store)
        sizes = [asdict(size) for size in topic_sizes(database, run_id)]
        database.close()
    if as_json:
        return print_json(asdict(made) | {"sizes": sizes})
    print_table(sizes)
    cut = f"; {made.cut}" if made.cut else ""
    told = f"{made.topics} topics of {made.prompts:,} prompts, by {made.embeddings}, in {made.seconds:.1f} s{cut}"
    return typer.echo(told)
