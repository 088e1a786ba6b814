"""Disagreement board: what it shows of a run with log-probs and verdicts, and of an import without scores."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages import disagree
from pages.pair_address import asked_of
from pages.shell import Lab, Selection
from storage.queries import pairs_page
from storage.queries.eye import agreement_cells
from storage.queries.eye_conditions import JUDGES
from storage.state import set_state
from synpo_lab.home import open_home, open_store
from synpo_lab.records import Note, Pair
from tests.pages.conftest import RUN
from tests.pages.test_eye import links
from tests.plausible_run import write_run


@pytest.fixture(scope="module")
def read_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose first pairs a reader has judged."""
    folder = tmp_path_factory.mktemp("read")
    run = write_run(folder, RUN, iterations=2, prompts=40)
    for place, pair in enumerate(sorted(run.read(Pair), key=lambda pair: pair.pair_id)[:12]):
        open_store(folder).append_note(Note(pair.pair_id, "chosen" if place % 3 else "rejected", "", "ann", 1.0))
    return folder


@pytest.fixture
def read_lab(read_home: Path) -> Iterator[Lab]:
    made = Lab(read_home)
    yield made
    made.close()


@pytest.mark.parametrize("other", [judge for judge in JUDGES if judge != "scorer"])
@pytest.mark.parametrize("kept", disagree.KEPT)
def test_every_number_opens_as_many_rows_as_it_says(read_lab: Lab, other: str, kept: str) -> None:
    *_, quadrants = disagree._panels(read_lab, RUN, disagree.LATEST, "all", kept, "scorer", other)
    opened = links(quadrants)
    assert len(opened) == 4
    for values, text in opened:
        asked = asked_of(values)
        assert not asked.faults
        assert f"{pairs_page(read_lab.database, RUN, asked.query, limit=0).total:,}" == text


def test_the_matrix_says_share_interval_and_kappa_of_every_two(read_lab: Lab) -> None:
    matrix = disagree._panels(read_lab, RUN, disagree.LATEST, "all", "all", "label", "readers")[0]
    cells, _ = agreement_cells(read_lab.database, RUN)
    cell = next(cell for cell in cells if (cell.one, cell.other) == ("label", "readers"))
    assert (cell.both, cell.first) == (8, 4)
    row = next(row for row in re.findall("<tr>(.*?)</tr>", matrix) if "label and readers" in row)
    words = re.sub("<[^>]+>", " ", row).split()
    assert words == ["label", "and", "readers", "12", "66.7%", "39.1%", "to", "86.2%", "0.33", "4", "0"]
    assert matrix.count("<tr>") >= 1 + 15


def test_points_say_whether_the_two_agree(read_lab: Lab) -> None:
    _, frame, figure, _ = disagree._panels(read_lab, RUN, 2, "all", "all", "scorer", "policy")
    assert frame.visible
    for trace in figure.data:
        agreeing = trace.name == "they agree"
        assert all((x * y > 0) == agreeing for x, y in zip(trace.x, trace.y, strict=True))
        assert all(to.startswith("./pairs?") for to in trace.customdata)
    assert sum(len(trace.x) for trace in figure.data) > 20


def test_the_address_chooses_and_nonsense_is_passed_over() -> None:
    asked = Selection(RUN, {"one": "policy", "other": "readers", "kept": "dropped", "policy": "2", "iteration": "1"})
    assert disagree._chosen(asked, [1, 2], [1, 2], "scorer") == (2, 1, "dropped", "policy", "readers")
    asked = Selection(RUN, {"one": "<b>", "other": "1=1", "kept": "x", "policy": "9", "iteration": "-1"})
    assert disagree._chosen(asked, [1, 2], [1, 2], "label") == ("latest", "all", "all", "label", "length")


def test_an_import_without_scores_says_who_is_silent(tmp_path: Path) -> None:
    run = open_store(open_home(tmp_path)).create_run("data", "title: x\n", {"recipe": "import", "created_at": 1.0})
    sides = [("long answer", "short"), ("s", "longer"), ("same", "size")]
    run.append(
        Pair(1, f"p{i}", f"q{i}", "ask", f"c{i}", f"r{i}", a, b, None, None, None, len(a), len(b), 0.0, True, None)
        for i, (a, b) in enumerate(sides)
    )
    set_state(run.folder, "imported")
    lab = Lab(tmp_path)
    matrix, frame, figure, quadrants = disagree._panels(lab, "data", disagree.LATEST, "all", "all", "scorer", "length")
    assert "scorer, policy, training, readers judged no pair here" in matrix
    assert "label and length" in matrix
    assert "no scores" in quadrants
    assert (frame.visible, figure) == (False, None)
    quadrants = disagree._panels(lab, "data", disagree.LATEST, "all", "all", "policy", "length")[3]
    assert "No policy was asked" in quadrants
    assert "Choose two judges" in disagree._panels(lab, "data", disagree.LATEST, "all", "all", "label", "label")[3]
    lab.close()
