"""The SQL console answers questions, and only questions."""

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import Console, Database, SQLFault, StorageFault, Store, sandbox
from storage.catalogue import public_views
from storage.log import append_line
from storage.sandbox import _Child
from storage.sources import sources
from synpo_lab.playground.votes import Vote
from synpo_lab.records import TABLES, Note, Pair, Score

TinyStore = Callable[..., Store]
FOREVER = "SELECT count(*) FROM range(1000000000) AS a, range(1000000000) AS b WHERE a.range % 7 = b.range % 3"


@pytest.fixture
def lab(tiny_store: TinyStore, small_run: list[Any]) -> Store:
    return tiny_store(small_run)


@pytest.fixture
def console(lab: Store) -> Iterator[Console]:
    opened = Console(lab)
    yield opened
    opened.close()


@pytest.mark.parametrize("name", public_views())
def test_every_public_table_can_be_asked(console: Console, lab: Store, name: str) -> None:
    expected = Database(lab).rows(f"SELECT count(*) AS n FROM {name}")[0]["n"]
    assert console.query(f"SELECT count(*) FROM {name}").rows == [[expected]]
    assert console.query(f"SELECT * FROM {name}").columns == list(public_views()[name].columns)
    assert console.query(f"DESCRIBE {name}").rows[0][0] == next(iter(public_views()[name].columns))


def test_rows_of_every_kind_of_file_can_be_read(lab: Store) -> None:
    lab.run("run").event("train", "a step")
    lab.append_note(Note("pair", "chosen", "a note", "ann", 1.0))
    vote = Vote(1.0, "run", "pair", "p", "[]", "M_0", "M_1", "ra", "rb", "a", "b", "{}", 0, "a", True, "ann")
    append_line(lab.home / "playground" / "votes.jsonl", asdict(vote))
    console = Console(lab)
    for source in sources(lab):
        assert console.query(f"SELECT count(*) FROM {source.name}").rows[0][0] > 0, source.name
    console.close()


def test_a_query_gives_columns_types_rows_and_time(console: Console) -> None:
    result = console.query(
        "SELECT run_id, iteration, gap, kept FROM pairs ORDER BY gap DESC, pair_id LIMIT 3; -- widest"
    )
    assert result.columns == ["run_id", "iteration", "gap", "kept"]
    assert result.types == ["VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN"]
    assert len(result.rows) == 3
    gaps = [row[2] for row in result.rows]
    assert gaps == sorted(gaps, reverse=True)
    assert 0 < result.elapsed < 10
    assert not result.truncated


def test_rows_beyond_the_limit_are_cut_and_said_to_be(console: Console) -> None:
    assert [console.query("FROM range(10)", max_rows=n).truncated for n in (9, 10, 11)] == [True, False, False]
    assert console.query("SELECT range AS n FROM range(100) ORDER BY n DESC", max_rows=2).rows == [[99], [98]]


def test_every_cell_is_plain_json(console: Console) -> None:
    result = console.query(
        """SELECT 'nan'::DOUBLE, '-inf'::FLOAT, NULL, true, 1.5, 9007199254740993, 7,
        170141183460469231731687303715884105727::HUGEINT, '\\xAA'::BLOB, DATE '2020-01-02',
        TIMESTAMP '2020-01-02 03:04:05', TIMESTAMPTZ '2020-01-02 03:04:05+00', INTERVAL 3 DAY, ['a', NULL],
        {'a': [1, 2], 'b': 'nan'::DOUBLE}, MAP {'k': 1}, '[1, {"a": null}]'::JSON, [1.5], 'text', ''"""
    )
    assert json.loads(json.dumps(result.rows, allow_nan=False)) == result.rows
    (row,) = result.rows
    assert row[:8] == [
        "NaN",
        "-Infinity",
        None,
        True,
        1.5,
        "9007199254740993",
        7,
        "170141183460469231731687303715884105727",
    ]
    assert row[8:11] == ["\\xAA", "2020-01-02", "2020-01-02 03:04:05"]
    assert row[13:] == [["a", None], {"a": [1, 2], "b": "NaN"}, {"k": 1}, [1, {"a": None}], [1.5], "text", ""]


