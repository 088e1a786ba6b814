"""Pairs and evaluations out of the lab, in the shapes other tools read.

trl             one JSON object a line: prompt, chosen, rejected, scores; `datasets.load_dataset("json", ...)` and TRL's
                preference trainers take it as it is. `chat`: texts as lists of messages
datasets        a folder of Parquet with a dataset card, as the Hub has them; `datasets.load_dataset(FOLDER)`. `chat` too
parquet, jsonl  every column of the view `pairs`
csv             the same for spreadsheets: a text that a spreadsheet would run as a formula (it begins with = + - @, a
                tab or a carriage return) gets an apostrophe in front; every other text is exact
alpaca-eval     AlpacaEval's `model_outputs`: the chosen answers; or what the last policy answered to evaluation prompts
llm-comparator  LLM Comparator's JSON: chosen against rejected; or the last policy against its opponent

The last two are of the evaluation where no pairs are named and the run has one. Rows stream, and the file or folder
appears whole or not at all.
"""

from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, get_args

from storage.atomic import replacing
from storage.database import Database
from storage.errors import StorageFault, explained
from storage.export.card import Facts, dataset_card
from storage.export.folder import FILE, replacing_folder
from storage.export.shapes import COMPARED, Plan, evaluated_suite, plan
from storage.pair_filter import PairFilter
from storage.queries.pair_query import PairQuery
from storage.queries.pairs import conversations

Format = Literal["trl", "datasets", "parquet", "jsonl", "csv", "alpaca-eval", "llm-comparator"]

ENDINGS: dict[Format, str] = {
    "trl": "jsonl",
    "datasets": "dataset",
    "parquet": "parquet",
    "jsonl": "jsonl",
    "csv": "csv",
    "alpaca-eval": "json",
    "llm-comparator": "json",
}
CHAT = ("trl", "datasets")
_FACTS = """
SELECT count(*) AS rows, avg(gap) FILTER (isfinite(gap)) AS mean_gap,
    coalesce(avg(CAST(len_chosen > len_rejected AS INTEGER)), 0) AS longer_chosen,
    coalesce(avg(len_chosen), 0) AS mean_chosen, coalesce(avg(len_rejected), 0) AS mean_rejected
FROM pairs
WHERE """
_RUN = """SELECT run_id, title, recipe, policy, scorer, seed, iterations, CAST(config AS VARCHAR) AS config
FROM runs WHERE run_id = $run_id"""


@dataclass(frozen=True, slots=True)
class ExportReport:
    rows: int
    path: Path
    bytes: int  # of the file, or of the folder's data
    flattened: int = 0  # prompts that are conversations, and stand there as one text


def export(
    database: Database,
    run_id: str,
    to: Path | str,
    format: Format,
    kept: bool = True,
    *,
    query: PairQuery | None = None,
    rules: PairFilter | None = None,
    chat: bool = False,
    overwrite: bool = False,
    evaluation: bool | None = None,
) -> ExportReport:
    """Write a run's pairs (or evaluations) to a file or folder; into an existing folder, under the run's name.

    `kept`: only pairs the run trained on. `query`: only pairs it matches. `rules`: the pairs these rules keep, whatever
    the run decided. `evaluation`: alpaca-eval and llm-comparator are of the evaluation (True: or nothing; None: where
    neither query nor rules are given and there is one) or of the pairs. StorageFault when the run or format is unknown,
    the target exists, or there is nothing to write.
    """
    database.store.run(run_id)
    path = _target(Path(to), run_id, format, overwrite)
    _check_chat(format, chat)
    chosen = query or PairQuery()
    if rules is not None:
        chosen = replace(chosen, rules=rules)
    elif kept:
        chosen = replace(chosen, kept=True)
    wanted = query is None and rules is None if evaluation is None else evaluation
    suite = evaluated_suite(database, run_id) if wanted and format in COMPARED else None
    if evaluation and suite is None:
        raise StorageFault(f"no evaluation of run {run_id!r} to export as {format}", hint="export its pairs")
    made = plan(run_id, format, chosen, chat=chat, suite=suite)
    flattened = conversations(database, run_id, chosen) if format in CHAT and not chat else 0
    if format == "datasets":
        return replace(_write_folder(database, run_id, path, made, chosen, chat), flattened=flattened)
    with replacing(path) as temporary:
        rows = _some(made.write(temporary, database.batches(made.sql, made.parameters)), run_id, format, chosen)
    return ExportReport(rows, path, path.stat().st_size, flattened)


def _write_folder(
    database: Database, run_id: str, path: Path, made: Plan, query: PairQuery, chat: bool
) -> ExportReport:
    with replacing_folder(path) as temporary:
        rows = made.write(temporary / FILE, database.batches(made.sql, made.parameters))
        _some(rows, run_id, "datasets", query)
        (temporary / "README.md").write_text(_card(database, run_id, query, chat), encoding="utf-8")
    return ExportReport(rows, path, (path / FILE).stat().st_size)


def _card(database: Database, run_id: str, query: PairQuery, chat: bool) -> str:
    told = database.row(_FACTS + query.matches(), query.bound(run_id)) or {}
    run: dict[str, Any] = database.row(_RUN, {"run_id": run_id}) or {}
    return dataset_card(run, Facts(chat=chat, **told), version("synpo-lab"))


def _some(rows: int, run_id: str, format: str, query: PairQuery) -> int:
    if not rows:
        raise StorageFault(
            f"run {run_id!r} has nothing to export as {format}",
            hint="export --all pairs, or look at the drop reasons" if query.kept else "no pair fits what was asked for",
        )
    return rows


def _check_chat(format: str, chat: bool) -> None:
    if chat and format not in CHAT:
        raise StorageFault(f"{format} has no chat form", hint=f"messages go with the formats {' and '.join(CHAT)}")


def _target(to: Path, run_id: str, format: str, overwrite: bool) -> Path:
    if format not in get_args(Format):
        raise StorageFault(f"no export format {format!r}", hint=f"use one of: {', '.join(get_args(Format))}")
    path = to / f"{run_id}.{ENDINGS[format]}" if to.is_dir() and not _is_ours(to, format) else to  # type: ignore[index]
    with explained("look at", path):
        taken = path.exists()
    if taken and not overwrite:
        raise StorageFault(f"{path} exists already", hint="choose another path, or say that it may be overwritten")
    return path


def _is_ours(folder: Path, format: str) -> bool:
    """Whether a folder is a dataset written before, and not one to write into."""
    return format == "datasets" and (folder / FILE).is_file()
