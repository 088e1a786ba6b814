"""The public tables hold what was written: at once, whole, and whatever lies beside it."""

import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import pytest

from storage import Database, StorageFault, Store
from storage.catalogue import public_views
from synpo_lab.records import TABLES, Event, Note, Pair, Score

TinyStore = Callable[..., Store]
DESIGN = {
    "runs": "run_id recipe state created_at policy scorer seed config",
    "seeds": "run_id seed_id prompt gold",
    "prompts": "run_id iteration prompt_id text keywords noise_keyword source status drop_reason",
    "responses": "run_id iteration response_id prompt_id role model text n_tokens finish_reason sampling",
    "scores": "run_id iteration response_id scorer aspect value",
    "pairs": "run_id iteration pair_id prompt_id prompt chosen_id rejected_id chosen rejected chosen_score "
    "rejected_score gap kept drop_reason len_chosen len_rejected",
    "train_steps": "run_id iteration trainee step loss lr grad_norm reward_margin reward_accuracy logp_chosen "
    "logp_rejected tokens_per_s",
    "evals": "run_id iteration suite prompt_id model_a model_b score_a score_b winner len_a len_b",
    "pair_logps": "run_id iteration pair_id model logp_chosen logp_rejected beta gamma",
    "topics": "run_id iteration prompt_id topic label x y novelty overlap",
    "findings": "run_id iteration kind pair_id value detail",
    "events": "run_id at stage iteration done total message",
    "notes": "pair_id verdict text author at",
    "votes": "run_id pair_id prompt model_a model_b answer_a answer_b seed winner blind author at",
}


def ordered(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in rows)


@pytest.mark.parametrize("name", TABLES)
def test_a_view_shows_exactly_what_was_written(tiny_store: TinyStore, small_run: list[Any], name: str) -> None:
    tiny_store(small_run, run_id="one")
    database = Database(tiny_store(small_run[::2], run_id="two"))
    expected = [
        {"run_id": run_id, **asdict(record)}
        for run_id, records in (("one", small_run), ("two", small_run[::2]))
        for record in records
        if isinstance(record, TABLES[name])
    ]
    assert expected
    assert ordered(database.rows(f"SELECT * FROM {name}")) == ordered(expected)


def test_the_catalogue_tells_of_every_column_in_order(tiny_store: TinyStore) -> None:
    database = Database(tiny_store())
    assert list(public_views()) == list(DESIGN)
    for view in public_views().values():
        described = [row["column_name"] for row in database.rows(f"DESCRIBE {view.name}")]
        assert described == list(view.columns)
        assert view.question.endswith("?")
        assert all(meaning.strip() for meaning in view.columns.values())
        assert set(DESIGN[view.name].split()) <= set(described)


@pytest.mark.parametrize("name", TABLES)
def test_every_field_of_a_record_is_a_column_of_its_view(name: str) -> None:
    assert {field.name for field in fields(TABLES[name])} | {"run_id"} == set(public_views()[name].columns)


def test_events_and_notes_are_tables_too(tiny_store: TinyStore) -> None:
    store = tiny_store()
    database = Database(store)
    assert database.rows("SELECT * FROM events") == []
    event = Event(1_700_000_000.25, "draft", 1, 2, 3, "hello\x00🦉", "warning")
    store.run("run").event(**asdict(event))
    (row,) = database.rows("SELECT *, epoch(events.at) AS seconds FROM events")
    assert {**asdict(event), "run_id": "run", "at": row["at"], "seconds": event.at} == row
    store.append_note(Note("p", "tie", "text", "me", 1.5))
    assert database.rows("SELECT pair_id, verdict, text, author, epoch(n.at) AS at FROM notes AS n") == [
        {"pair_id": "p", "verdict": "tie", "text": "text", "author": "me", "at": 1.5}
    ]


def test_a_torn_event_spoils_no_other(tiny_store: TinyStore) -> None:
    run = tiny_store().run("run")
    run.event("a", "one")
    with (run.folder / "events.jsonl").open("a") as file:
        file.write('not json\n[1]\n{"at": "soon"}\n{"at": 3, "sta')
    database = Database(Store(run.folder.parents[1], TABLES))
    assert [row["message"] for row in database.rows("SELECT message FROM events")] == ["one"]
    run.event("a", "two")
    assert [row["message"] for row in database.rows("SELECT message FROM events ORDER BY message")] == ["one", "two"]


def test_new_parts_and_new_kinds_of_rows_show_at_once(tiny_store: TinyStore, small_run: list[Any]) -> None:
    store = tiny_store()
    database = Database(store)
    run = store.run("run")
    for name, kind in TABLES.items():
        mine = [record for record in small_run if isinstance(record, kind)]
        assert database.rows(f"SELECT count(*) AS n FROM {name}") == [{"n": 0}]
        run.append(mine[:1])
        assert database.rows(f"SELECT count(*) AS n FROM {name}") == [{"n": 1}]
        run.append(mine)
        assert database.rows(f"SELECT count(*) AS n FROM {name}") == [{"n": len(mine)}]


def test_rows_of_another_process_show_at_once(tiny_store: TinyStore) -> None:
    store = tiny_store()
    database = Database(store)
    code = (
        "import sys\nfrom pathlib import Path\nfrom storage import Store\nfrom synpo_lab.records import TABLES, Score\n"
    )
    code += "Store(Path(sys.argv[1]), TABLES).run('run').append([Score(1, 'r', 's', 'total', 1.0)])"
    subprocess.run([sys.executable, "-c", code, str(store.home)], check=True)
    assert database.rows("SELECT response_id FROM scores") == [{"response_id": "r"}]