def test_a_very_long_cell_is_cut(console: Console) -> None:
    ((text, words, whole),) = console.query("SELECT repeat('x', 50000), range(30000), repeat('y', 20000)").rows
    assert text == "x" * 20_000 + "…"
    assert words.endswith("…")
    assert whole == "y" * 20_000


def test_a_very_large_answer_is_cut(console: Console) -> None:
    result = console.query("SELECT repeat('x', 19999) FROM range(3000)", max_rows=3_000)
    assert result.truncated
    assert 900 < len(result.rows) < 1_100


def test_rows_of_a_run_made_meanwhile_are_seen(console: Console, lab: Store) -> None:
    assert console.query("SELECT count(*) FROM runs").rows == [[1]]
    lab.create_run("later", "recipe: spin", {}).append([Score(1, "r", "s", "total", 1.0)])
    assert console.query("SELECT recipe FROM runs WHERE run_id = 'later'").rows == [["spin"]]
    assert console.query("SELECT response_id FROM scores WHERE run_id = 'later'").rows == [["r"]]


def test_a_function_given_what_it_does_not_take_is_told_with_the_cast_that_mends_it(console: Console) -> None:
    with pytest.raises(SQLFault) as fault:
        console.query("SELECT avg(len_chosen > len_rejected) FROM pairs")
    assert "avg(BOOLEAN)" in fault.value.message
    assert len(fault.value.message.splitlines()) <= 5  # what is wrong, and the place
    assert "CAST(... AS INTEGER)" in fault.value.hint
    assert console.query("SELECT avg(CAST(len_chosen > len_rejected AS INTEGER)) FROM pairs").rows
    with pytest.raises(SQLFault) as fault:
        console.query("SELECT length(kept) FROM pairs")
    assert "length(string VARCHAR)" in fault.value.message


def test_names_that_a_query_makes_itself_are_its_own(console: Console) -> None:
    assert console.query("WITH wide AS (SELECT * FROM pairs WHERE gap > 9) SELECT count(*) FROM wide").rows == [[0]]
    recursive = "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 4) SELECT sum(i) FROM n"
    assert console.query(recursive).rows == [[10]]
    assert console.query("SELECT max(x) FROM (VALUES (1), (3)) AS t(x)").rows == [[3]]
    assert console.query("SELECT word FROM prompts, unnest(keywords) AS u(word) LIMIT 1").rows
    assert console.query("SELECT a.gap FROM main.pairs AS a JOIN memory.main.pairs AS b USING (pair_id) LIMIT 1").rows
    assert console.query("SELECT ';' AS \"a;b\" /* ; */ ;;").rows == [[";"]]


