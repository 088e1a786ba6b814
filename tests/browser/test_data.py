"""The Data page in a real browser: look at a file, import it, open it in the other pages, delete it."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from storage.state import set_state
from synpo_lab import recipes
from synpo_lab.home import open_home, open_store
from synpo_lab.importing.launching import import_config
from synpo_lab.records import Pair
from synpo_lab.run import Run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

REAL = Path(__file__).parents[3] / "shared" / "data" / "alpaca_eval" / "outputs"
MODELS = ("Meta-Llama-3-8B-Instruct", "Llama-3-Instruct-8B-SimPO")
HOSTILE = "<img src=x onerror=\"document.title='run'\">\0 ‮ \ud83d\ude00 " + "wide" * 400
IMPORT_MS = 60_000


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int]:
    """Two models' answers to the same prompts, and how many: the real ones where they are, else made up."""
    if REAL.exists():
        first, second = (REAL / f"{model}.json" for model in MODELS)
        return first, second, len(json.loads(first.read_text()))
    folder = tmp_path_factory.mktemp("answers")
    for model in MODELS:
        rows = [{"instruction": f"prompt {n}", "output": f"{model} says {n}", "generator": model} for n in range(40)]
        (folder / f"{model}.json").write_text(json.dumps(rows))
    first, second = (folder / f"{model}.json" for model in MODELS)
    return first, second, 40


@pytest.fixture(scope="module")
def app(serve: Any, files: tuple[Path, Path, int], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The lab over a home with the data sets "ready" and "unwanted"."""
    home = open_home(tmp_path_factory.mktemp("lab") / "home")
    for name in ("ready", "unwanted"):
        imported(home, name, files[:2])
    with serve(home, "-m", "synpo_lab.cli", "serve") as shown:
        yield shown
        assert shown.faults == []


def imported(home: Path, name: str, paths: Sequence[Path]) -> None:
    config = import_config([str(path) for path in paths])
    info = {"recipe": "import", "title": config.title, "iterations": 1}
    run = open_store(home).create_run(name, config.to_yaml(), info)
    recipes.get("import")(config, Run(run, config))
    set_state(run.folder, "imported")


def fill(page: Page, field: str, text: str) -> None:
    page.locator(f"#data-{field} input, #data-{field} textarea").first.fill(text)


def look(page: Page) -> None:
    page.wait_for_timeout(300)  # typing disables the import until the next look
    page.locator("#data-look").click()


def test_two_files_are_looked_at_imported_and_opened(app: Any, files: tuple[Path, Path, int]) -> None:
    first, second, rows = files
    page = app.open("data")
    expect(page.locator("#data-import")).to_be_disabled()
    fill(page, "path", str(first))
    fill(page, "second", str(second))
    look(page)
    report = page.locator("#data-report")
    expect(report).to_contain_text(f"{rows:,} of {rows:,} rows can be taken and make {rows:,} pairs")
    expect(report.locator(".lab-example")).to_have_count(3)
    expect(page.locator("#data-import")).to_be_enabled()
    fill(page, "name", "mine-alone")
    page.locator("#data-import").click()
    row = page.locator("#data-sets tbody tr", has_text="mine-alone")
    expect(row.locator(".lab-pill")).to_have_text("imported", timeout=IMPORT_MS)
    expect(row).to_contain_text(f"{rows:,}")
    pairs = {pair.pair_id: pair for pair in open_store(app.home).run("mine-alone").read(Pair)}
    assert len(pairs) == rows
    row.get_by_role("link", name="pairs").click()
    page.wait_for_url("**/pairs?**")
    expect(page.locator("#pair .lab-pair-head")).to_be_visible()
    assert page.locator("#pair .lab-pair-head .lab-id").inner_text().strip() in pairs
    expect(page.locator("#pair")).to_contain_text(MODELS[0])
    expect(page.locator("#pair")).to_contain_text(MODELS[1])
    page.close()


@pytest.mark.parametrize("path", ["", "prompts", "iterations", "sql"])
def test_every_page_opens_the_data_set(app: Any, path: str) -> None:
    page = app.open(f"{path}?run=ready")
    shows = {
        "": ("#live", "pairs"),
        "prompts": (".lab-table", "import"),
        "iterations": ("#live", "nothing was trained"),
        "sql": ("#sql-result", "rows"),
    }
    place, said = shows[path]
    expect(page.locator(place).first).to_contain_text(said)
    page.wait_for_timeout(500)
    expect(page.locator(".toast-body")).to_have_count(0)
    page.close()


def test_what_is_refused_is_told_with_its_line_and_hostile_text_is_text(app: Any, tmp_path: Path) -> None:
    path = tmp_path / "hostile.jsonl"
    good = {"prompt": HOSTILE, "chosen": HOSTILE, "rejected": "b"}
    path.write_text(
        json.dumps(good) + '\n{"prompt": "p", "chosen": 7, "rejected": "<script>document.title=1</script>"}\ntorn {\n'
    )
    page = app.open("data", width=390, height=800)
    fill(page, "path", str(path))
    look(page)
    report = page.locator("#data-report")
    expect(report).to_contain_text("1 of 3 rows can be taken")
    report.get_by_text("the first 2 refused rows").click()
    expect(report).to_contain_text("hostile.jsonl line 2")
    expect(report).to_contain_text("hostile.jsonl line 3")
    expect(report.locator(".lab-example").first).to_contain_text("<img src=x")
    assert report.locator("img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.title() == "SynPO Lab"
    page.close()


def test_an_uploaded_file_is_read_and_a_change_asks_for_another_look(app: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("question,best,worst\nsky?,blue,green\n")
    page = app.open("data")
    page.locator("#data-upload input[type=file]").set_input_files(path)
    expect(page.locator("#data-upload")).to_contain_text("mine")
    look(page)
    expect(page.locator("#data-report .lab-problem")).to_contain_text("no known format")
    fill(page, "columns", "chosen=best, rejected=worst")
    look(page)
    expect(page.locator("#data-report")).to_contain_text("1 of 1 rows can be taken")
    expect(page.locator("#data-import")).to_be_enabled()
    fill(page, "columns", "chosen=worst, rejected=best")
    expect(page.locator("#data-import")).to_be_disabled()
    page.close()


def test_a_data_set_is_deleted_when_that_is_confirmed(app: Any) -> None:
    page = app.open("data")
    choice = page.locator("#data-which input")
    choice.click()
    page.get_by_role("option", name="unwanted").click()
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.locator("#data-delete").click()
    page.wait_for_timeout(800)
    assert "unwanted" in open_store(app.home).runs()
    page.once("dialog", lambda dialog: dialog.accept())
    page.locator("#data-delete").click()
    expect(page.locator("#data-sets")).not_to_contain_text("unwanted")
    assert "unwanted" not in open_store(app.home).runs()
    assert "ready" in open_store(app.home).runs()
    page.close()
