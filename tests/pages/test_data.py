"""The Data page, and what the Overview and the Iterations page show of an imported data set."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pages import data, data_set, iterations, overview
from pages.shell import Lab, nothing_yet
from storage.state import set_state
from synpo_lab import recipes
from synpo_lab.errors import LabError
from synpo_lab.home import open_home, open_store
from synpo_lab.importing.launching import import_config
from synpo_lab.importing.look import look
from synpo_lab.run import Run

HOSTILE = "<script>alert('x')</script>\0<b>"
PAIRS = [
    {"prompt": f"{HOSTILE} {n}", "chosen": "a much better answer", "rejected": "no", "score_chosen": n, "score_rejected": 0}
    for n in range(4)
]  # fmt: skip
JUDGED = {
    "instruction": "p",
    "output_1": "base",
    "generator_1": "gpt4",
    "output_2": "ours",
    "generator_2": "<b>M",
    "preference": 1.75,
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a data set of pairs, one of annotations, and one of answers alone."""
    folder = tmp_path_factory.mktemp("data")
    imported(folder, "pairs", [*PAIRS, {"prompt": HOSTILE}])
    imported(folder, "judged", [JUDGED])
    imported(folder, "answers", [{"instruction": "p", "output": "a"}])
    return folder / "home"


def imported(folder: Path, name: str, rows: list[dict[str, Any]], home: str = "home") -> None:
    path = folder / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = import_config([str(path)])
    info = {"recipe": "import", "title": config.title, "iterations": 1}
    store = open_store(open_home(folder / home)).create_run(name, config.to_yaml(), info)
    recipes.get("import")(config, Run(store, config))
    set_state(store.folder, "imported")


@pytest.fixture
def lab(home: Path) -> Iterator[Lab]:
    made = Lab(home)
    yield made
    made.close()


def handler(lab: Lab, page: Any, name: str) -> Callable[..., Any]:
    """A handler of a page, by its name."""
    if not lab.app.fns:
        with lab.app:
            page.build(lab)
    return next(one.fn for one in lab.app.fns.values() if one.fn is not None and one.name == name)


def looked(lab: Lab, path: Path, **given: Any) -> list[Any]:
    asked = {"second": "", "upload": None, "format": "auto", "columns": "", "name": "", "every": False} | given
    found: list[Any] = handler(lab, data, "look_at")(str(path), *asked.values())
    return found


def test_a_look_shows_columns_rows_and_refusals_and_opens_the_way_to_import(lab: Lab, home: Path) -> None:
    report, button, name = looked(lab, home.parent / "pairs.jsonl")
    for said in ("TRL preference", "4 of 5 rows can be taken", "pairs.jsonl line 5", "score_chosen", "row 3"):
        assert said in report
    assert "<script" not in report
    assert "&lt;script&gt;" in report
    assert button.interactive
    assert name == "pairs"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"format": "hh"}, "none of the 5 rows"),
        ({"columns": "prompt"}, "is not WHAT=COLUMN"),
        ({"columns": "prompt=x"}, "no column"),
    ],
)
def test_what_is_wrong_is_told_on_the_page_and_nothing_can_be_imported(
    lab: Lab, home: Path, given: dict[str, str], said: str
) -> None:
    report, button, _ = looked(lab, home.parent / "pairs.jsonl", **given)
    assert said in report
    assert "hint" in report
    assert not button.interactive


def test_a_look_without_a_file_says_so(lab: Lab) -> None:
    report, button, _ = handler(lab, data, "look_at")("", "", None, "auto", "", "", False)
    assert "no file yet" in report
    assert not button.interactive


