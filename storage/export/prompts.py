"""Prompts out of the lab: those of a filter in its order, with where they came from and what they are about."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from storage.atomic import replacing
from storage.database import Database
from storage.errors import StorageFault
from storage.export.writers import Row, Rows, rows_of, write_csv, write_lines, write_parquet
from storage.queries.prompts import all_prompts

PromptFormat = Literal["csv", "jsonl", "parquet"]


def export_prompts(
    database: Database, run_id: str, path: Path, format: PromptFormat, *, sort: str = "written", **chosen: Any
) -> int:
    """Write the prompts that `prompts_page` would show for the same filters, and say how many. StorageFault when none is.

    In CSV a list of keywords is JSON.
    """
    batches = all_prompts(database, run_id, sort=sort, **chosen)
    with replacing(path) as temporary:
        if format == "parquet":
            rows = write_parquet(temporary, batches)
        elif format == "jsonl":
            rows = write_lines(temporary, rows_of(batches))
        else:
            rows = write_csv(temporary, _flat(rows_of(batches)))
        if not rows:
            raise StorageFault(f"no prompt of run {run_id!r} fits what was asked for", hint="loosen the filters")
    return rows


def _flat(rows: Rows) -> Iterator[Row]:
    return ({**row, "keywords": json.dumps(row["keywords"], ensure_ascii=False)} for row in rows)
