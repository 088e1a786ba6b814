"""Every page in a real browser, and its numbers against the same asked of the store directly."""

import csv
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Page, expect

from storage.database import Database
from synpo_lab.home import open_store
from synpo_lab.records import Pair, Prompt, content_id
from tests.browser.conftest import App
from tests.plausible_run import write_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RUN, OTHER = "pocket-20260101-1200-aaaa", "pocket-20251231-1200-bbbb"
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>\0 \u202e" + "w" * 5000
Serve = Callable[..., AbstractContextManager[App]]


@pytest.fixture(scope="module")
def app(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The lab over two made-up runs, one of them with texts made to break a page."""
    home = tmp_path_factory.mktemp("home")
    write_run(home, RUN, iterations=2, prompts=60)
    other = write_run(home, OTHER, iterations=1, prompts=20, created_at=1_700_000_000.0)
    key = content_id("prompt", HOSTILE)
    other.append([Prompt(1, key, HOSTILE, ["<b>", HOSTILE], "<b>", "generator", "kept", None)])
    other.append(
        [Pair(1, "e" * 16, key, HOSTILE, "c", "r", HOSTILE, HOSTILE[::-1], 9.0, 1.0, 8.0, 1, 1, 0.0, True, None)]
    )
    with serve(home, "-m", "synpo_lab.cli", "serve") as served:
        yield served


@pytest.fixture(autouse=True)
def no_faults(app: App) -> Iterator[None]:
    """No page may log an error, throw, or ask another host for anything."""
    app.faults.clear()
    yield
    assert app.faults == []


def value(app: App, sql: str, **parameters: object) -> object:
    """The one value of a query on the store, past everything the pages use."""
    database = Database(open_store(app.home, read_only=True))
    found = database.row(sql, ({"run": RUN} if "$run" in sql else {}) | parameters)
    database.close()
    assert found is not None
    return next(iter(found.values()))


def query_of(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlparse(page.url).query).items()}


def marks(page: Page, selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


# Across pages


def test_the_selected_run_and_the_theme_travel_through_the_navigation(app: App) -> None:
    page = app.open(f"?run={OTHER}&__theme=dark")
    page.locator("nav a", has_text="Pairs").click()
    expect(page.locator("#run-picker input")).to_have_value(re.compile(OTHER))
    assert query_of(page)["run"] == OTHER
    assert page.evaluate("document.body.classList.contains('dark')")
    page.locator("[data-theme-switch]").click()
    assert not page.evaluate("document.body.classList.contains('dark')")
    page.locator("nav a", has_text="Overview").click()
    expect(page.locator("#live")).to_contain_text(OTHER)
    page.close()


def test_what_was_asked_of_one_run_is_not_asked_of_the_next(app: App) -> None:
    page = app.open(f"thresholds?run={RUN}&min_gap=0.35&rows=kept&__theme=dark")
    expect(page.locator("#cut-summary")).to_contain_text("0.350")
    page.locator("#run-picker input").click()
    page.get_by_role("option", name=OTHER).click()
    expect(page.locator("#cut-summary")).to_contain_text("Above a gap of 0.100")
    assert query_of(page) == {"run": OTHER, "__theme": "dark"}
    page.close()


# Overview


def test_the_overview_tells_the_win_rate_of_the_store(app: App) -> None:
    page = app.open()
    expect(page.locator("#live")).to_contain_text(RUN)
    expect(page.locator("#live")).to_contain_text("Toy model")
    rate = value(
        app,
        "SELECT avg(CASE winner WHEN 'a' THEN 1 WHEN 'tie' THEN 0.5 ELSE 0 END) FROM evals "
        "WHERE run_id = $run AND iteration = 2 AND suite = 'pocket'",
    )
    assert isinstance(rate, float)
    expect(page.locator("#results tbody tr").nth(2)).to_contain_text(f"{rate:.1%}")
    expect(page.locator("#live .lab-ladder li").nth(2)).to_contain_text(f"{rate:.1%}")
    expect(page.locator("#win-rate .js-plotly-plot")).to_be_visible()
    expect(page.locator("#runs tbody tr")).to_have_count(2)
    expect(page.locator("#example ins").first).to_be_visible()
    page.close()


# Prompts


def test_prompts_are_searched_filtered_and_turned_over(app: App) -> None:
    page = app.open("prompts")
    kept = value(app, "SELECT count(*) FROM prompts WHERE run_id = $run AND status = 'kept'")
    expect(page.locator("#prompt-place")).to_contain_text(f"1 to 25 of {kept}")
    expect(page.locator("#prompt-table .lab-chip.noise i").first).to_have_text("noise")
    first = page.locator("#prompt-table tbody tr").first.inner_text()
    page.get_by_role("button", name="Next →").click()
    expect(page.locator("#prompt-place")).to_contain_text("26 to 50")
    assert page.locator("#prompt-table tbody tr").first.inner_text() != first
    page.locator("#prompt-search input, #prompt-search textarea").fill("fruit")
    found = value(
        app,
        "SELECT count(*) FROM prompts WHERE run_id = $run AND status = 'kept' "
        "AND (text ILIKE '%fruit%' OR array_to_string(keywords, ' ') ILIKE '%fruit%')",
    )
    expect(page.locator("#prompt-table tbody tr")).to_have_count(found)
    page.close()


def test_what_was_dropped_for_a_reason_is_one_click_away(app: App) -> None:
    page = app.open("prompts")
    page.locator("#prompt-flow a", has_text="invalid").click()
    dropped = value(app, "SELECT count(*) FROM prompts WHERE run_id = $run AND drop_reason = 'invalid'")
    expect(page.locator("#prompt-table tbody tr")).to_have_count(dropped)
    expect(page.locator("#prompt-table .lab-pill").first).to_have_text("invalid")
    page.close()


def test_a_prompt_leads_to_its_pair(app: App) -> None:
    page = app.open("prompts")
    text = page.locator("#prompt-table tbody tr td").first.inner_text()
    page.locator("#prompt-table a", has_text="pair").first.click()
    expect(page.locator("#pair .lab-prompt")).to_have_text(text)
    page.close()


# Pairs


def test_pairs_are_walked_by_button_and_by_key_and_keep_their_address(app: App) -> None:
    page = app.open("pairs")
    total = value(app, "SELECT count(*) FROM pairs WHERE run_id = $run")
    expect(page.locator("#pair-place")).to_contain_text(f"1 of {total}")
    page.locator("#pair-next").click()
    expect(page.locator("#pair-place")).to_contain_text(f"2 of {total}")
    page.keyboard.press("ArrowRight")
    expect(page.locator("#pair-place")).to_contain_text(f"3 of {total}")
    third = page.locator("#pair .lab-pair-head .lab-id").inner_text()
    page.wait_for_function("id => new URLSearchParams(location.search).get('pair') === id", arg=third)
    page.reload()
    expect(page.locator("#pair .lab-pair-head .lab-id")).to_have_text(third)
    expect(page.locator("#pair-place")).to_contain_text(f"3 of {total}")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#pair-place")).to_contain_text(f"2 of {total}")
    page.close()


def test_a_pair_s_columns_are_equal_and_its_scores_those_of_the_store(app: App) -> None:
    page = app.open("pairs")
    expect(page.locator("article.lab-side")).to_have_count(3)
    boxes = [box for side in page.locator("article.lab-side").all() if (box := side.bounding_box())]
    assert len({round(box["height"]) for box in boxes}) == len({round(box["width"]) for box in boxes}) == 1
    pair_id = page.locator("#pair .lab-pair-head .lab-id").inner_text()
    sql = "SELECT printf('%.2f', {side}_score) FROM pairs WHERE run_id = $run AND pair_id = $pair"
    for side in ("chosen", "rejected"):
        shown = page.locator(f"article.{side} header strong").inner_text()
        assert shown == value(app, sql.format(side=side), pair=pair_id)
    expect(page.locator("article.improved ins").first).to_be_visible()
    page.get_by_label("off").check()
    expect(page.locator("#pair ins, #pair del")).to_have_count(0)
    page.close()


def test_texts_made_to_break_a_page_are_read_and_nothing_else(app: App) -> None:
    for path in (f"pairs?run={OTHER}&pair={'e' * 16}", f"prompts?run={OTHER}&search=onerror", f"?run={OTHER}"):
        page = app.open(path, width=390, height=844)
        page.wait_for_timeout(1500)
        assert page.title() != "taken"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.locator("img[src=x]").count() == 0
        page.close()
    page = app.open(f"pairs?run={OTHER}&pair={'e' * 16}")
    expect(page.locator("#pair .lab-prompt")).to_contain_text("<img src=x")
    expect(page.locator("#pair .lab-prompt")).to_contain_text("␀ ⟨U+202E⟩")
    page.close()


# Iterations


def test_the_trainings_are_drawn_and_the_winning_beta_is_named(app: App) -> None:
    page = app.open("iterations")
    for name in ("loss", "margin", "accuracy", "logp"):
        expect(page.locator(f"#curve-{name} .js-plotly-plot")).to_be_visible()
    expect(page.locator("#grid")).to_contain_text("became M")
    expect(page.locator("#log tbody tr").first).to_contain_text("finished")
    expect(page.locator("#stop")).to_be_disabled()
    expect(page.locator("#resume")).to_be_disabled()
    page.close()


def test_a_wrong_field_is_told_with_a_hint_and_nothing_typed_is_lost(app: App) -> None:
    page = app.open("iterations?min_gap=0.35")
    expect(page.locator("#form-filter-min_gap input")).to_have_value("0.35")
    page.locator("#form-title input, #form-title textarea").fill("my own run")
    page.locator("#form-iterations input").fill("0")
    expect(page.locator("#form-status")).to_contain_text("iterations:")
    page.locator("#form-launch").click()
    expect(page.locator("#form-status")).to_contain_text("hint")
    expect(page.locator("#form-title input, #form-title textarea")).to_have_value("my own run")
    expect(page.locator("#form-iterations input")).to_have_value("0")
    page.locator("#form-title input, #form-title textarea").fill("pasted")
    page.get_by_text("Everything, as YAML").click()
    expect(page.locator("#form-yaml")).to_contain_text("title: pasted")
    page.locator("#form-iterations input").fill("3")
    expect(page.locator("#form-status")).to_contain_text("valid")
    assert len(open_store(app.home).runs()) == 2
    page.close()


# SQL


def open_sql(app: App) -> Page:
    """The SQL page with its first answer; what is typed before that comes would be overwritten."""
    page = app.open("sql")
    expect(page.locator("#sql-result tbody tr").first).to_be_visible()
    return page


def write_sql(page: Page, sql: str) -> None:
    page.locator("#sql-editor .cm-content").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(sql)


def test_sql_is_asked_by_key_and_answered_with_a_table(app: App) -> None:
    page = open_sql(app)
    write_sql(page, "SELECT count(*) AS n, 'x' AS word FROM pairs")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#sql-result tbody td").first).to_have_text(str(value(app, "SELECT count(*) FROM pairs")))
    expect(page.locator("#sql-result")).to_contain_text("1 row,")
    page.close()


def test_sql_that_would_write_is_refused_and_bad_sql_is_told_with_a_hint(app: App) -> None:
    page = open_sql(app)
    for sql, said in (("DROP VIEW pairs", "refused"), ("SELECT nothing FROM pairs", "nothing")):
        write_sql(page, sql)
        page.wait_for_timeout(300)
        page.locator("#sql-run").click()
        expect(page.locator("#sql-result .lab-problem")).to_contain_text(said)
        expect(page.locator("#sql-result .lab-problem")).to_contain_text("hint")
    page.close()


def test_a_query_that_takes_too_long_is_stopped_by_its_button(app: App) -> None:
    page = open_sql(app)
    write_sql(page, "SELECT sum(sqrt(a.range * b.range)) FROM range(1000000) AS a, range(1000000) AS b")
    page.wait_for_timeout(300)
    page.locator("#sql-run").click()
    page.wait_for_timeout(1000)
    page.locator("#sql-stop").click()
    expect(page.locator("#sql-result .lab-problem")).to_contain_text("cancelled")
    page.close()


def test_an_answer_is_saved_as_csv_and_as_parquet(app: App, tmp_path: Path) -> None:
    page = open_sql(app)
    write_sql(page, "SELECT pair_id, gap FROM pairs ORDER BY pair_id")
    page.wait_for_timeout(300)
    rows = value(app, "SELECT count(*) FROM pairs")
    for name in ("csv", "parquet"):
        with page.expect_download() as caught:
            page.locator(f"#sql-{name}").click()
        caught.value.save_as(tmp_path / f"r.{name}")
        assert caught.value.suggested_filename == f"synpo-lab.{name}"
    with (tmp_path / "r.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == rows
    assert pq.read_table(tmp_path / "r.parquet").num_rows == rows
    page.close()


# Read-only


def test_a_read_only_lab_offers_no_action(serve: Serve, app: App) -> None:
    with serve(app.home, "-m", "synpo_lab.cli", "serve", "--read-only") as shown:
        page = shown.open()
        expect(page.locator("#live")).to_contain_text(RUN)
        expect(page.locator("#start")).to_have_count(0)
        page.goto(f"{shown.address}/iterations")
        expect(page.locator("#live")).to_contain_text(RUN)
        for name in ("#stop", "#resume", "#form-launch"):
            expect(page.locator(name).and_(page.locator(":visible"))).to_have_count(0)
        assert page.get_by_role("tab", name="New run").count() == 0
        page.close()
        assert shown.faults == []
