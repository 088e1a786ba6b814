"""What a page shows is handed out: the filtered pairs, as TRL takes them."""

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from storage import Database
from synpo_lab.home import open_store
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


def test_the_pairs_that_are_shown_are_downloaded_for_trl(app: App, tmp_path: Path) -> None:
    page = app.open(f"pairs?run={RUN}&kept=kept&iteration=2")
    expect(page.locator("#pair-place")).to_contain_text("1 of")
    page.get_by_role("button", name="Export what is shown").click()
    with page.expect_download() as caught:
        page.locator("#pairs-download").click()
    caught.value.save_as(tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    database = Database(open_store(app.home))
    kept = database.rows("SELECT pair_id FROM pairs WHERE kept AND iteration = 2")
    database.close()
    assert sorted(row["pair_id"] for row in rows) == sorted(row["pair_id"] for row in kept)
    assert set(rows[0]) >= {"prompt", "chosen", "rejected"}
    expect(page.locator("#pairs-said")).to_contain_text(f"{len(rows)} rows")


def test_a_repository_name_that_is_none_is_told(app: App) -> None:
    page = app.open(f"pairs?run={RUN}")
    expect(page.locator("#pair-place")).to_contain_text("1 of")
    page.get_by_role("button", name="Export what is shown").click()
    page.locator("#pairs-hub input, #pairs-hub textarea").fill("nothing like a name")
    page.locator("#pairs-upload").click()
    expect(page.get_by_text("names no repository")).to_be_visible()
