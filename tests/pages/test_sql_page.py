"""The SQL page beyond its table: filters made of queries, commands to take along, questions remembered."""

import shlex

import pytest

from pages import sql
from pages.shell import Lab
from tests.pages.conftest import RUN


def test_a_query_over_pairs_becomes_a_link_to_the_filter() -> None:
    shown = sql._as_filter("SELECT * FROM pairs WHERE gap > 0.3 AND chosen LIKE '%<b>%'", RUN)
    assert f"./thresholds?run={RUN}&amp;where=" in shown
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown


def test_a_query_that_is_no_filter_is_told_why() -> None:
    assert "no condition" in sql._as_filter("SELECT * FROM pairs", RUN)
    assert "hint" in sql._as_filter("SELEC", RUN)


def test_the_command_hands_the_question_over_whole(lab: Lab) -> None:
    asked = "SELECT 'it''s' AS a, \"run_id\" FROM runs -- $HOME `x`"
    command, script = sql._commands(lab, asked)
    assert shlex.split(command) == ["synpo-lab", "query", "--home", str(lab.home), asked]
    assert script.startswith(f"cd {lab.home} && duckdb <<'SQL'\n")
    assert asked in script


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
