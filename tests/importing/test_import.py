"""A data set becomes a run: what its tables hold, all at once or not at all, in bounded memory."""

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import Database, RunStore
from storage.queries import win_rate_curve
from storage.queries.health import pair_facts
from storage.staging import INCOMING
from storage.state import read_state, set_state
from synpo_lab.config import load
from synpo_lab.errors import DataError, RunError
from synpo_lab.health.duplicates import exact_duplicates
from synpo_lab.health.facts import Facts
from synpo_lab.home import open_home, open_store
from synpo_lab.importing.known import Known
from synpo_lab.importing.launching import (
    default_name,
    delete_import,
    import_config,
    mapping_of,
    start_import,
    summary_of,
)
from synpo_lab.jobs import launch
from synpo_lab.metrics import repetition, similarity
from synpo_lab.records import EvalResult, Pair, Prompt, Response, Score, content_id
from synpo_lab.run import StopRequested
from tests.importing.conftest import as_jsonl

Imported = Callable[..., RunStore]
REAL = Path(__file__).parents[3] / "shared" / "data" / "alpaca_eval"
needs_real = pytest.mark.skipif(not REAL.exists(), reason=f"the real data is not at {REAL}")

ROWS = [
    {"prompt": "a colour?", "chosen": "blue, blue, blue and blue", "rejected": "b", "score_chosen": 2.0, "score_rejected": 0.5},
    {"prompt": "a colour?", "chosen": "green", "rejected": "b", "score_chosen": 1.0, "score_rejected": None},
    {"prompt": "<b>hi</b>\0", "chosen": "", "rejected": "no", "score_chosen": 0.0, "score_rejected": 0.0},
]  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    as_jsonl(tmp_path / "rows.jsonl", ROWS)
    return tmp_path / "rows.jsonl"


def summary(run: RunStore) -> Any:
    found = summary_of(run)
    assert found is not None
    return found


def test_pairs_have_their_numbers_and_are_all_kept(imported: Imported, file: Path) -> None:
    pairs = list(imported(file).read(Pair))
    assert [(pair.prompt, pair.chosen, pair.rejected) for pair in pairs] == [
        (row["prompt"], row["chosen"], row["rejected"]) for row in ROWS
    ]
    assert [pair.gap for pair in pairs] == [1.5, None, 0.0]
    assert [(pair.len_chosen, pair.len_rejected) for pair in pairs] == [(25, 1), (5, 1), (0, 2)]
    assert [pair.repetition for pair in pairs] == [repetition(row["chosen"]) for row in ROWS]
    assert [pair.similarity for pair in pairs] == [similarity(row["chosen"], row["rejected"]) for row in ROWS]
    assert all(pair.kept and pair.drop_reason is None and pair.iteration == 1 for pair in pairs)


def test_a_prompt_of_several_pairs_is_stored_once(imported: Imported, file: Path) -> None:
    prompts = list(imported(file).read(Prompt))
    assert [prompt.text for prompt in prompts] == ["a colour?", "<b>hi</b>\0"]
    assert {prompt.prompt_id for prompt in prompts} == {content_id("prompt", prompt.text) for prompt in prompts}
    assert {(prompt.source, prompt.status) for prompt in prompts} == {("import", "kept")}


def test_a_pair_that_comes_again_is_kept_marked_and_told_apart(imported: Imported, tmp_path: Path) -> None:
    as_jsonl(tmp_path / "rows.jsonl", [ROWS[0], ROWS[1], ROWS[0], *[ROWS[2]] * 1_500])
    run = imported(tmp_path / "rows.jsonl")
    pairs = list(run.read(Pair))
    assert len(pairs) == len({pair.pair_id for pair in pairs}) == 1_503
    assert [pair.duplicate for pair in pairs] == [False, False, True, False] + [True] * 1_499
    assert summary(run).duplicates == 1_500


