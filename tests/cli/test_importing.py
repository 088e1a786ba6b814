import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from synpo_lab.again import command
from synpo_lab.home import open_store
from synpo_lab.importing.launching import import_config
from synpo_lab.records import Pair

ROWS = [{"prompt": f"question {number}", "chosen": "a better answer", "rejected": "worse"} for number in range(5)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(map(_line, ROWS)) + 'torn {"\n{"prompt": ""}\n')
    return path


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_a_dry_run_says_what_would_be_taken_and_refused_and_writes_nothing(cli: Any, file: Path, home: Path) -> None:
    answer = cli("import", file, "--dry-run", "--home", home)
    assert answer.code == 0
    for said in ("TRL preference", "5 of 7 rows can be taken", "2 refused", "pairs.jsonl line 6", "question 0"):
        assert said in answer.out
    assert not home.exists()


def test_a_dry_run_is_one_json_document(cli: Any, file: Path, home: Path) -> None:
    told = json.loads(cli("import", file, "--dry-run", "--json", "--home", home).out)["look"]
    assert (told["format"], told["rows"], told["taken"], told["pairs"], told["whole"]) == ("trl", 7, 5, 5, True)
    assert told["columns"] == {"chosen": "chosen", "rejected": "rejected", "prompt": "prompt"}
    assert [one["place"] for one in told["refusals"]] == ["pairs.jsonl line 6", "pairs.jsonl line 7"]
    assert len(told["examples"]) == 3


@pytest.mark.slow
def test_an_import_is_one_json_document_and_can_be_asked_about(cli: Any, file: Path, home: Path) -> None:
    told = json.loads(cli("import", file, "--name", "mine", "--json", "--home", home).out)
    assert (told["run_id"], told["state"], told["added"]) == ("mine", "imported", True)
    assert told["imported"]["rows"]["pairs"] == 5
    assert told["imported"]["refused"] == {"not JSON": 1, "no 'chosen'": 1}
    assert len(open_store(home).run("mine").ids(Pair)) == 5
    again = json.loads(cli("import", file, "--name", "mine", "--json", "--home", home).out)
    assert again["added"] is False
    other = cli(
        "import", file, "--name", "mine", "--map", "chosen=rejected", "--map", "rejected=chosen", "--home", home
    )
    assert (other.code, "there is a data set 'mine' already" in other.err) == (2, True)


@pytest.mark.slow
def test_people_are_told_what_was_made_and_where_to_look(cli: Any, file: Path, home: Path) -> None:
    answer = cli("import", file, "--yes", "--home", home)
    assert answer.code == 0
    assert "5 of 7 rows taken" in answer.out
    assert "synpo-lab query" in answer.out
    assert open_store(home).runs() == ["pairs"]


@pytest.mark.slow
def test_the_line_of_an_import_imports_the_same_under_the_same_name(cli: Any, tmp_path: Path) -> None:
    for side in ("a", "b"):
        (tmp_path / f"{side}.json").write_text(f'[{{"instruction": "p", "output": "{side}"}}]', encoding="utf-8")
    config = import_config([str(tmp_path / f"{side}.json") for side in ("a", "b")])
    assert config.title == "a.json and b.json"
    words = shlex.split(command(config, name="two", home=str(tmp_path / "home")))
    answer = cli(*words[1:], "--yes")
    assert (answer.code, open_store(tmp_path / "home").runs()) == (0, ["two"]), answer.err
    assert open_store(tmp_path / "home").run("two").folder.joinpath("run.yaml").read_text() == config.to_yaml()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing.jsonl"], "there is no file nothing.jsonl"),
        (["{file}", "--map", "prompt"], "'prompt' is not WHAT=COLUMN"),
        (["{file}", "--format", "word"], "no import format 'word'"),
        (["{file}", "--name", "../up"], "cannot name a data set"),
        (["{file}", "{file}", "{file}"], "3 files"),
        (["hub:nobody"], "names no data set"),
    ],
)
def test_a_mistake_is_one_message_with_a_hint_and_nothing_is_written(
    cli: Any, file: Path, home: Path, arguments: list[str], said: str
) -> None:
    answer = cli("import", *[argument.format(file=file) for argument in arguments], "--home", home, "--json")
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert "hint: " in answer.err
    assert "Traceback" not in answer.err
    assert not list(home.glob("runs/*"))


def test_a_file_without_a_good_row_is_a_mistake_that_names_the_first_line(cli: Any, tmp_path: Path, home: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(_line({"prompt": "", "chosen": "a", "rejected": "b"}))
    answer = cli("import", path, "--home", home, "--json")
    assert answer.code == 2
    assert "bad.jsonl line 1: an empty prompt" in answer.err


def test_what_a_file_says_cannot_steer_the_terminal(cli: Any, tmp_path: Path, home: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(_line({"prompt": "\x1b[2Jp", "chosen": "[red]a", "rejected": "b\x07"}))
    answer = cli("import", path, "--dry-run", "--home", home)
    assert "\x1b" not in answer.out
    assert "\x07" not in answer.out
    assert "[red]a" in answer.out