OUTSIDE = "/etc/passwd"
ATTACKS = [
    f"SELECT * FROM read_text('{OUTSIDE}')",
    f"SELECT * FROM read_blob('{OUTSIDE}')",
    f"SELECT * FROM read_csv('{OUTSIDE}')",
    f"SELECT * FROM '{OUTSIDE}'",
    f'SELECT * FROM "{OUTSIDE}"',
    f"SELECT (SELECT content FROM read_text('{OUTSIDE}'))",
    f"SELECT 1 WHERE EXISTS (FROM read_text('{OUTSIDE}'))",
    f"SELECT 1 UNION ALL SELECT content FROM read_text('{OUTSIDE}')",
    f"SELECT 1 ORDER BY (SELECT content FROM read_text('{OUTSIDE}'))",
    f"WITH t AS (FROM read_text('{OUTSIDE}')) SELECT * FROM t",
    f'WITH "{OUTSIDE}" AS (SELECT 1) SELECT * FROM "{OUTSIDE}"',
    f"DESCRIBE SELECT * FROM read_text('{OUTSIDE}')",
    f"SUMMARIZE SELECT * FROM read_text('{OUTSIDE}')",
    f"FROM sniff_csv('{OUTSIDE}')",
    "SELECT * FROM glob('/*')",
    "SELECT * FROM read_text('runs/run/run.yaml')",
    "SELECT * FROM 'runs/run/events.jsonl'",
    "SELECT * FROM parts.runs",
    "SELECT * FROM parquet_metadata('runs/*/pairs/*/*.parquet')",
    "SELECT * FROM query('SELECT 1')",
    "SELECT * FROM query_table(['pairs'])",
    "SELECT * FROM json_execute_serialized_sql('x')",
    "SELECT * FROM 'https://example.com/x.parquet'",
    "SELECT * FROM read_parquet('s3://bucket/x')",
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_views()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM pragma_database_size()",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM pg_catalog.pg_tables",
    "SELECT * FROM sqlite_master",
    "DESCRIBE parts.runs",
    "SHOW ALL TABLES",
    "SELECT current_setting('allowed_directories')",
    "SELECT getvariable('x')",
    "SELECT getenv('HOME')",
    "SELECT write_log('x')",
    "SELECT * FROM enable_logging('QueryLog')",
    "SELECT * FROM force_checkpoint()",
    "COPY pairs TO 'runs/stolen.csv'",
    "COPY (SELECT 1) TO '/tmp/stolen.csv'",
    "WITH x AS (COPY pairs TO 'runs/stolen.csv') SELECT 1",
    "WITH x AS (DELETE FROM runs RETURNING *) SELECT * FROM x",
    "WITH x AS (DELETE FROM parts.runs RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO parts.runs SELECT * FROM parts.runs RETURNING *) SELECT * FROM x",
    "WITH x AS (UPDATE parts.runs SET state = 'finished' RETURNING *) SELECT * FROM x",
    "SELECT * FROM (WITH x AS (DELETE FROM parts.runs RETURNING *) SELECT * FROM x)",
    "EXPORT DATABASE 'runs/all'",
    "IMPORT DATABASE 'runs/all'",
    "ATTACH 'runs/x.db'",
    "ATTACH ':memory:' AS other",
    "DETACH memory",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "SET threads = 64",
    "SET enable_external_access = true",
    "RESET lock_configuration",
    "SET VARIABLE x = 1",
    "PRAGMA database_list",
    "CALL pragma_version()",
    "CHECKPOINT",
    "VACUUM",
    "BEGIN",
    "CREATE TABLE t AS SELECT 1",
    "CREATE OR REPLACE VIEW pairs AS SELECT 1",
    "CREATE MACRO f() AS 1",
    "CREATE SECRET (TYPE s3)",
    "DROP VIEW pairs",
    "INSERT INTO parts.runs SELECT * FROM parts.runs",
    "UPDATE parts.runs SET state = 'finished'",
    "DELETE FROM parts.runs",
    "ALTER TABLE parts.runs DROP COLUMN state",
    "EXPLAIN ANALYZE SELECT 1",
    "PREPARE q AS SELECT 1",
    "EXECUTE q",
    "SELECT 1; SELECT 2",
    "SELECT 1; DROP VIEW pairs",
    "SELECT 1) AS x; DROP VIEW pairs; --",
    "SELECT 1) UNION ALL (SELECT 2",
    "",
    " ; ",
    "-- nothing",
    "not sql at all",
    "SELECT * FROM nowhere",
]


def test_every_attack_is_refused_and_changes_nothing(console: Console, lab: Store, tmp_path: Path) -> None:
    def everything() -> list[str]:
        return sorted(str(path) for path in tmp_path.rglob("*"))

    files = everything()
    runs = console.query("SELECT * FROM runs").rows
    for attack in ATTACKS:
        with pytest.raises(SQLFault) as fault:
            console.query(attack)
        assert str(lab.home) not in str(fault.value), attack
        assert "root:" not in str(fault.value), attack
    assert console.query("SELECT * FROM runs").rows == runs
    assert everything() == files


