"""The SQL page beyond its table: filters made of queries, commands to take along, questions remembered."""

import shlex
import subprocess
from pathlib import Path

import pytest

from pages import sql
from pages.shell import Lab
from tests.pages.conftest import RUN


def test_a_query_over_pairs_becomes_a_link_to_the_filter() -> None:
    shown = sql._as_filter("SELECT * FROM pairs WHERE gap > 0.3 AND chosen LIKE '%<b>%'", RUN)
    assert f"./thresholds?run={RUN}&amp;where=" in shown
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown


def test_the_filter_opens_on_the_run_that_the_query_names() -> None:
    shown = sql._as_filter("SELECT * FROM pairs WHERE gap > 0.3 AND run_id = 'an<other>'", RUN)
    assert "./thresholds?run=an%3Cother%3E&amp;where=" in shown
    assert "As a rule of an&lt;other&gt;: keep" in shown


def test_a_query_that_is_no_filter_is_told_why() -> None:
    assert "no condition" in sql._as_filter("SELECT * FROM pairs", RUN)
    assert "hint" in sql._as_filter("SELEC", RUN)


def test_the_command_hands_the_question_over_whole(lab: Lab) -> None:
    asked = "SELECT 'it''s' AS a, \"run_id\" FROM runs -- $HOME `x`"
    command, alone = sql._commands(lab, asked)
    assert shlex.split(command) == ["synpo-lab", "query", "--home", str(lab.home), asked]
    *start, script = shlex.split(alone)
    assert start == ["cd", str(lab.home), "&&", "duckdb", "-c"]
    assert asked in script


@pytest.mark.parametrize(
    "asked",
    [
        "/*\nSQL\ntouch pwned\n*/ SELECT 7",
        "/* ' ; touch pwned ; ' $(touch pwned) `touch pwned` */ SELECT 7",
        "SELECT $$\n.shell touch pwned\n$$ IS NOT NULL, 'it''s; touch pwned'",
        "SELECT 7; /*\n.shell touch pwned\n*/",
    ],
)
def test_a_strangers_question_pasted_into_a_shell_runs_nothing_but_the_question(
    lab: Lab, tmp_path: Path, asked: str
) -> None:
    """An address can hold any question. `duckdb` here notes what it is given."""
    (tmp_path / "duckdb").write_text('#!/bin/sh\nprintf %s "$2" > "$GIVEN"; test $# = 2 && test "$1" = -c\n')
    (tmp_path / "duckdb").chmod(0o755)
    lab.console.query(asked)  # the console takes it, and so it is told
    before = sorted(lab.home.iterdir())
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin", "GIVEN": str(tmp_path / "given")}
    subprocess.run(["sh", "-c", sql._commands(lab, asked)[1]], env=path, check=True, timeout=30)
    assert asked.rstrip("; ") in (tmp_path / "given").read_text()
    assert sorted(lab.home.iterdir()) == before
    assert not list(tmp_path.rglob("pwned"))


def test_a_question_that_a_terminal_would_obey_and_one_too_long_for_it_are_not_offered(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    for control in ("\x04", "\x03", "\x1b[201~", "\r"):
        assert all(said.startswith("# ") for said in sql._commands(lab, f"SELECT '{control}touch pwned'"))
    monkeypatch.setattr(sql, "LONGEST_COMMAND", 500)
    assert sql._commands(lab, "SELECT * FROM runs")[1].startswith("# ")


def test_a_read_only_lab_does_not_say_where_it_lies(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab, "read_only", True)
    assert all(str(lab.home) not in command for command in sql._commands(lab, "SELECT 1"))


def test_questions_are_remembered_once_each_the_latest_first() -> None:
    asked: list[str] = []
    for n in [*range(30), 3]:
        asked = sql._remember(asked, f"SELECT {n}")
    assert asked[:2] == ["SELECT 3", "SELECT 29"]
    assert len(asked) == len(set(asked)) == sql.REMEMBERED


def test_a_pair_in_a_result_opens(lab: Lab) -> None:
    found = lab.console.query("SELECT pair_id FROM pairs LIMIT 1")
    assert f"./pairs?pair={found.rows[0][0]}" in sql._table(found)


def test_a_pair_in_a_result_opens_in_the_run_of_its_row(lab: Lab) -> None:
    found = lab.console.query(
        "SELECT gap, pair_id, run_id FROM pairs UNION ALL SELECT 0, 'a', 'another & run' LIMIT 100"
    )
    table = sql._table(found)
    assert f"./pairs?run={RUN}&amp;pair={found.rows[0][1]}" in table
    assert "./pairs?run=another+%26+run&amp;pair=a" in table
