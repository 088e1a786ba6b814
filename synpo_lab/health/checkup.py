"""All checks over one run's pairs: numbers first, then texts, then prompts; findings and the report are stored.

Numbers (identical sides, duplicates, conflicts, lengths, scores, empty answers, cuts) are of every pair. Prompts are
compared all with all, up to a million different ones. Texts are read of MOST_TEXTS pairs at most, drawn by a hash of
their ids: a report says so, and the same pairs are drawn each time.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from storage import Database, RunStore
from storage.locks import hold_lock
from storage.queries.health import held_out_prompts, pair_count, pair_facts, pair_prompts, pair_texts
from synpo_lab.errors import RunError
from synpo_lab.health import duplicates, labels, length, near_duplicates, overlap, sides, texts
from synpo_lab.health.check import Rows
from synpo_lab.health.edits import DRAFT_EDIT, EDIT
from synpo_lab.health.evaluation_file import read_evaluation_prompts
from synpo_lab.health.facts import Facts
from synpo_lab.health.progress import LOCK, Tell, telling
from synpo_lab.health.report import CheckResult, Report, from_json
from synpo_lab.home import open_store, storage_errors
from synpo_lab.records import Finding

MOST_TEXTS = 100_000  # pairs whose texts are read; 0.9 ms each for answers of 1,900 characters
LONGEST_PROMPT = 8_000  # characters of a prompt that are compared with others
MARKER = "health"
HELD_OUT = "the run's held-out prompts"
LAST = 2**63 - 1  # no lot is higher

Answer = tuple[CheckResult, Rows]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The evaluation prompts of a check, and where they came from."""

    prompts: list[str]
    sources: list[str]


def check_run(
    home: Path, run_id: str, files: Sequence[Path] = (), *, most_texts: int = MOST_TEXTS, tell: Tell = lambda *_: None
) -> Report:
    """Check a run, or an imported data set, and store what was found.

    `files`: evaluation prompts beside the run's own. RunError when there is no such run, DataError for a bad file,
    StorageError when it cannot be written or another check of it is going on.
    """
    with storage_errors():
        run = run_to_check(home, run_id)
        busy, hint = f"a check of {run_id} is going on", "wait for it; its report appears on the Health page"
        with (
            hold_lock(run.folder / LOCK, busy=busy, hint=hint),
            telling(run, tell) as tell_all,
            closing(_database(home)) as database,
        ):
            return _check(run, database, files, most_texts, tell_all)


def run_to_check(home: Path, run_id: str) -> RunStore:
    """The run of that id. RunError when there is none."""
    store = open_store(home)
    if run_id not in store.runs():
        raise RunError(f"there is no run {run_id!r}", hint="`synpo-lab status` lists the runs of this lab home")
    return store.run(run_id)


def stored_report(run: RunStore) -> Report | None:
    """The report of the last check; None when there was none, or only one of an older version of the lab."""
    with storage_errors():
        found = run.marker(MARKER)
    try:
        return None if found is None else from_json(found)
    except (TypeError, KeyError, ValueError):
        return None


def pairs_since(database: Database, report: Report) -> int:
    """How many pairs were added since the report was made."""
    with storage_errors():
        return pair_count(database, report.run_id) - report.pairs


def _database(home: Path) -> Database:
    return Database(open_store(home, read_only=True))


def _check(run: RunStore, database: Database, files: Sequence[Path], most_texts: int, tell: Tell) -> Report:
    began, clock = time.time(), time.monotonic()
    evaluation = _evaluation(database, run.run_id, files)
    tell("numbers", 0, 0)
    facts = Facts.of(pair_facts(database, run.run_id))
    found = _read_texts(database, run.run_id, facts, most_texts, tell)
    facts = replace(facts, similarity=found.similarity)
    answers = [*_of_numbers(facts), *texts.text_results(facts, found), labels.surface_disagrees(facts, found.coverage)]
    answers += _of_prompts(database, run.run_id, facts, evaluation, tell)
    tell("writing", 0, 0)
    run.replace(Finding, _findings(facts, _by_kind(answers, found)))
    report = Report(
        run_id=run.run_id, at=began, pairs=len(facts), kept=int(facts.kept.sum()), texts_read=int(found.read.sum()),
        evaluation=evaluation.sources, seconds=time.monotonic() - clock, checks=[result for result, _ in answers],
        edits=_edits(found), replaced=texts.commonest_replaced(found),
    )  # fmt: skip
    run.mark(MARKER, report.to_json())
    return report


