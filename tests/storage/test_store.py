"""Runs as folders: whole parts, torn parts, crashes, two writers, a reader beside a writer."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from storage import Database, RunStore, StorageFault, Store, atomic, parts
from storage.log import append_line
from synpo_lab.records import TABLES, Note, Pair, Prompt, Score, Topic

SCORES = [Score(1 + i % 2, f"r{i}", "rubric", "total", i / 7) for i in range(10)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "lab", TABLES)


@pytest.fixture
def run(store: Store) -> RunStore:
    return store.create_run("run", "recipe: synpo\n", {"commit": "abc"})


def part_files(run: RunStore, table: str = "scores") -> list[Path]:
    return sorted(run.folder.glob(f"{table}/*/part-*"))


def test_a_new_run_has_its_config_and_what_made_it(store: Store, run: RunStore) -> None:
    assert (run.folder / "run.yaml").read_text() == "recipe: synpo\n"
    info = json.loads((run.folder / "run.json").read_text())
    assert info["commit"] == "abc"
    assert abs(info["created_at"] - time.time()) < 60
    assert run.models.is_dir()
    assert store.runs() == ["run"]


def test_two_runs_cannot_have_the_same_id(store: Store, run: RunStore) -> None:
    with pytest.raises(StorageFault, match="already") as fault:
        store.create_run("run", "", {})
    assert "--run-id" in fault.value.hint
    assert (run.folder / "run.yaml").read_text() == "recipe: synpo\n"
    assert store.runs() == ["run"]
    assert len(list(store.runs_folder.iterdir())) == 1


def test_what_a_run_is_filled_with_is_seen_by_nobody_before_it_is_whole(store: Store, run: RunStore) -> None:
    run.append(SCORES[:1])
    seen: list[Any] = []

    def fill(made: RunStore) -> None:
        made.append(SCORES[:1])
        made.event("fork", "half made")
        with closing(Database(store)) as database:
            seen.append(database.rows("SELECT DISTINCT run_id FROM scores"))
            seen.append(database.rows("SELECT DISTINCT run_id FROM events"))
            seen.append(store.runs())

    store.create_run("fork", "", {}, fill)
    assert seen == [[{"run_id": "run"}], [], ["run"]]
    with closing(Database(store)) as database:
        told = database.rows("SELECT run_id, count(*) AS n FROM scores GROUP BY run_id ORDER BY run_id")
    assert told == [{"run_id": "fork", "n": 1}, {"run_id": "run", "n": 1}]
    assert sorted(path.name for path in store.runs_folder.iterdir()) == ["fork", "run"]


def test_of_many_who_make_a_run_at_once_one_succeeds(store: Store) -> None:
    outcomes: list[str] = []

    def make(number: int) -> None:
        try:
            store.create_run("same", f"title: '{number}'", {})
            outcomes.append("made")
        except StorageFault:
            outcomes.append("refused")

    threads = [threading.Thread(target=make, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["made"] + ["refused"] * 7


@pytest.mark.parametrize("name", ["", ".hidden", "..", "a/b", "a b", "ü", "x" * 81, "a\n", "../x", "a\x00"])
def test_a_name_that_is_no_run_id_is_refused(store: Store, name: str) -> None:
    with pytest.raises(StorageFault, match="cannot name a run"):
        store.create_run(name, "", {})
    with pytest.raises(StorageFault, match="cannot name a run"):
        store.run(name)


def test_a_run_that_is_not_there_is_said_not_to_be(store: Store) -> None:
    assert store.runs() == []
    with pytest.raises(StorageFault, match="no run 'other'"):
        store.run("other")


def test_rows_of_several_types_go_to_their_tables_and_iterations(run: RunStore) -> None:
    prompt = Prompt(2, "p", "text", ["a"], None, "seed", "kept", None)
    assert run.append([SCORES[0], prompt, SCORES[1]]) == 3
    assert {path.parent.relative_to(run.folder).as_posix() for path in run.folder.glob("*/*/part-*.parquet")} == {
        "scores/iteration=1", "scores/iteration=2", "prompts/iteration=2",
    }  # fmt: skip
    assert list(run.read(Score, 1)) == [SCORES[0]]
    assert list(run.read(Prompt)) == [prompt]
    assert run.iterations(Score) == [1, 2]
    assert list(run.read(Pair)) == []
    assert run.ids(Pair, 3) == set()


def test_a_type_of_another_store_is_refused(run: RunStore) -> None:
    note = Note("p", "tie", "", "me", 0.0)
    with pytest.raises(StorageFault, match="Note is no record type"):
        run.append([note])
    with pytest.raises(StorageFault, match="Note is no record type"):
        list(run.read(Note))


def test_rows_that_are_there_already_add_nothing(run: RunStore) -> None:
    assert run.append(SCORES) == 10
    assert run.append(SCORES) == 0
    assert RunStore(run.folder, TABLES).append([*SCORES, *SCORES, Score(1, "r0", "rubric", "polite", 1.0)]) == 1
    assert len(list(run.read(Score))) == 11
    assert len(part_files(run)) == 3


def test_a_row_written_twice_by_two_writers_is_read_once_and_the_first_wins(run: RunStore) -> None:
    first, second = RunStore(run.folder, TABLES), RunStore(run.folder, TABLES)
    assert (list(first.read(Score)), first.append([]), second.append([])) == ([], 0, 0)
    first.append([Score(1, "r", "rubric", "aspect", 0.0)])
    second.append([Score(2, "r", "rubric", "aspect", 0.0)])
    first.append([Score(2, "other", "rubric", "total", 1.0)])  # first now knows shelf 2 as it is
    second.append([Score(1, "new", "rubric", "total", 1.0)])
    for folder in run.folder.glob("scores/iteration=1"):
        (copy, *_) = sorted(folder.glob("part-*"))
        copy.with_name("part-99999999999999999999-copy.parquet").write_bytes(copy.read_bytes())
    assert [score.response_id for score in run.read(Score, 1)] == ["r", "new"]


def test_derived_rows_take_the_place_of_those_before_in_every_iteration(run: RunStore) -> None:
    run.append([Topic(t, f"p{t}", 0, "old", 0.0, 0.0, None, None) for t in (1, 2)])
    new = Topic(2, "p2", 5, "new", 1.0, 1.0, 0.5, None)
    assert run.replace(Topic, iter([new])) == 1
    assert list(run.read(Topic)) == [new]
    assert run.append([new]) == 0
    assert run.replace(Topic, iter([])) == 0
    assert list(run.read(Topic)) == []


def test_rows_that_cannot_be_made_leave_the_derived_rows_of_before(run: RunStore) -> None:
    old = Topic(1, "p1", 0, "old", 0.0, 0.0, None, None)
    run.append([old])

    def broken() -> Iterator[Topic]:
        raise ValueError("no")
        yield old

    with pytest.raises(ValueError, match="no"):
        run.replace(Topic, broken())
    assert list(run.read(Topic)) == [old]


def test_many_rows_make_parts_of_bounded_size(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "FLUSH_ROWS", 100)
    scores = [Score(1, f"r{i}", "rubric", "total", 0.0) for i in range(950)]
    taken = 0

    def counted() -> Iterator[Score]:
        nonlocal taken
        for score in scores:
            taken += 1
            on_disk = 100 * len(part_files(run))
            assert taken - on_disk <= 101
            yield score

    assert run.append(counted()) == 950
    assert len(part_files(run)) == 10
    assert list(run.read(Score)) == scores


def test_long_texts_make_a_part_before_there_are_many_rows(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "FLUSH_CHARACTERS", 10_000)
    run.append(Prompt(1, f"p{i}", "x" * 3_000, [], None, "seed", "kept", None) for i in range(8))
    assert len(part_files(run, "prompts")) == 2


def test_slow_rows_reach_the_disk_before_the_last_has_come(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(parts.time, "monotonic", lambda: now[0])
    seen = []

    def slow() -> Iterator[Score]:
        for score in SCORES:
            now[0] += 0.6
            seen.append(len(part_files(run)))
            yield score

    run.append(slow())
    assert seen[-1] >= 2


def test_what_came_before_an_error_is_kept(run: RunStore) -> None:
    def failing() -> Iterator[Score]:
        yield from SCORES[:4]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.append(failing())
    assert run.ids(Score) == {"r0", "r1", "r2", "r3"}
    assert run.append(SCORES) == 6


@pytest.mark.parametrize("damage", ["cut", "empty", "garbage", "hole"])
def test_a_torn_part_is_set_aside_with_a_warning_and_never_read(run: RunStore, damage: str) -> None:
    run.append([Score(1, f"{i}" * 500, "rubric", "total", 0.0) for i in range(5)])
    run.append([Score(1, "good", "rubric", "total", 0.0)])
    torn = part_files(run)[0]
    data, half = torn.read_bytes(), torn.stat().st_size // 2
    hole = data[:4] + bytes(half - 4) + data[half:]  # its footer is whole
    torn.write_bytes({"cut": data[:-9], "empty": b"", "garbage": b"x" * 100, "hole": hole}[damage])
    assert [score.response_id for score in RunStore(run.folder, TABLES).read(Score)] == ["good"]
    assert [path.suffix for path in part_files(run)] == [".torn", ".parquet"]
    (event,) = run.events()[0]
    assert event["level"] == "warning"
    assert torn.name in event["message"]
    assert run.ids(Score) == {"good"}


def test_in_a_read_only_home_a_torn_part_is_passed_over_where_it_lies(store: Store, run: RunStore) -> None:
    run.append(SCORES)
    (torn, _) = part_files(run)
    torn.write_bytes(b"PAR1")
    watcher = Store(store.home, TABLES, read_only=True).run("run")
    assert len(list(watcher.read(Score))) == 5
    assert torn.exists()
    assert watcher.set_torn_aside() == [torn]
    assert run.events()[0] == []


def test_a_read_only_store_writes_nothing(store: Store, run: RunStore) -> None:
    closed = Store(store.home, TABLES, read_only=True)
    for write in (
        lambda: closed.create_run("new", "", {}),
        lambda: closed.append_note(Note("p", "tie", "", "me", 0.0)),
        lambda: closed.run("run").append(SCORES),
        lambda: closed.run("run").mark("x"),
        lambda: closed.run("run").event("x", "y"),
    ):
        with pytest.raises(StorageFault, match="read-only"):
            write()


def test_a_column_added_later_is_filled_in_for_old_parts(tmp_path: Path) -> None:
    @dataclass(frozen=True, slots=True)
    class Old:
        key: ClassVar[str] = "name"
        name: str

    @dataclass(frozen=True, slots=True)
    class New:
        key: ClassVar[str] = "name"
        name: str
        weight: float | None
        level: str = "info"

    Store(tmp_path, {"things": Old}).create_run("run", "", {}).append([Old("a")])
    run = Store(tmp_path, {"things": New}).run("run")
    run.append([New("b", 1.0, "warning")])
    assert list(run.read(New)) == [New("a", None, "info"), New("b", 1.0, "warning")]


def test_markers_say_what_is_complete_and_with_what(run: RunStore) -> None:
    assert not run.marked("iteration=1/improver")
    assert run.marker("iteration=1/improver") is None
    run.mark("iteration=1/improver", {"rows": 3})
    run.mark("plain")
    assert run.marked("iteration=1/improver")
    assert run.marker("iteration=1/improver") == {"rows": 3}
    assert run.marker("plain") == {}
    assert RunStore(run.folder, TABLES).marked("plain")


@pytest.mark.parametrize("name", ["", "../x", "a//b", "/a", "a/", ".x", "a/../../b", "x y"])
def test_a_marker_cannot_leave_its_folder(run: RunStore, name: str) -> None:
    with pytest.raises(StorageFault, match="cannot name a marker"):
        run.mark(name)


def test_a_damaged_marker_is_named(run: RunStore) -> None:
    run.mark("x")
    (run.folder / "markers" / "x.done").write_text("{")
    with pytest.raises(StorageFault, match=r"x\.done"):
        run.marker("x")


def test_events_are_read_on_from_where_one_stopped(run: RunStore) -> None:
    assert run.events() == ([], 0)
    run.event("draft", "hello 🦉\nworld\ud800", iteration=1, done=1, total=2)
    first, offset = run.events()
    assert [event["message"] for event in first] == ["hello 🦉\nworld\ufffd"]
    assert run.events(offset) == ([], offset)
    run.event("draft", "again", level="warning", at=5.0)
    second, end = run.events(offset)
    assert second == [
        {
            "at": 5.0,
            "stage": "draft",
            "iteration": None,
            "done": None,
            "total": None,
            "message": "again",
            "level": "warning",
        }
    ]
    assert end == (run.folder / "events.jsonl").stat().st_size


def test_a_torn_last_line_waits_and_does_not_spoil_the_next(run: RunStore) -> None:
    run.event("a", "one")
    path = run.folder / "events.jsonl"
    with path.open("a") as file:
        file.write('{"at": 1, "stage": "a", "mess')
    events, offset = run.events()
    assert [event["message"] for event in events] == ["one"]
    run.event("a", "two")
    assert [event["message"] for event in run.events(offset)[0]] == ["two"]
    assert [event["message"] for event in run.events()[0]] == ["one", "two"]


def test_lines_of_several_writers_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    code = "import sys; from pathlib import Path; from storage.log import append_line\n"
    code += "[append_line(Path(sys.argv[1]), {'who': sys.argv[2], 'n': n, 'pad': 'x' * 3000}) for n in range(100)]"
    writers = [subprocess.Popen([sys.executable, "-c", code, str(path), str(who)]) for who in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for who in range(3):
        assert [line["n"] for line in lines if line["who"] == str(who)] == list(range(100))


def test_asking_beyond_the_end_of_a_replaced_log_starts_again(tmp_path: Path) -> None:
    run = Store(tmp_path, TABLES).create_run("run", "", {})
    append_line(run.folder / "events.jsonl", {"a": 1})
    assert run.events(10_000)[0] == [{"a": 1}]


KILLED_BEFORE_RENAME = """
import os, signal, sys
from pathlib import Path
from storage import Store
from synpo_lab.records import TABLES, Score
run = Store(Path(sys.argv[1]), TABLES).run("run")
run.append([Score(1, "before", "rubric", "total", 0.0)])
Path.replace = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
run.append([Score(1, "lost", "rubric", "total", 0.0)])
"""


def test_a_kill_between_write_and_rename_leaves_no_part_and_costs_only_its_rows(store: Store, run: RunStore) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED_BEFORE_RENAME, str(store.home)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert run.ids(Score) == {"before"}
    assert [path.name for path in (run.folder / "scores/iteration=1").glob(".*.tmp")] != []
    assert run.append([Score(1, name, "rubric", "total", 0.0) for name in ("before", "lost")]) == 1
    assert run.ids(Score) == {"before", "lost"}


WRITER = """
import sys
from pathlib import Path
from storage import Store
from synpo_lab.records import TABLES, Score
run = Store(Path(sys.argv[1]), TABLES).run("run")
for part in range(40):
    run.append(Score(1, f"{part}-{i}", "rubric", "total", float(part)) for i in range(25))
