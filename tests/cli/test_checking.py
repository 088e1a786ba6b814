import json
from pathlib import Path
from typing import Any

import pytest

from storage.database import Database
from synpo_lab.home import open_store


@pytest.fixture
def lab(tiny_store: Any, small_run: list[Any]) -> Path:
    """A lab home with one made-up run called "run"."""
    home: Path = tiny_store(small_run).home
    return home


def test_check_prints_every_check_with_its_judgement_and_what_to_do(cli: Any, lab: Path) -> None:
    answer = cli("check", "run", "--home", lab)
    assert (answer.code, answer.err) == (0, "")
    for word in ("identical sides", "length-only judge", "evaluation overlap", "judgement", "what to do"):
        assert word in answer.out
    assert "From rejected to chosen: " in answer.out
    assert f"--home {lab}" in answer.out


def test_check_json_is_one_document_that_agrees_with_the_findings(cli: Any, lab: Path) -> None:
    answer = cli("check", "run", "--home", lab, "--json")
    report = json.loads(answer.out)
    assert answer.out.count("\n") == 1
    assert report["run_id"] == "run"
    database = Database(open_store(lab))
    sql = "SELECT kind, count(*) AS n FROM findings WHERE run_id = 'run' GROUP BY kind"
    counted = {row["kind"]: row["n"] for row in database.rows(sql)}
    database.close()
    assert {check["name"]: check["found"] for check in report["checks"] if check["found"]} | report["edits"] == counted


def test_evaluation_prompts_are_read_from_a_file(cli: Any, lab: Path, tmp_path: Path) -> None:
    suite = tmp_path / "suite.jsonl"
    suite.write_text('{"instruction": "round 1: use word3 in a sentence"}\n')
    report = json.loads(cli("check", "run", "--home", lab, "--eval", suite, "--json").out)
    (overlap,) = [check for check in report["checks"] if check["name"] == "evaluation overlap"]
    assert overlap["found"] == 1


def test_so_many_texts_are_read(cli: Any, lab: Path) -> None:
    report = json.loads(cli("check", "run", "--home", lab, "--texts", 5, "--json").out)
    assert report["texts_read"] == 5


@pytest.mark.parametrize("arguments", [["nobody"], ["../run"], [""], ["run", "--eval", "nothing.json"]])
def test_a_mistake_ends_with_code_2_and_a_hint(cli: Any, lab: Path, arguments: list[str]) -> None:
    answer = cli("check", *arguments, "--home", lab, "--json")
    assert (answer.code, answer.out) == (2, "")
    assert "hint: " in answer.err
    assert "Traceback" not in answer.err
