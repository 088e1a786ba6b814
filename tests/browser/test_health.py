"""The Health page in a real browser: checks are run from it, and every number opens its rows."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from storage.state import set_state
from synpo_lab.home import open_home, open_store
from synpo_lab.records import Finding, Pair
from tests.browser.conftest import App
from tests.health.conftest import a_pair
from tests.plausible_run import write_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RUN, DATA = "pocket-20260101-1200-aaaa", "data"
REAL = Path(__file__).parents[3] / "shared" / "data" / "alpaca_eval" / "outputs"
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>\0 \u202e"
Serve = Callable[..., AbstractContextManager[App]]


def real_or_made_up() -> list[Pair]:
    """Llama 3 before and after SimPO on 805 real prompts where they are at hand, else made-up pairs; and hostile ones."""
    words = " and a word more that stays the same on both sides of it"
    hostile = [a_pair(f"{HOSTILE}{i}", f"{HOSTILE} plum{words}", f"{HOSTILE} kale{words}") for i in range(3)]
    if not REAL.is_dir():
        return [*hostile, *(a_pair(f"prompt {i}", "a" * (i + 3), "b" * 40) for i in range(60))]
    names = ("Meta-Llama-3-8B-Instruct", "Llama-3-Instruct-8B-SimPO")
    before, after = (json.loads((REAL / f"{name}.json").read_text()) for name in names)
    return [
        *hostile,
        *(a_pair(one["instruction"], other["output"], one["output"]) for one, other in zip(before, after, strict=True)),
    ]


@pytest.fixture(scope="module")
def app(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    home = tmp_path_factory.mktemp("home")
    write_run(home, RUN, iterations=2, prompts=60)
    run = open_store(open_home(home)).create_run(DATA, "recipe: import\n", {"recipe": "import", "created_at": 1.0})
    run.append(real_or_made_up())
    set_state(run.folder, "imported")
    with serve(home, "-m", "synpo_lab.cli", "serve") as served:
        yield served


@pytest.fixture(autouse=True)
def no_faults(app: App) -> Iterator[None]:
    app.faults.clear()
    yield
    assert app.faults == []


def checked(app: App, run_id: str, path: str = "", **window: int) -> Page:
    """The page with a report: run by the button where there is none yet."""
    page = app.open(f"health?run={run_id}{path}", **window)
    expect(page.locator("#health-said")).to_contain_text(re.compile("not been checked|Checked"))
    if page.locator("#health-said .lab-empty").count():
        page.locator("button#health-run, #health-run button").first.click()
    expect(page.locator("#health-said")).to_contain_text("Checked", timeout=60_000)
    expect(page.locator("#health-cards .lab-check").first).to_be_visible()
    return page


def findings(app: App, run_id: str) -> list[Finding]:
    return list(open_store(app.home, read_only=True).run(run_id).read(Finding))


@pytest.mark.parametrize("run_id", [DATA, RUN])
def test_the_button_runs_the_checks_and_every_check_has_a_number_a_meaning_and_its_rows(app: App, run_id: str) -> None:
    page = checked(app, run_id)
    assert page.title() != "taken"
    cards = page.locator("#health-cards .lab-check")
    assert cards.count() == page.locator("#health-summary tbody tr").count() == 19
    counted = {one.kind: 0 for one in findings(app, run_id)}
    for one in findings(app, run_id):
        counted[one.kind] += 1
    for i in range(cards.count()):
        card = cards.nth(i)
        name, shown = card.locator("h3").inner_text(), card.inner_text()
        assert ("pairs →" in shown) is (name in counted), name
        if name in counted:
            assert f"{counted[name]:,} pairs →" in shown
    for chart in page.locator("#health-cards figure").all():
        assert chart.locator("figcaption").inner_text()
        assert all(chart.locator(".axis").all_inner_texts())
        assert chart.locator("svg").get_attribute("aria-label")
    page.close()


def test_a_number_opens_exactly_its_rows(app: App) -> None:
    page = checked(app, DATA)
    kind = "encoding trouble"
    page.locator("#check-encoding-trouble a", has_text="pairs").click()
    page.wait_for_url(re.compile("pairs.*finding=encoding"))
    page.locator(".lab-side").first.wait_for()
    expect(page.locator("#pair-place")).to_contain_text(f"of {len([f for f in findings(app, DATA) if f.kind == kind])}")
    assert page.title() != "taken"
    page.close()


def test_what_the_improver_changed_most_often_opens_its_rows(app: App) -> None:
    page = checked(app, RUN)
    counted: dict[str, int] = {}
    for one in findings(app, RUN):
        if one.kind.startswith("draft edit: "):
            counted[one.kind] = counted.get(one.kind, 0) + 1
    most = max(counted.values())
    lead = page.locator("#health-edits p", has_text="From the draft to the improved answer")
    name = lead.locator("a").inner_text()
    assert counted[f"draft edit: {name}"] == most
    lead.locator("a").click()
    page.wait_for_url(re.compile("pairs.*finding=draft"))
    expect(page.locator("#pair-place")).to_contain_text(f"of {most:,}")
    page.close()


def test_the_report_is_saved_as_json_and_as_markdown(app: App) -> None:
    page = checked(app, DATA)
    for button, name in (("#health-json", "health-data.json"), ("#health-markdown", "health-data.md")):
        with page.expect_download() as caught:
            page.locator(f"button{button}, {button} button").first.click()
        assert caught.value.suggested_filename == name
        text = Path(caught.value.path()).read_text(encoding="utf-8")
        assert "near-duplicate prompt" in text
        if name.endswith("json"):
            assert json.loads(text)["run_id"] == DATA
    page.close()


def test_evaluation_prompts_of_a_file_are_looked_for(app: App, tmp_path: Path) -> None:
    page = checked(app, RUN)
    mine = next(iter(open_store(app.home, read_only=True).run(RUN).read(Pair))).prompt
    suite = tmp_path / "suite.json"
    suite.write_text(json.dumps([{"instruction": mine}]))
    page.get_by_text("Look for evaluation prompts of a file too").click()
    page.locator("#health-eval input[type=file]").set_input_files(suite)
    expect(page.locator("#health-eval")).to_contain_text("suite")
    page.locator("button#health-run, #health-run button").first.click()
    expect(page.locator("#health-said")).to_contain_text("suite.json", timeout=60_000)
    expect(page.locator("#check-evaluation-overlap .lab-big")).not_to_contain_text(re.compile(r"^0 "))
    page.close()


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_report_fits_the_window_in_both_schemes(app: App, theme: str, width: int) -> None:
    page = checked(app, DATA, f"&__theme={theme}", width=width)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    assert page.evaluate("document.body.classList.contains('dark')") is (theme == "dark")
    page.close()


def test_a_report_is_said_to_be_stale_once_pairs_were_added(app: App) -> None:
    checked(app, DATA).close()
    open_store(app.home).run(DATA).append([a_pair("a new prompt")])
    page = checked(app, DATA)
    expect(page.locator("#health-said")).to_contain_text("1 pairs were added since")
    page.close()