def _evaluation(database: Database, run_id: str, files: Sequence[Path]) -> Evaluation:
    own = held_out_prompts(database, run_id)
    prompts, sources = [*own], [HELD_OUT] if own else []
    for path in files:
        prompts += read_evaluation_prompts(path)
        sources.append(path.name)
    return Evaluation(prompts, sources)


def _of_numbers(facts: Facts) -> Iterator[Answer]:
    yield sides.identical_sides(facts)
    yield sides.near_identical_sides(facts)
    yield duplicates.exact_duplicates(facts)
    yield duplicates.conflicting_labels(facts)
    yield length.longer_is_chosen(facts)
    yield length.length_only_judge(facts)
    yield length.score_follows_length(facts)
    yield length.much_longer_chosen(facts)
    yield labels.ties(facts)
    yield labels.scores_disagree(facts)
    yield labels.outlier_gaps(facts)


def _read_texts(database: Database, run_id: str, facts: Facts, most: int, tell: Tell) -> texts.TextsRead:
    highest = LAST if len(facts) <= most else int(np.partition(facts.lot, most - 1)[most - 1])
    drawn = np.flatnonzero(facts.lot <= highest)
    places = {(int(facts.iteration[row]), facts.id_of(int(row))): int(row) for row in drawn}
    rows = (row for row in pair_texts(database, run_id, highest) if (row["iteration"], row["pair_id"]) in places)
    found = texts.nothing_read(facts)
    for done, row in enumerate(rows):
        texts.read(row, places[row["iteration"], row["pair_id"]], found)
        if done % 200 == 0:
            tell("texts", done, len(drawn))
    return found


def _of_prompts(database: Database, run_id: str, facts: Facts, evaluation: Evaluation, tell: Tell) -> list[Answer]:
    known, prompts = overlap.EvaluationSet(evaluation.prompts), near_duplicates.Prompts()
    overlaps: dict[int, overlap.Overlap] = {}
    seen: set[int] = set()
    for done, (key, prompt) in enumerate(pair_prompts(database, run_id, LONGEST_PROMPT)):
        if done % 1000 == 0:
            tell("prompts", done, len(facts))
        if key in seen:
            continue
        seen.add(key)
        prompts.add(key, prompt)
        if len(known) and (nearest := known.nearest(prompt)) is not None:
            overlaps[key] = nearest
    tell("near-duplicates", 0, 0)
    return [near_duplicates.near_duplicates(facts, prompts), overlap.evaluation_overlap(facts, overlaps, known)]


def _edits(found: texts.TextsRead) -> dict[str, int]:
    return {kind: len(rows) for kind, rows in found.rows.items() if kind.startswith((EDIT, DRAFT_EDIT))}


def _by_kind(answers: Iterable[Answer], found: texts.TextsRead) -> Iterator[tuple[str, Rows]]:
    told = {result.name: rows for result, rows in answers if rows}
    yield from told.items()
    yield from ((kind, rows) for kind, rows in found.rows.items() if kind not in told and rows)


def _findings(facts: Facts, kinds: Iterable[tuple[str, Mapping[int, tuple[float | None, str]]]]) -> Iterator[Finding]:
    for kind, rows in kinds:
        for row, (value, detail) in rows.items():
            yield Finding(int(facts.iteration[row]), kind, facts.id_of(row), value, detail)