def test_below_the_rules_duckdb_itself_reads_only_the_lab_home(lab: Store) -> None:
    # What the rules would let through if they had a hole: statements given to the worker's own connection.
    code = f"""
import sys; sys.path.insert(0, {str(Path("storage").absolute())!r})
import sandbox_worker as w
w.bound_process(512)
connection = w.Worker(1, 512)._connection
for sql in (
    "SELECT * FROM read_text('/etc/hostname')", "COPY (SELECT 1) TO '/tmp/synpo-stolen.csv'",
    "COPY (SELECT 1) TO 'runs/stolen.csv'", "COPY (SELECT 1) TO 'stolen.csv'", "SELECT * FROM read_text('../x')",
    "ATTACH '/tmp/x.db'", "INSTALL httpfs", "LOAD httpfs", "SET enable_external_access = true", "SET threads = 9",
    "SET allowed_directories = ['/']", "SELECT * FROM enable_logging('QueryLog', storage := 'file')",
):
    try:
        connection.execute(sql).fetchall()
    except Exception:
        continue
    print(sql)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=lab.home, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    stolen = lab.home / "runs" / "stolen.csv"
    assert not stolen.exists() or stolen.stat().st_size == 0


@given(sql=st.text(max_size=60) | st.text("SELECT()*'\";-/FROMpairs \n\x00\ud800", max_size=60))
@settings(max_examples=60, suppress_health_check=list(HealthCheck))
def test_no_text_does_more_than_fail(sql: str, console: Console) -> None:
    explained: list[str] = []
    try:
        console.query(sql, time_limit=30)
    except SQLFault as fault:
        explained.append(fault.message)
    assert all(explained)


def test_a_query_that_takes_too_long_is_stopped_and_the_next_one_runs(console: Console) -> None:
    began = time.monotonic()
    with pytest.raises(SQLFault, match=r"longer than 0\.5 s"):
        console.query(FOREVER, time_limit=0.5)
    assert time.monotonic() - began < 5
    assert console.query("SELECT 1").rows == [[1]]


def test_a_query_can_be_cancelled_by_its_ticket(console: Console) -> None:
    faults: list[SQLFault] = []

    def ask() -> None:
        try:
            console.query(FOREVER, time_limit=60, ticket="mine")
        except SQLFault as fault:
            faults.append(fault)

    thread = threading.Thread(target=ask)
    thread.start()
    began = time.monotonic()
    while console.cancel("mine") == 0:
        assert time.monotonic() - began < 30
        time.sleep(0.02)
    thread.join(10)
    assert [fault.message for fault in faults] == ["the query was cancelled"]
    assert console.cancel("mine") == 0
    assert console.query("SELECT 2").rows == [[2]]


def test_a_query_that_wants_too_much_memory_fails_and_the_next_one_runs(lab: Store) -> None:
    console = Console(lab, memory_mb=100)
    with pytest.raises(SQLFault, match="memory"):
        console.query("SELECT list(repeat('x', 10000000)) FROM range(100)")
    assert console.query("SELECT 1").rows == [[1]]
    console.close()


def test_a_child_is_kept_between_queries_and_replaced_when_it_dies(console: Console) -> None:
    console.warm()
    (child,) = console._idle
    console.query("SELECT 1")
    assert console._idle == [child]
    os.kill(child._process.pid, signal.SIGKILL)
    child._process.wait()
    assert console.query("SELECT 1").rows == [[1]]
    assert console._idle != [child]


def test_a_process_with_more_than_a_thousand_open_files_still_asks(lab: Store) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4_096)), hard))
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1_100)]
    console = Console(lab)
    try:
        assert console.query("SELECT 1").rows == [[1]]
        assert min(child._process.stdout.fileno() for child in console._idle if child._process.stdout) > 1_023
    finally:
        console.close()
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_child_that_dies_while_it_is_set_up_is_replaced_unseen(lab: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    console, deaths = Console(lab), iter([True, False])
    say = _Child._write

    def write(child: _Child, data: bytes) -> None:
        if next(deaths, False):
            os.kill(child._process.pid, signal.SIGKILL)
            child._process.wait()
        say(child, data)

    monkeypatch.setattr(_Child, "_write", write)
    assert console.query("SELECT 1").rows == [[1]]
    console.close()


def test_a_child_that_dies_again_and_again_says_how(
    lab: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text("import sys\nsys.stdin.readline()\nraise MemoryError('no room at all')\n")
    monkeypatch.setattr(sandbox, "_WORKER", worker)
    console = Console(lab)
    with pytest.raises(SQLFault, match="exit code 1: MemoryError: no room at all"):
        console.query("SELECT 1")
    worker.write_text("import os, sys\nsys.stdin.readline()\nos.kill(os.getpid(), 11)\n")
    with pytest.raises(SQLFault, match="ended by SIGSEGV"):
        console.query("SELECT 1")
    console.close()


def test_a_warm_query_is_instant(console: Console) -> None:
    console.query("SELECT 1")
    assert min(_seconds(lambda: console.query("SELECT count(*) FROM runs")) for _ in range(5)) < 0.15


def _seconds(do: Callable[[], object]) -> float:
    began = time.perf_counter()
    do()
    return time.perf_counter() - began


def test_several_threads_ask_at_once(console: Console) -> None:
    answers: list[Any] = []
    threads = [
        threading.Thread(target=lambda i=i: answers.append(console.query(f"SELECT {i}", time_limit=60).rows))
        for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [[[i]] for i in range(6)]


def test_a_busy_console_says_so(lab: Store) -> None:
    console = Console(lab, children=1)

    def ask() -> None:
        with pytest.raises(SQLFault, match="cancelled"):
            console.query(FOREVER, time_limit=60)

    thread = threading.Thread(target=ask)
    thread.start()
    while not console._busy:
        time.sleep(0.01)
    with pytest.raises(SQLFault, match="busy"):
        console.query("SELECT 1", time_limit=0.1)
    console.cancel()
    thread.join(10)
    console.close()


PARENT = """
import sys, time
from pathlib import Path
from storage import Console, Store
from synpo_lab.records import TABLES
console = Console(Store(Path(sys.argv[1]), TABLES))
console.warm()
print(console._idle[0]._process.pid, flush=True)
console.query(sys.argv[2], time_limit=60)
"""


def test_the_child_ends_with_its_parent_even_in_the_middle_of_a_query(lab: Store) -> None:
    command = [sys.executable, "-c", PARENT, str(lab.home), FOREVER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.kill()
    deadline = time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_mistakes_are_explained_at_the_right_line(console: Console) -> None:
    with pytest.raises(SQLFault, match='"gapp" not found') as fault:
        console.query("SELECT run_id,\n    gapp\nFROM pairs")
    assert "LINE 2" in fault.value.message
    with pytest.raises(SQLFault, match="syntax error"):
        console.query("SELEC 1")
    with pytest.raises(SQLFault, match="Conversion Error"):
        console.query("SELECT CAST(prompt AS INTEGER) FROM pairs")


@pytest.mark.parametrize("read_only", [False, True])
def test_a_torn_part_costs_its_own_rows_only(lab: Store, read_only: bool) -> None:
    torn = next(lab.home.glob("runs/run/pairs/iteration=1/part-*"))
    torn.write_bytes(torn.read_bytes()[:-20])
    console = Console(Store(lab.home, TABLES, read_only=read_only))
    assert console.query("SELECT DISTINCT iteration FROM pairs").rows == [[2]]
    assert torn.exists() is read_only
    console.close()


def test_an_empty_home_has_empty_tables_and_a_missing_one_a_fault(tmp_path: Path) -> None:
    console = Console(Store(tmp_path, TABLES))
    assert console.query("SELECT * FROM pairs").rows == []
    Store(tmp_path, TABLES).create_run("run", "", {}).append(
        [Pair(1, "i", "p", "", "c", "r", "", "", 1.0, 0.0, 1.0, 0, 0, 0.0, True, None)]
    )
    assert console.query("SELECT pair_id FROM pairs").rows == [["i"]]
    console.close()
    with pytest.raises(StorageFault, match="no lab home"):
        Console(Store(tmp_path / "nowhere", TABLES)).query("SELECT 1")
