from pathlib import Path

import pyarrow as pa
import pytest

from storage import Database, RunStore, StorageFault, Store, staging
from storage.schema import to_batch
from storage.staging import INCOMING, all_at_once
from synpo_lab.records import TABLES, Prompt


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    return Store(tmp_path, TABLES).create_run("run", "recipe: import\n", {})


def batch_of(*texts: str) -> pa.RecordBatch:
    return to_batch([Prompt(1, text, text, [], None, "import", "kept", None) for text in texts], Prompt)


def test_rows_show_all_at_once_when_the_block_ends(run: RunStore) -> None:
    with all_at_once(run, 1) as staged:
        staged.add("prompts", batch_of("a", "b"))
        staged.flush()
        assert run.ids(Prompt) == set()
    assert run.ids(Prompt, 1) == {"a", "b"}
    assert staged.rows == {"prompts": 2}
    assert not (run.folder / INCOMING).exists()


def test_sql_sees_nothing_of_what_waits(run: RunStore, tmp_path: Path) -> None:
    database = Database(Store(tmp_path, TABLES))
    with all_at_once(run, 1) as staged:
        staged.add("prompts", batch_of("a"))
        staged.flush()
        assert database.rows("SELECT count(*) AS n FROM prompts") == [{"n": 0}]
    assert database.rows("SELECT run_id, iteration, text FROM prompts") == [
        {"run_id": "run", "iteration": 1, "text": "a"}
    ]
    database.close()


def stage_and_fail(run: RunStore) -> None:
    with all_at_once(run, 1) as staged:
        staged.add("prompts", batch_of("b"))
        staged.flush()
        raise ZeroDivisionError


def test_a_block_that_fails_leaves_nothing_and_what_was_there_stays(run: RunStore) -> None:
    with all_at_once(run, 1) as staged:
        staged.add("prompts", batch_of("a"))
    with pytest.raises(ZeroDivisionError):
        stage_and_fail(run)
    assert run.ids(Prompt) == {"a"}
    assert not (run.folder / INCOMING).exists()


def test_a_second_block_takes_the_place_of_the_first(run: RunStore) -> None:
    for text in ("a", "b"):
        with all_at_once(run, 1) as staged:
            staged.add("prompts", batch_of(text))
    assert run.ids(Prompt) == {"b"}


def test_what_a_killed_process_left_half_is_swept_away(run: RunStore) -> None:
    left = run.folder / INCOMING / "pairs" / "iteration=1"
    left.mkdir(parents=True)
    (left / "part-1.parquet").write_bytes(b"half")
    with all_at_once(run, 1) as staged:
        staged.add("prompts", batch_of("a"))
    assert [path.name for path in run.folder.glob("*/iteration=*")] == ["iteration=1"]
    assert run.ids(Prompt) == {"a"}


def test_parts_are_bounded(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "PART_ROWS", 3)
    with all_at_once(run, 1) as staged:
        for number in range(5):
            staged.add("prompts", batch_of(f"{number} a", f"{number} b"))
    assert len(list((run.folder / "prompts" / "iteration=1").glob("part-*.parquet"))) == 3
    assert [prompt.text for prompt in run.read(Prompt)] == [
        f"{number} {letter}" for number in range(5) for letter in "ab"
    ]


def test_a_folder_that_cannot_be_made_is_told(run: RunStore) -> None:
    (run.folder / INCOMING).write_text("a file where the folder must be")
    with pytest.raises(StorageFault, match="cannot clear"), all_at_once(run, 1):
        pass
