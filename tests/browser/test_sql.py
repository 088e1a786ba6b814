"""The SQL page in a browser: a chart of the result, a filter made of the query, what was asked before."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ROOT, App
from tests.plausible_run import write_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RUN = "pocket-20260101-1200-aaaa"
Serve = Callable[..., AbstractContextManager[App]]


@pytest.fixture
def app(serve: Serve, tmp_path: Path) -> Iterator[App]:
    write_run(tmp_path / "home", RUN, iterations=2, prompts=30)
    with serve(tmp_path / "home", str(ROOT / "tests" / "cli" / "counting_cli.py"), "serve") as running:
        yield running
        assert running.faults == []


def ask(page: Page, sql: str) -> None:
    expect(page.locator("#sql-result tbody tr").first).to_be_visible()
    page.locator("#sql-editor .cm-content").click()
    page.keyboard.press("Control+A")
    page.keyboard.insert_text(sql)
    page.keyboard.press("Control+Enter")


def test_a_result_is_drawn_becomes_a_filter_and_is_remembered(app: App) -> None:
    page = app.open("sql")
    sql = f"SELECT pair_id, gap, len_chosen FROM pairs WHERE run_id = '{RUN}' AND gap > 0.25 ORDER BY gap"
    ask(page, sql)
    expect(page.locator("#sql-result thead")).to_contain_text("len_chosen")
    page.get_by_role("button", name="Chart of the result").click()
    expect(page.locator("#sql-chart .gtitle")).to_have_text("gap by pair_id")
    page.locator("#sql-kind input").click()
    page.get_by_role("option", name="histogram").click()
    expect(page.locator("#sql-chart .gtitle")).to_have_text("How gap is spread")
    page.get_by_role("button", name="Ask the same in a terminal").click()
    expect(page.locator("#sql-command")).to_contain_text("synpo-lab query --home")
    expect(page.locator("#sql-duckdb")).to_contain_text("read_parquet")
    page.locator("#sql-filter").click()
    expect(page.locator("#sql-said code")).to_have_text("(gap > 0.25)")
    page.locator("#sql-said a").click()
    page.wait_for_url("**/thresholds?*where=%28gap*")
    again = page
    again.go_back()
    expect(again.locator("#sql-result tbody tr").first).to_be_visible()
    again.locator("#sql-history input").click()
    expect(again.get_by_role("option").first).to_contain_text("SELECT pair_id, gap, len_chosen")
    page.close()


def test_a_pair_of_a_result_opens_on_its_page(app: App) -> None:
    page = app.open("sql")
    ask(page, "SELECT pair_id FROM pairs ORDER BY gap DESC LIMIT 1")
    cell = page.locator("#sql-result tbody a").first
    pair_id = cell.inner_text()
    cell.click()
    page.wait_for_url(f"**/pairs?*pair={pair_id}*")
    expect(page.locator("#pair")).to_contain_text(pair_id)
    page.close()
