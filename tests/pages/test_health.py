"""The Health page, against the report and the store."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pages import health
from pages.bars import bar_chart
from pages.shell import Lab
from storage.state import set_state
from synpo_lab.health import check_run
from synpo_lab.health.progress import Progress
from synpo_lab.health.report import Plot
from synpo_lab.home import open_home, open_store
from tests.health.conftest import a_pair
from tests.plausible_run import write_run

HOSTILE = "<script>alert('x')</script>\0 <b>"


@pytest.fixture(scope="module")
def checked_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("checked")
    write_run(home, "r", iterations=2, prompts=40)
    check_run(home, "r")
    return home


@pytest.fixture
def checked(checked_home: Path) -> Iterator[Lab]:
    lab = Lab(checked_home)
    yield lab
    lab.close()


def imported(home: Path, pairs: list[Any], run_id: str = "data") -> Lab:
    store = open_store(open_home(home))
    run = store.create_run(run_id, "recipe: import\n", {"recipe": "import", "created_at": 1.0})
    run.append(pairs)
    set_state(run.folder, "imported")
    return Lab(home)


def text_of(html: object) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", str(html)))


def test_every_check_has_a_row_and_a_card(checked: Lab) -> None:
    said, summary, edits, cards, _ = health._shown(checked, "r")
    assert "Checked" in said
    report = health.stored_report(checked.store.run("r"))
    assert report is not None
    for check in report.checks:
        assert f'href="#{health._anchor(check)}"' in summary
        assert f'id="{health._anchor(check)}"' in cards
    assert "What changed most often?" in edits


def test_the_rows_a_card_opens_are_as_many_as_it_says(checked: Lab) -> None:
    rows = checked.database.rows("SELECT kind, count(*) AS pairs FROM findings WHERE run_id = 'r' GROUP BY 1")
    counted = {row["kind"]: row["pairs"] for row in rows}
    _, _, edits, cards, _ = health._shown(checked, "r")
    linked = re.findall(r'href="\./pairs\?run=r&amp;finding=([^"&]+)">([\d,]+) pairs →', cards)
    assert linked
    for kind, told in linked:
        assert counted[kind.replace("+", " ")] == int(told.replace(",", ""))
    most = max((kind for kind in counted if kind.startswith("draft edit: ")), key=lambda kind: counted[kind])
    assert f"most often {most.removeprefix('draft edit: ')}" in text_of(edits).replace("  ", " ")


def test_a_run_that_was_not_checked_says_what_to_do(tmp_path: Path) -> None:
    lab = imported(tmp_path, [a_pair()])
    said, *rest, timer = health._shown(lab, "data")
    assert "has not been checked yet" in said
    assert "synpo-lab check data" in said
    assert rest == ["", "", ""]
    assert timer.active is False
    lab.close()


def test_a_link_from_a_data_set_has_it_checked_once_and_never_in_a_lab_open_read_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, "run", iterations=1, prompts=20)
    started: list[str] = []
    monkeypatch.setattr(health, "start", lambda home, run_id: started.append(run_id))
    readers = Lab(tmp_path, read_only=True)
    health._check_first(readers, "run")
    assert started == []
    lab = Lab(tmp_path)
    health._check_first(lab, "run")
    assert started == ["run"]
    check_run(tmp_path, "run")
    health._check_first(lab, "run")
    assert started == ["run"]
    readers.close()
    lab.close()


def test_a_report_is_stale_when_pairs_were_added_since(tmp_path: Path) -> None:
    lab = imported(tmp_path, [a_pair()])
    check_run(tmp_path, "data")
    assert "added since" not in health._shown(lab, "data")[0]
    open_store(tmp_path).run("data").append([a_pair("another")])
    assert "1 pairs were added since" in text_of(health._shown(lab, "data")[0])
    lab.close()


def test_a_check_that_failed_is_told_with_its_words(tmp_path: Path) -> None:
    lab = imported(tmp_path, [a_pair()])
    (lab.store.run("data").folder / "health.log").write_text("error: <b>bad</b> file")
    said = health._shown(lab, "data")[0]
    assert "error: &lt;b&gt;bad&lt;/b&gt; file" in said
    lab.close()


def test_progress_is_shown_with_how_many_of_how_many() -> None:
    assert "1,000 of 2,000" in text_of(health._going(Progress("texts", 1000, 2000, 0.0)))
    assert "reading the numbers" in health._going(Progress("numbers", 0, 0, 0.0))


def test_hostile_texts_are_escaped(tmp_path: Path) -> None:
    words = " and some more words that stay the same in both"
    pairs = [
        a_pair(f"{HOSTILE} {i}", f"<img src=x> plum{words}", f"<img src=x> <script>kale</script>{words}")
        for i in range(3)
    ]
    lab = imported(tmp_path, pairs)
    check_run(tmp_path, "data")
    shown = "".join(map(str, health._shown(lab, "data")[:-1]))
    assert "<script" not in shown
    assert "<img" not in shown
    lab.close()


def test_an_empty_home_and_a_run_without_pairs_say_so(empty_lab: Lab, tmp_path: Path) -> None:
    assert "No run yet" in health._none(empty_lab, None)
    lab = imported(tmp_path / "other", [])
    assert "No pairs in this data set" in health._none(lab, "data")
    lab.close()


def test_a_reader_without_rights_is_not_told_to_press_a_button(tmp_path: Path) -> None:
    imported(tmp_path, [a_pair()]).close()
    lab = Lab(tmp_path, read_only=True)
    said = health._shown(lab, "data")[0]
    assert "Press" not in said
    assert "synpo-lab check data" in said
    lab.close()


# The small charts


def heights(svg: str) -> list[float]:
    return [float(height) for height in re.findall(r'height="([\d.]+)"><title>', svg)]


def test_bars_are_as_high_as_their_numbers_and_named() -> None:
    svg = bar_chart(Plot("Title", "across, unit", "pairs", ["a", "b", "c"], [1.0, 2.0, 4.0], [2]))
    low, middle, high = heights(svg)
    assert middle == pytest.approx(2 * low, abs=0.2)
    assert high == pytest.approx(4 * low, abs=0.4)
    for word in ("Title", "across, unit", "pairs", "<title>b: 2</title>", "▲"):
        assert word in svg


def test_bins_are_named_by_their_edges_and_negative_bars_hang_below_the_ground() -> None:
    assert "<title>0 to 10: 3</title>" in bar_chart(Plot("t", "x", "y", ["0", "10", "20"], [3.0, 1.0]))
    svg = bar_chart(Plot("t", "x", "y", ["a", "b"], [2.0, -2.0]))
    assert heights(svg)[0] == pytest.approx(heights(svg)[1])
    tops = [float(top) for top in re.findall(r'<rect class="" x="[\d.]+" y="([\d.]+)"', svg)]
    assert tops[0] < tops[1]


def test_a_chart_of_nothing_and_hostile_names_draw() -> None:
    assert heights(bar_chart(Plot("t", "x", "y", ["a"], [0.0]))) == [0.0]
    assert "<b>" not in bar_chart(Plot("<b>", "<b>", "<b>", ["<b>"], [1.0]))
