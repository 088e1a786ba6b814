import json
from pathlib import Path
from typing import Any

import pytest

from synpo_lab.home import open_store
from synpo_lab.records import Topic
from tests.plausible_run import write_run


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab home with one made-up run called "run"."""
    folder = tmp_path_factory.mktemp("lab")
    write_run(folder, "run", iterations=1, prompts=30)
    return folder


def test_topics_are_found_written_and_told(cli: Any, lab: Path) -> None:
    told = json.loads(cli("topics", "run", "--home", lab, "--json").out)
    rows = list(open_store(lab).run("run").read(Topic))
    assert told["prompts"] == len(rows)
    assert told["topics"] == len({row.topic for row in rows}) == len(told["sizes"])
    assert sum(size["prompts"] for size in told["sizes"]) == sum(row.kind == "written" for row in rows)


def test_people_get_a_table_and_the_number_asked_for(cli: Any, lab: Path) -> None:
    answer = cli("topics", "run", "--topics", 3, "--home", lab)
    assert answer.code == 0
    assert "novelty" in answer.out
    assert "3 topics of " in answer.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody"], "no run 'nobody'"),
        (["run", "--embeddings", "nowhere"], "no model folder"),
        (["run", "--topics", "0"], "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_is_a_mistake(cli: Any, lab: Path, arguments: list[str], message: str) -> None:
    answer = cli("topics", *arguments, "--home", lab)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert "Traceback" not in answer.err