"""


def test_a_reader_beside_a_writer_sees_only_whole_parts_and_never_fewer_than_before(
    store: Store, run: RunStore
) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(store.home)])
    counts = [0]
    while writer.poll() is None:
        scores = list(run.read(Score, 1))
        assert len(scores) % 25 == 0
        assert len({score.response_id for score in scores}) == len(scores)
        counts.append(len(scores))
    assert writer.returncode == 0
    assert counts == sorted(counts)
    assert any(0 < count < 1_000 for count in counts)
    assert len(list(run.read(Score))) == 1_000
    assert run.events()[0] == []


def test_a_full_disk_is_a_fault_with_a_hint_and_leaves_no_trace(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parts.pq, "write_table", full)
    with pytest.raises(StorageFault, match="No space left") as fault:
        run.append(SCORES[:1])
    assert "free some space" in fault.value.hint
    monkeypatch.undo()
    assert run.append(SCORES[:1]) == 1


def test_a_failed_write_removes_its_temporary_file(tmp_path: Path) -> None:
    def fail() -> None:
        with atomic.replacing(tmp_path / "file") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_a_fault_with_a_hint(run: RunStore) -> None:
    run.folder.chmod(0o500)
    try:
        with pytest.raises(StorageFault, match="Permission denied") as fault:
            run.mark("x")
    finally:
        run.folder.chmod(0o700)
    assert "right to read and write" in fault.value.hint


def test_a_file_where_the_home_should_be_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    with pytest.raises(StorageFault, match="Not a directory"):
        Store(tmp_path / "home", TABLES).create_run("run", "", {})


def test_small_rows_are_written_fast(run: RunStore) -> None:
    scores = [replace(SCORES[0], response_id=f"{i:016x}") for i in range(40_000)]
    began = time.perf_counter()
    run.append(scores)
    assert 40_000 / (time.perf_counter() - began) > 20_000


def test_what_a_killed_process_left_is_swept_away_later(store: Store, run: RunStore) -> None:
    run.append(SCORES[:1])
    old = [run.folder / "scores/iteration=1/.part-1.parquet.abc.tmp", store.runs_folder / ".new-x-abc" / "run.yaml"]
    new = run.folder / "scores/iteration=1/.part-2.parquet.abc.tmp"
    for path in (*old, new):
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    for path in (old[0], old[1].parent):
        os.utime(path, (0, 0))
    RunStore(run.folder, TABLES).append(SCORES[:1])
    store.create_run("another", "", {})
    assert [path.exists() for path in (*old, new)] == [False, False, True]


def test_a_line_that_does_not_fit_on_the_disk_is_a_fault(run: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.log.os.write", lambda descriptor, data: len(data) - 1)
    with pytest.raises(StorageFault, match="No space left"):
        run.event("a", "b")
