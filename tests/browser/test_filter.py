"""The filter page in a real browser: widgets, SQL, YAML, address and rows are one filter, and a fork starts from it."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Page, expect

from storage.database import Database
from storage.state import read_state
from synpo_lab import filters, jobs
from synpo_lab.home import open_store
from synpo_lab.jobs.provenance import stored_config, stored_info
from tests.browser.conftest import App
from tests.plausible_run import write_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]
expect.set_options(timeout=20_000)  # machines are shared

RUN = "pocket-20260101-1200-aaaa"
Serve = Callable[..., AbstractContextManager[App]]


@pytest.fixture(scope="module")
def app(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    home = tmp_path_factory.mktemp("home")
    write_run(home, RUN, iterations=2, prompts=60)
    with serve(home, "-m", "synpo_lab.cli", "serve") as served:
        yield served


@pytest.fixture(autouse=True)
def no_faults(app: App) -> Iterator[None]:
    app.faults.clear()
    yield
    assert app.faults == []


def value(app: App, sql: str, **parameters: object) -> int:
    database = Database(open_store(app.home, read_only=True))
    found = database.row(f"SELECT count(*) AS n FROM pairs WHERE run_id = '{RUN}' AND {sql}", parameters)
    database.close()
    assert found is not None
    return int(found["n"])


def ids(app: App, sql: str) -> set[str]:
    database = Database(open_store(app.home, read_only=True))
    found = {row["pair_id"] for row in database.rows(sql)}
    database.close()
    return found


def move(page: Page, slider: str, to: float) -> None:
    box = page.locator(f"#{slider} input[type=number]")
    box.fill(str(to))
    box.press("Enter")


def in_address(page: Page, name: str, told: str | None) -> None:
    page.wait_for_function(
        f"() => new URLSearchParams(location.search).get('{name}') === {repr(told) if told else 'null'}"
    )


def pick(page: Page, box: str, choice: str) -> None:
    page.locator(f"#{box} input").click()
    page.get_by_role("option", name=choice).first.click()


def code(page: Page, which: str) -> str:
    return "\n".join(page.locator(f"#{which} .cm-line").all_inner_texts())


def test_the_slider_moves_the_cut_and_the_numbers_are_those_of_a_direct_query(app: App) -> None:
    page = app.open("thresholds")
    expect(page.locator("#cut-summary")).to_contain_text("Above a gap of 0.100")
    expect(page.locator("#cut-changed")).to_contain_text("keep exactly the same pairs")
    move(page, "cut", 0.35)
    kept = value(app, "gap > 0.35 AND repetition <= 0.5")
    expect(page.locator("#cut-summary")).to_contain_text(f"Above a gap of 0.350: {kept} of")
    gone = value(app, "gap > 0.1 AND gap <= 0.35 AND repetition <= 0.5")
    expect(page.locator("#cut-summary")).to_contain_text(f"+0 / −{gone} pairs")
    expect(page.locator("#cut-changed")).to_contain_text(f"{gone} in all")
    for t in (1, 2):
        here = value(app, "iteration = $t AND gap > 0.35", t=t)
        expect(page.locator("#cut-counts tbody tr").nth(t - 1).locator("td").nth(3)).to_have_text(str(here))
    in_address(page, "min_gap", "0.35")
    out = page.locator("#cut-changed a", has_text="pair").first
    pair_id = parse_qs(urlparse(out.get_attribute("href") or "").query)["pair"][0]
    out.click()
    expect(page.locator("#pair")).to_contain_text(pair_id)
    page.close()


def test_a_number_typed_beyond_the_slider_s_end_is_the_end_everywhere(app: App) -> None:
    page = app.open("thresholds")
    expect(page.locator("#cut-summary")).to_contain_text("Above a gap of 0.100")
    end = page.locator("#cut input[type=range]").get_attribute("max") or ""
    move(page, "cut", 5)
    expect(page.locator("#cut-summary")).not_to_contain_text("Above a gap of 0.100")
    in_address(page, "min_gap", str(float(end)))
    page.locator("#cut input[type=number]").blur()
    assert float(page.locator("#cut input[type=number]").input_value()) == float(end)
    expect(page.get_by_test_id("toast-body")).to_have_count(0)
    page.close()


def test_dragging_the_slider_answers_while_it_moves(app: App) -> None:
    page = app.open("thresholds")
    slider = page.locator("#cut input[type=range]")
    expect(page.locator("#cut-summary")).to_contain_text("pairs are kept")
    slider.focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")
    expect(page.locator("#cut-summary")).to_contain_text("0.125")
    page.close()


def test_a_cut_that_keeps_nothing_says_so(app: App) -> None:
    page = app.open("thresholds?min_gap=3")
    expect(page.locator("#cut-summary")).to_contain_text("This keeps nothing")
    page.close()


def test_who_moves_a_slider_that_is_off_means_its_rule(app: App) -> None:
    page = app.open("thresholds")
    expect(page.locator("#on-max-similarity input")).not_to_be_checked()
    move(page, "cut-max-similarity", 0.5)
    expect(page.locator("#on-max-similarity input")).to_be_checked()
    kept = value(app, "gap > 0.1 AND repetition <= 0.5 AND similarity <= 0.5")
    expect(page.locator("#cut-summary")).to_contain_text(f"{kept} of")
    expect(page.locator("#histogram-similarity svg")).to_have_attribute(
        "aria-label", re.compile(rf"Sides alike: 120 pairs, {kept} kept; ≤ 0\.5")
    )
    page.locator("#on-max-similarity input").uncheck()
    expect(page.locator("#cut-summary")).to_contain_text(f"{value(app, 'gap > 0.1 AND repetition <= 0.5')} of")
    in_address(page, "max_similarity", None)
    page.close()


def test_widgets_sql_yaml_address_and_rows_say_the_same(app: App) -> None:
    page = app.open("thresholds")
    expect(page.locator("#cut-summary")).to_contain_text("pairs are kept")
    move(page, "cut-max-length-ratio", 1.5)
    page.locator("#where textarea").fill("prompt LIKE '%which%' OR len_chosen > 30 -- said so")
    page.locator("#where textarea").press("Enter")
    page.wait_for_function("() => new URLSearchParams(location.search).get('where')?.endsWith('said so')")
    rule = "gap > 0.1 AND repetition <= 0.5 AND len_chosen <= 1.5 * len_rejected AND (prompt LIKE '%which%' OR len_chosen > 30)"
    kept = value(app, rule)
    expect(page.locator("#cut-summary")).to_contain_text(f"{kept} of")
    expect(page.locator("#filter-sql")).to_contain_text("TRY")
    rules = filters.from_yaml(code(page, "filter-yaml"))
    assert (rules.max_length_ratio, rules.min_gap) == (1.5, 0.1)
    assert len(ids(app, code(page, "filter-sql"))) == kept
    again = app.open(page.url.removeprefix(app.address + "/"))
    expect(again.locator("#cut-summary")).to_contain_text(f"{kept} of")
    assert code(again, "filter-yaml") == code(page, "filter-yaml")
    again.get_by_role("link", name="Read the kept pairs").click()
    expect(again.locator("#pair-place")).to_contain_text(f"of {kept}")
    again.close()
    page.close()


@pytest.mark.parametrize("text", ["(SELECT 1)", "gab > 1", "gap >", "1; DROP TABLE pairs"])
def test_a_condition_that_is_none_is_told_and_nothing_is_lost(app: App, text: str) -> None:
    page = app.open("thresholds?min_gap=0.35")
    expect(page.locator("#cut-summary")).to_contain_text("0.350")
    page.locator("#where textarea").fill(text)
    page.locator("#where textarea").press("Enter")
    expect(page.locator("#filter-wrong")).to_contain_text("filter.where")
    page.locator("#where textarea").fill("")
    page.locator("#where textarea").press("Enter")
    expect(page.locator("#cut-summary")).to_contain_text("0.350")
    expect(page.locator("#filter-wrong .lab-problem")).to_have_count(0)
    page.close()


def test_a_bar_of_the_waterfall_opens_the_rows_it_lost(app: App) -> None:
    page = app.open("thresholds")
    page.locator("#waterfall a", has_text="gap").click()
    expect(page.locator("#pair-place")).to_contain_text(f"of {value(app, 'drop_reason = $r', r='gap')}")
    page = app.open("thresholds?max_similarity=0.5")
    page.locator("#waterfall a", has_text="similarity").click()
    lost = value(app, "gap > 0.1 AND repetition <= 0.5 AND similarity > 0.5")
    expect(page.locator("#cut-changed h3")).to_have_text("Dropped: similarity")
    expect(page.locator("#cut-changed")).to_contain_text(f"{lost} in all")
    page.locator("#filter-forth").click()
    expect(page.locator("#cut-changed")).to_contain_text(f"16 to {min(30, lost)}")
    page.close()


def test_presets_reset_and_saved_filters(app: App) -> None:
    page = app.open("thresholds")
    expect(page.locator("#cut-summary")).to_contain_text("pairs are kept")
    pick(page, "filter-start", "the paper, PairRM")
    expect(page.locator("#cut-summary")).to_contain_text("Above a gap of 0.200")
    pick(page, "filter-start", "no rules")
    expect(page.locator("#cut-summary")).to_contain_text("120 of 120 pairs")
    page.locator("#filter-reset").click()
    expect(page.locator("#cut-summary")).to_contain_text("Above a gap of 0.100")
    move(page, "cut", 0.4)
    page.locator("#filter-name input, #filter-name textarea").fill("mine")
    page.locator("#filter-save").click()
    expect(page.locator("#filter-said")).to_contain_text("filters/mine.yaml")
    assert filters.read(app.home, "mine").min_gap == 0.4
    page.locator("#filter-reset").click()
    expect(page.locator("#cut-summary")).to_contain_text("Above a gap of 0.100")
    pick(page, "filter-baseline", "mine")
    more = value(app, "gap > 0.1 AND gap <= 0.4 AND repetition <= 0.5")
    expect(page.locator("#cut-summary")).to_contain_text(f"Against mine: +{more} / −0 pairs")
    page.close()


def test_a_fork_is_launched_from_the_page(app: App) -> None:
    page = app.open("thresholds?min_gap=0.3")
    expect(page.locator("#fork")).to_be_enabled()
    pick(page, "fork-at", "1")
    page.locator("#fork").click()
    watch = page.locator("#filter-said a", has_text="watch it")
    expect(watch).to_be_visible(timeout=60_000)
    new_id = parse_qs(urlparse(watch.get_attribute("href") or "").query)["run"][0]
    jobs.stop(app.home, new_id, wait=30, kill=True)
    made = open_store(app.home).run(new_id)
    assert stored_info(made)["parent"]["iteration"] == 1
    assert stored_config(made).filter.min_gap == 0.3
    assert read_state(made.folder).state in {"stopped", "failed"}
    page.close()


def test_a_lab_open_read_only_shows_the_filter_and_offers_no_fork(serve: Serve, app: App, tmp_path: Path) -> None:
    with serve(app.home, "-m", "synpo_lab.cli", "serve", "--read-only") as shown:
        page = shown.open(f"thresholds?run={RUN}")
        expect(page.locator("#cut-summary")).to_contain_text("pairs are kept")
        expect(page.locator("#fork")).to_be_hidden()
        expect(page.locator("#filter-save")).to_be_hidden()
        page.close()
        assert shown.faults == []
