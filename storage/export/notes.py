"""Readers' verdicts and notes out of the lab, each with its pair: one row a pair and reader."""

from pathlib import Path
from typing import Literal

from storage.atomic import replacing
from storage.database import Database
from storage.errors import StorageFault
from storage.export.writers import rows_of, write_csv, write_lines
from storage.queries.verdicts import noted_pairs

NoteFormat = Literal["csv", "jsonl"]


def export_notes(database: Database, run_id: str, path: Path, format: NoteFormat) -> Path:
    """Write every reader's latest verdict and note on the run's pairs. StorageFault when there is none."""
    write = write_csv if format == "csv" else write_lines
    rows = ({**row, "noted_at": row["noted_at"].isoformat() + "Z"} for row in rows_of(noted_pairs(database, run_id)))
    with replacing(path) as temporary:
        if not write(temporary, rows):
            raise StorageFault(
                f"there is no verdict or note on a pair of run {run_id!r} yet", hint="give one on the Pairs page"
            )
    return path