def test_a_duplicate_is_the_same_for_the_column_and_for_the_health_report(imported: Imported, tmp_path: Path) -> None:
    """The same prompt, turns and texts, whoever is said to have written them; all but the first of the file."""
    row = {"prompt": "p", "chosen": "a", "rejected": "b"}
    asked = {"prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "p"}]}
    rows = [row | {"chosen_model": f"M{n}"} for n in range(4)]
    rows += [row | asked, row | {"prompt": "system: s\n\nuser: p"}, row, row | {"rejected": "c"}]
    as_jsonl(tmp_path / "rows.jsonl", rows)
    run = imported(tmp_path / "rows.jsonl")
    pairs = list(run.read(Pair))
    assert [pair.duplicate for pair in pairs] == [False, True, True, True, False, False, True, False]
    with Database_of(run.folder.parent.parent) as database:
        facts = Facts.of(pair_facts(database, "data"))
    found = exact_duplicates(facts)[1]
    assert {facts.id_of(place) for place in found} == {pair.pair_id for pair in pairs if pair.duplicate}
    assert {detail for _, detail in found.values()} == {f"same as {pairs[0].pair_id}"}


def test_the_same_rows_get_the_same_ids_whatever_file_they_come_in(
    imported: Imported, file: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    one, other = imported(file, name="one"), imported(tmp_path / "rows.json", name="other")
    assert one.ids(Pair) == other.ids(Pair)
    assert one.ids(Prompt) == other.ids(Prompt)


def test_all_completions_are_kept_with_their_scores(imported: Imported, tmp_path: Path) -> None:
    completions = [
        {
            "response": text,
            "model": f"m{score}",
            "overall_score": score,
            "annotations": {"honesty": {"Rating": str(score)}},
        }
        for text, score in (("a", 1), ("b", 5), ("c", 3))
    ]
    as_jsonl(tmp_path / "rows.jsonl", [{"instruction": "p", "completions": completions, "source": "flan"}])
    run = imported(tmp_path / "rows.jsonl")
    (pair,) = run.read(Pair)
    answers = {answer.response_id: answer for answer in run.read(Response)}
    assert (answers[pair.chosen_id].text, answers[pair.rejected_id].text) == ("b", "a")
    assert {(answer.text, answer.model, answer.role) for answer in answers.values()} == {
        ("a", "m1", "candidate"), ("b", "m5", "candidate"), ("c", "m3", "candidate"),
    }  # fmt: skip
    totals = {answers[score.response_id].text: score.value for score in run.read(Score) if score.aspect == "total"}
    assert totals == {"a": 1.0, "b": 5.0, "c": 3.0}
    assert {score.aspect for score in run.read(Score)} == {"honesty", "total"}
    assert next(run.read(Prompt)).source == "import: flan"


def test_annotations_become_evaluations_with_the_soft_preference(imported: Imported, tmp_path: Path) -> None:
    row = {
        "instruction": "p",
        "output_1": "base",
        "generator_1": "gpt4",
        "output_2": "ours!",
        "generator_2": "M",
        "annotator": "j",
    }
    as_jsonl(tmp_path / "rows.jsonl", [row | {"preference": 1.25}, row | {"instruction": "q", "preference": 1.5}])
    run = imported(tmp_path / "rows.jsonl")
    first, draw = run.read(EvalResult)
    assert (first.model_a, first.model_b, first.score_a, first.score_b, first.winner) == ("M", "gpt4", 0.25, 0.75, "b")
    assert (draw.winner, first.len_a, first.len_b) == ("tie", 5, 4)
    (pair,) = run.read(Pair)
    assert (pair.chosen, pair.chosen_score, pair.gap) == ("base", 0.75, 0.5)
    assert {score.scorer for score in run.read(Score)} == {"j"}
    assert first.response_a in run.ids(Response)


def test_every_annotators_verdict_is_kept(imported: Imported, tmp_path: Path) -> None:
    row = {"instruction": "p", "output_1": "base", "generator_1": "gpt4", "output_2": "ours", "generator_2": "M"}
    verdicts = [("j1", 1.9), ("j2", 1.2), ("j1", 1.9)]
    as_jsonl(tmp_path / "rows.jsonl", [row | {"annotator": who, "preference": share} for who, share in verdicts])
    run = imported(tmp_path / "rows.jsonl")
    assert [round(result.score_a, 3) for result in run.read(EvalResult)] == [0.9, 0.2]
    assert summary(run).rows["evals"] == 2
    with Database_of(run.folder.parent.parent) as database:
        told = [(one.annotator, one.n, one.win_rate) for one in win_rate_curve(database, ["data"])]
    assert told == [("j1", 1, 1.0), ("j2", 1, 0.0)]


def test_what_was_refused_is_kept_with_its_lines(imported: Imported, tmp_path: Path) -> None:
    as_jsonl(tmp_path / "rows.jsonl", [*ROWS, {"prompt": "p"}, {"prompt": "", "chosen": "a", "rejected": "b"}])
    made = summary(imported(tmp_path / "rows.jsonl"))
    assert (made.read, made.taken, made.refused) == (5, 3, {"no 'chosen'": 1, "an empty prompt": 1})
    assert [one.place for one in made.listed] == ["rows.jsonl line 4", "rows.jsonl line 5"]
    assert made.sentence == "3 of 5 rows taken: 3 pairs, 2 prompts; 2 refused"


def test_an_import_that_is_stopped_leaves_no_rows(imported: Imported, file: Path, tmp_path: Path) -> None:
    as_jsonl(file, [ROWS[0] | {"prompt": str(number)} for number in range(5_000)])
    asked = iter([False, False, False])  # it stops once some blocks are converted
    with pytest.raises(StopRequested):
        imported(file, stop=lambda: next(asked, True))
    run = open_store(tmp_path / "home").run("data")
    assert [run.ids(kind) for kind in (Pair, Prompt)] == [set(), set()]
    assert not list(run.folder.rglob("*.parquet"))
    assert not (run.folder / INCOMING).exists()
    assert summary_of(run) is None


def test_a_file_that_tears_in_the_middle_leaves_no_rows(imported: Imported, tmp_path: Path) -> None:
    import gzip

    torn = tmp_path / "rows.jsonl.gz"
    lines = [json.dumps(ROWS[0] | {"prompt": f"{number} {content_id(number)}"}) for number in range(20_000)]
    torn.write_bytes(gzip.compress("\n".join(lines).encode())[:-500])
    with pytest.raises(Exception, match="damaged gzip"):
        imported(torn)
    assert not list(open_store(tmp_path / "home").run("data").folder.rglob("*.parquet"))


@pytest.mark.parametrize("change", ["grows", "is cut", "is written again"])
def test_a_file_that_is_changed_while_it_is_read_leaves_no_rows(change: str, imported: Imported, file: Path) -> None:
    as_jsonl(file, [ROWS[0] | {"prompt": str(number)} for number in range(5_000)])
    size = file.stat().st_size
    asked = itertools.count()

    def meanwhile() -> bool:
        if next(asked) == 1:
            if change == "grows":
                with file.open("a") as more:
                    more.write(json.dumps(ROWS[0]))
            else:
                os.truncate(file, size // 2 if change == "is cut" else size)
                os.utime(file, ns=(1, 1))
        return False

    with pytest.raises(DataError, match="was changed while it was read") as caught:
        imported(file, stop=meanwhile)
    assert "again" in caught.value.hint
    assert not list(file.parent.joinpath("home").rglob("*.parquet"))


def test_a_file_without_any_good_row_is_an_error(imported: Imported, tmp_path: Path) -> None:
    as_jsonl(tmp_path / "rows.jsonl", [{"prompt": "", "chosen": "a", "rejected": "b"}])
    with pytest.raises(DataError, match=r"none of the 1 rows could be taken: rows\.jsonl line 1: an empty prompt"):
        imported(tmp_path / "rows.jsonl")


# In a process of its own


def finished(home: Path, name: str) -> RunStore:
    from synpo_lab.cli.following import Silent, watch

    last = watch(home, name, Silent())
    assert last.state == "imported", last.message
    return open_store(home).run(name)


@pytest.mark.slow
def test_an_import_runs_beside_and_adds_nothing_the_second_time(home: Path, file: Path) -> None:
    config = import_config([str(file)])
    assert start_import(home, "mine", config)
    run = finished(home, "mine")
    assert len(run.ids(Pair)) == 3
    parts = sorted(run.folder.rglob("*.parquet"))
    assert not start_import(home, "mine", config)
    assert sorted(run.folder.rglob("*.parquet")) == parts
    with Database_of(home) as database:
        assert database.rows("SELECT state, recipe FROM runs") == [{"state": "imported", "recipe": "import"}]
        assert database.rows("SELECT count(*) AS n FROM pairs WHERE run_id = 'mine'") == [{"n": 3}]
    as_jsonl(file, ROWS[:1])
    with pytest.raises(DataError, match="there is a data set 'mine' already") as caught:
        start_import(home, "mine", config)
    assert "--name" in caught.value.hint


class Database_of:
    """A database that is closed."""

    def __init__(self, home: Path) -> None:
        self._database = Database(open_store(home))

    def __enter__(self) -> Database:
        return self._database

    def __exit__(self, *error: object) -> None:
        self._database.close()


def test_a_name_that_is_a_runs_or_no_name_is_refused(tiny_store: Any, file: Path) -> None:
    home = tiny_store().home
    with pytest.raises(DataError, match="there is a run 'run' already"):
        start_import(home, "run", import_config([str(file)]))
    for name in ("", "../up", ".hidden", "a b", "x" * 81):
        with pytest.raises(DataError, match="cannot name a data set"):
            start_import(home, name, import_config([str(file)]))


def test_an_attempt_that_came_to_nothing_makes_room(home: Path, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = import_config([str(file)])
    store = open_store(open_home(home))
    set_state(store.create_run("mine", config.to_yaml(), {"recipe": "import"}).folder, "failed", "the disk is full")
    launched: list[str] = []
    monkeypatch.setattr("synpo_lab.importing.launching.launch", lambda home, config, name: launched.append(name))
    assert start_import(home, "mine", config)
    assert launched == ["mine"]
    assert store.runs() == []
    assert not list(home.glob(".deleted-*"))


def test_an_imported_data_set_is_deleted_whole_and_a_run_never(imported: Imported, file: Path, tiny_store: Any) -> None:
    run = imported(file)
    home = run.folder.parent.parent
    set_state(run.folder, "imported")
    delete_import(home, "data")
    assert open_store(home).runs() == []
    assert list(home.iterdir()) == [home / "runs"]
    with pytest.raises(RunError, match="not an imported data set"):
        delete_import(tiny_store(config="recipe: synpo\n").home, "run")


def test_an_import_that_is_at_work_is_not_deleted(home: Path, file: Path, counting: Path) -> None:
    config = import_config([str(file)], title='{"pause": 0.5}')
    launch(home, config, "mine")
    with pytest.raises(RunError, match="is being imported"):
        delete_import(home, "mine")


def test_an_import_waits_for_no_training(home: Path, file: Path, counting: Path) -> None:
    slow = load("pocket", ["iterations=1"]).model_copy(update={"title": '{"pause": 0.5}'})
    launch(home, slow, "training")
    launch(home, import_config([str(file)], title="{}"), "mine")
    deadline = time.monotonic() + 60
    while read_state(home / "runs" / "mine").state != "imported" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert read_state(home / "runs" / "mine").state == "imported"
    assert read_state(home / "runs" / "training").state == "running"


KILLED = """
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
import os, time
from synpo_lab.importing.gathering import _end_with_parent

if __name__ == "__main__":
    pool = ProcessPoolExecutor(2, mp_context=get_context("spawn"), initializer=_end_with_parent)
    print(*{pool.submit(os.getpid).result() for _ in range(8)}, flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_a_killed_import_leaves_no_process_behind(tmp_path: Path) -> None:
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": str(root)}
    ) as parent:
        assert parent.stdout is not None
        children = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert children
        parent.kill()
        _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/data/my pairs.jsonl.gz", "my-pairs"), ("hub:me/Ultra_Feedback:test", "Ultra-Feedback-test"), ("folder/", "folder"),
        ("/data/é.csv", "import"),
    ],
)  # fmt: skip
def test_a_data_set_is_named_after_its_file(path: str, name: str) -> None:
    assert default_name([path]) == name


def test_a_mapping_is_written_in_one_line() -> None:
    assert mapping_of(" prompt=question, chosen = best ,") == {"prompt": "question", "chosen": "best"}
    with pytest.raises(DataError, match="'prompt' is not WHAT=COLUMN"):
        mapping_of("prompt")


# Keys


@given(st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9), max_size=30), max_size=12))
def test_keys_are_known_exactly_from_the_first_time_on(batches: list[list[int]]) -> None:
    known, seen = Known(), set[int]()
    for batch in batches:
        told = known.first_seen(np.array(batch, np.uint64)).tolist()
        expected = []
        for key in batch:
            expected.append(key not in seen)
            seen.add(key)
        assert told == expected
    assert len(known) == len(seen)


# Real data, and a lot of it


@needs_real
def test_two_models_real_outputs_become_pairs(imported: Imported) -> None:
    sides = [REAL / "outputs" / f"{name}.json" for name in ("Meta-Llama-3-8B-Instruct", "Llama-3-Instruct-8B-SimPO")]
    run = imported(*sides)
    before, after = (json.loads(path.read_text()) for path in sides)
    assert [(pair.prompt, pair.rejected, pair.chosen) for pair in run.read(Pair)] == [
        (old["instruction"], old["output"], new["output"]) for old, new in zip(before, after, strict=True)
    ]
    assert {answer.model for answer in run.read(Response)} == {"Meta-Llama-3-8B-Instruct", "Llama-3-Instruct-8B-SimPO"}


@needs_real
def test_real_annotations_give_the_published_win_rate(imported: Imported) -> None:
    run = imported(REAL / "annotations" / "OpenHermes-2.5-Mistral-7B.json")
    preferences = [result.score_a for result in run.read(EvalResult)]
    assert len(preferences) == 805
    assert 100 * sum(preferences) / 805 == pytest.approx(10.3404, abs=5e-5)


@needs_real
def test_real_annotations_of_two_models_in_one_file_give_each_its_win_rate(imported: Imported, tmp_path: Path) -> None:
    names = ("OpenHermes-2.5-Mistral-7B", "text_davinci_003")
    files = [json.loads((REAL / "annotations" / f"{name}.json").read_text(encoding="utf-8")) for name in names]
    (tmp_path / "both.json").write_text(json.dumps([row for rows in files for row in rows]), encoding="utf-8")
    run = imported(tmp_path / "both.json")
    with Database_of(run.folder.parent.parent) as database:
        found = {one.model_a: one for one in win_rate_curve(database, ["data"])}
    assert 100 * found["OpenHermes-2.5-Mistral-7B"].mean_policy == pytest.approx(10.3404, abs=5e-5)
    for rows in files:
        shares = [row["preference"] - 1 for row in rows if row["preference"] is not None]
        told = found[rows[0]["generator_2"]]
        assert (told.n, told.mean_policy) == (len(shares), pytest.approx(sum(shares) / len(shares)))


MEMORY = """
import resource, sys
from synpo_lab import recipes
from synpo_lab.health.duplicates import exact_duplicates
from synpo_lab.health.facts import Facts
from synpo_lab.home import open_home, open_store
from synpo_lab.importing import gathering
from synpo_lab.importing.launching import import_config
from synpo_lab.run import Run
from pathlib import Path

gathering.SMALL = 1 << 60  # in this process alone, so that its memory is all there is
path, home = sys.argv[1:]
config = import_config([path])
store = open_store(open_home(Path(home))).create_run("data", config.to_yaml(), {"recipe": "import"})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
recipes.get("import")(config, Run(store, config))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def memory_of_import(folder: Path, rows: int) -> tuple[int, int]:
    """Bytes of a file of 1 kB rows, and the bytes of memory that its import took in a process of its own."""
    path = folder / f"{rows}.jsonl"
    with path.open("w") as file:
        for number in range(rows):
            file.write(f'{{"prompt": "prompt {number}", "chosen": "{number:0500}", "rejected": "{number:0400}"}}\n')
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), str(folder / f"home-{rows}")],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert len(open_store(folder / f"home-{rows}").run("data").ids(Pair)) == rows
    return path.stat().st_size, int(done.stdout) * 1024


@pytest.mark.slow
@pytest.mark.thorough
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Four times the rows are 140 MB more to read, and as texts twice that; 8 bytes a key are 5 MB."""
    small, took_little = memory_of_import(tmp_path, 50_000)
    large, took = memory_of_import(tmp_path, 200_000)
    assert took - took_little < (large - small) / 3, f"{took_little / 1e6:.0f} MB, then {took / 1e6:.0f} MB"
    assert took < 300e6