def test_the_state_of_a_run_is_as_its_folder_says_now(tiny_store: TinyStore) -> None:
    store = tiny_store(state="running")
    database = Database(store)
    assert database.rows("SELECT state FROM runs") == [{"state": "interrupted"}]
    tiny_store(run_id="second", state="imported")
    assert database.rows("SELECT run_id, state FROM runs ORDER BY run_id") == [
        {"run_id": "run", "state": "interrupted"},
        {"run_id": "second", "state": "imported"},
    ]
    (store.run("second").folder / "state.json").write_text("{")
    assert database.rows("SELECT state FROM runs WHERE run_id = 'second'") == [{"state": "failed"}]


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("damage", ["cut", "hole"])
def test_a_torn_part_costs_its_own_rows_only(tiny_store: TinyStore, read_only: bool, damage: str) -> None:
    home = tiny_store(Score(1, f"{i}" * 400, "rubric", "total", 0.0) for i in range(9)).home
    run = Store(home, TABLES).run("run")
    run.append([Score(1, "good", "rubric", "total", 0.0)])
    torn = min(run.folder.glob("scores/*/part-*"))
    data, half = torn.read_bytes(), torn.stat().st_size // 2
    torn.write_bytes(data[:half] if damage == "cut" else data[:4] + b"\xff" * (half - 4) + data[half:])
    database = Database(Store(home, TABLES, read_only=read_only))
    assert database.rows("SELECT response_id FROM scores") == [{"response_id": "good"}]
    assert torn.exists() is read_only
    run.append([Score(1, "later", "rubric", "total", 0.0)])
    assert len(database.rows("SELECT response_id FROM scores")) == 2


def test_a_run_that_was_deleted_is_gone_from_every_table(tiny_store: TinyStore, small_run: list[Any]) -> None:
    import shutil

    store = tiny_store(small_run)
    database = Database(store)
    assert database.rows("SELECT count(*) > 0 AS some FROM pairs") == [{"some": True}]
    shutil.rmtree(store.run("run").folder)
    assert database.rows("SELECT * FROM pairs") == []
    assert database.rows("SELECT * FROM runs") == []


def test_a_column_that_old_parts_lack_is_empty_there(tmp_path: Path) -> None:
    @dataclass(frozen=True, slots=True)
    class OldScore:
        key: ClassVar[str] = "response_id"
        iteration: int
        response_id: str
        value: float

    Store(tmp_path, {"scores": OldScore}).create_run("run", "", {}).append([OldScore(1, "old", 0.5)])
    store = Store(tmp_path, TABLES)
    assert Database(store).rows("SELECT response_id, scorer, value FROM scores") == [
        {"response_id": "old", "scorer": None, "value": 0.5}
    ]
    store.run("run").append([Score(1, "new", "rubric", "total", 1.0)])
    found = Database(store).rows("SELECT response_id, scorer FROM scores ORDER BY value")
    assert found == [{"response_id": "old", "scorer": None}, {"response_id": "new", "scorer": "rubric"}]


def test_a_store_of_some_tables_offers_those(tmp_path: Path) -> None:
    database = Database(Store(tmp_path, {"pairs": Pair}))
    assert database.rows("SELECT * FROM pairs") == []
    assert {row["name"] for row in database.rows("SHOW TABLES")} == {"runs", "pairs", "events", "notes", "votes"}


def test_a_home_with_odd_letters_in_its_name_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "it's [a] home*", TABLES)
    store.create_run("run", "title: x", {}).append([Score(1, "r", "rubric", "total", 1.0)])
    assert Database(store).rows("SELECT run_id FROM scores") == [{"run_id": "run"}]


def test_many_threads_can_ask_while_rows_come(tiny_store: TinyStore) -> None:
    store = tiny_store()
    database, run = Database(store), store.run("run")
    problems: list[Exception] = []

    def ask() -> None:
        try:
            counts = [database.rows("SELECT count(*) AS n FROM scores")[0]["n"] for _ in range(15)]
            assert counts == sorted(counts)
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(20):
        run.append([Score(1, str(i), "rubric", "total", 1.0)])
        store.create_run(f"run{i}", "", {})
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(database.rows("SELECT * FROM runs")) == 21


def test_batches_hold_all_rows_in_bounded_pieces(tiny_store: TinyStore) -> None:
    store = tiny_store(Score(1, str(i), "rubric", "total", 1.0) for i in range(5_000))
    sizes = [batch.num_rows for batch in Database(store).batches("SELECT * FROM scores", size=1_000)]
    assert sum(sizes) == 5_000
    assert max(sizes) <= 2_048


def test_what_cannot_be_put_right_is_a_fault(tiny_store: TinyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tiny_store([Score(1, "r", "rubric", "total", 1.0)])
    database = Database(store)
    next(store.home.glob("runs/run/scores/*/part-*")).write_bytes(b"")
    monkeypatch.setattr("storage.sources.damaged_parts", lambda store: [])
    with pytest.raises(StorageFault, match="cannot be read"):
        database.rows("SELECT * FROM scores")
    with pytest.raises(StorageFault, match="cannot be read"):
        list(database.batches("SELECT * FROM scores"))


@pytest.mark.parametrize(
    "sql", ["SELECT CAST(text AS INTEGER) FROM prompts", "SELECT 9223372036854775807 + iteration FROM prompts"]
)
def test_a_question_that_fails_for_another_reason_reads_no_part_in_search_of_damage(
    tiny_store: TinyStore, small_run: list[Any], sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = Database(tiny_store(small_run))
    looked: list[object] = []
    monkeypatch.setattr("storage.sources.damaged_parts", lambda store: [looked.append(store)])
    with pytest.raises(StorageFault):
        database.rows(sql)
    assert looked == []