def test_on_a_space_and_in_a_read_only_lab_only_uploads_are_read(
    home: Path, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SYSTEM", "spaces")
    path = home.parent / "pairs.jsonl"
    assert "no file yet" in looked(lab, path)[0]
    assert "4 of 5 rows" in looked(lab, Path("/etc/passwd"), upload=[str(path)])[0]  # type: ignore[arg-type]
    monkeypatch.delenv("SYSTEM")
    read_only = Lab(home, read_only=True)
    assert "no file yet" in looked(read_only, path)[0]
    read_only.close()


def test_an_import_under_a_name_that_is_taken_is_told_with_a_hint(lab: Lab, home: Path) -> None:
    start = handler(lab, data, "start_it")
    said = start(str(home.parent / "judged.jsonl"), "", None, "auto", "", "pairs")[0]
    assert "there is a data set &#39;pairs&#39; already" in said
    said = start(str(home.parent / "pairs.jsonl"), "", None, "auto", "", "pairs")[0]
    assert "holds exactly this already" in said


def test_the_list_has_every_data_set_with_its_counts_links_and_refused_rows(lab: Lab) -> None:
    sets, which, timer = data._list(lab)
    for said in (
        "pairs.jsonl",
        "judged.jsonl",
        "./pairs?run=pairs",
        "./sql?run=judged",
        "1 refused",
        "pairs.jsonl line 5",
    ):
        assert said in sets
    assert {name for _, name in which.choices} == {"pairs", "judged", "answers"}
    assert not timer.active


def test_a_look_at_every_row_counts_all_that_would_be_refused(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "LOOKED_AT", 10)
    rows = [{"prompt": f"p {n}", "chosen": "a", "rejected": "b" if n % 2 else None} for n in range(9_000)]
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "4,500 of 9,000 rows can be taken" not in looked(lab, path)[0]
    report = looked(lab, path, every=True)[0]
    assert "4,500 of 9,000 rows can be taken" in report
    assert "4,500 refused" in report
    read_only = Lab(lab.home, read_only=True)
    assert "9,000 rows can be taken" not in looked(read_only, path, upload=[str(path)], every=True)[0]
    read_only.close()


def test_a_home_without_data_sets_says_what_comes_here(empty_lab: Lab) -> None:
    assert "No data set here yet" in data._list(empty_lab)[0]


def test_overview_of_a_data_set_shows_what_its_pairs_are_like(lab: Lab) -> None:
    title, live, lengths, example, gaps, results, _ = [draw() for _, draw in overview._panels(lab, lab.run("pairs"))]
    assert overview.TITLE_OF_DATA[0] in title
    assert "4" in live
    assert "./pairs?run=pairs" in live
    assert sum(lengths.data[0].y) == sum(gaps.data[0].y) == 4
    assert "score" in gaps.layout.title.text
    assert "<script" not in example
    assert "100.0%" in results  # chosen is longer


def test_overview_of_annotations_names_both_models_and_the_judges_mean(lab: Lab) -> None:
    results = data_set.results(lab, lab.run("judged"))
    for said in ("gpt4", "&lt;b&gt;M", "75.0%", "100.0%"):
        assert said in results


def test_several_judged_models_are_told_one_by_one(home: Path) -> None:
    rows = [
        JUDGED | {"generator_2": model, "instruction": str(n), "preference": 1 + won, "output_2": f"{model} {n}"}
        for model, won in (("good", 1), ("bad", 0))
        for n in range(3)
    ]
    imported(home.parent, "several", rows)
    with closing(Lab(home)) as lab:
        table = str(data_set.results(lab, lab.run("several"))).partition("What the judge said")[2]
    cells = [re.findall(r">([^<>]+)<", row)[:5] for row in table.split("<tr>")[2:]]
    assert cells == [["good", "gpt4", "annotator", "100.0%", "100.0%"], ["bad", "gpt4", "annotator", "0.0%", "0.0%"]]
    assert "43.9% to 100.0%" in table  # 3 of 3 (Wilson), not 100 % to 100 %


def test_overview_of_answers_alone_says_how_they_become_pairs(lab: Lab) -> None:
    _, _, lengths, example, *_ = [draw() for _, draw in overview._panels(lab, lab.run("answers"))]
    assert data_set.NO_PAIRS.split(".")[0] in example
    assert lengths.layout.annotations[0].text == "no pair has this number"


def test_iterations_of_a_data_set_say_why_there_is_nothing(lab: Lab) -> None:
    assert "nothing was trained" in iterations._live(lab, lab.run("pairs"), {})


def test_a_page_without_rows_says_that_the_file_had_none(lab: Lab) -> None:
    said = nothing_yet(lab.run("answers"), "pairs", "They come later.")
    assert "No pairs in this data set" in said
    assert "Resume" not in said


def test_of_two_files_the_first_is_the_rejected_side(lab: Lab, tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"instruction": "p", "output": f"{name} answer"}))
    report = looked(lab, tmp_path / "old.jsonl", second=str(tmp_path / "new.jsonl"))[0]
    assert "first file&#39;s rejected" in report
    chosen, rejected = report.index("new answer"), report.index("old answer")
    assert chosen < rejected


def test_what_is_wrong_with_an_upload_names_the_file_and_the_page_s_own_fields(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"nothing": 1}\n')
    with pytest.raises(LabError) as caught:
        look([str(path)], "trl", {})
    told = data.wrong(caught.value, [str(path)])
    assert str(tmp_path) not in told
    assert "Columns" in told
    missing = data.wrong(LabError(f"{path}: no such file"), [str(path)])
    assert "rows.jsonl: no such file" in missing
    assert str(tmp_path) in data.wrong(LabError(f"{path}: no such file"), None)  # a path that was typed is theirs
