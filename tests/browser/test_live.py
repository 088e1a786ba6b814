"""A run is started, watched, stopped and resumed from the pages; it outlives the page and the server.

The workers are real processes that only count (tests/jobs/counting_worker.py).
"""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from storage.state import NEEDS_WORKER, read_state
from synpo_lab import jobs
from synpo_lab.errors import RunError
from synpo_lab.home import open_home, open_store
from tests.browser.conftest import ROOT, App

pytestmark = [pytest.mark.browser, pytest.mark.slow]

COUNTING = str(ROOT / "tests" / "cli" / "counting_cli.py")
ORDERS = '{"pause": 0.02}'
PROMPTS = 250  # counted in 5 s a round
Serve = Callable[..., AbstractContextManager[App]]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """An empty home; no worker outlives the test."""
    folder = open_home(tmp_path / "home")
    yield folder
    store = open_store(folder)
    for run_id in store.runs():
        if read_state(store.run(run_id).folder).state in NEEDS_WORKER:
            try:
                jobs.stop(folder, run_id, wait=0.0, kill=True)
            except RunError:
                continue  # it ended by itself meanwhile


def launch(page: Page, **values: object) -> None:
    """Fill the form in, start the run and wait until the page shows it."""
    page.get_by_role("tab", name="New run").click()
    for name, value in values.items():
        page.locator(f"#form-{name} input, #form-{name} textarea").fill(str(value))
        page.wait_for_timeout(400)
    page.locator("#form-launch").click()
    expect(page.locator("#live .lab-pill")).to_have_text(re.compile("waiting|running"))


def test_a_run_is_started_watched_stopped_and_resumed(serve: Serve, home: Path) -> None:
    with serve(home, COUNTING, "serve") as app:
        page = app.open("iterations")
        expect(page.locator("#live")).to_contain_text("No run yet")
        launch(page, title=ORDERS, iterations=2, **{"prompts-per_iteration": PROMPTS})
        expect(page.locator("#live")).to_contain_text("iteration 1/2, count")
        expect(page.locator("#live .lab-stage")).to_contain_text(f"of {PROMPTS}")
        seen = {
            page.locator("#live progress").get_attribute("value") for _ in range(4) if not page.wait_for_timeout(1200)
        }
        assert len(seen) >= 3, "the progress bar stands still"
        expect(page.locator("#live .lab-facts")).to_contain_text("/s")
        page.locator("#stop").click()
        expect(page.locator("#live .lab-pill")).to_have_text("stopped")
        expect(page.locator("#stop")).to_be_disabled()
        page.locator("#resume").click()
        expect(page.locator("#live .lab-pill")).to_have_text("finished", timeout=30_000)
        expect(page.locator("#live")).to_contain_text("2 rounds done")
        page.close()
        assert app.faults == []
    (run_id,) = open_store(home).runs()
    made = (home / "runs" / run_id / "made.txt").read_text().split()
    assert len(made) == len(set(made)) == 2 * PROMPTS, "finished work was done again"


def test_a_run_outlives_the_page_and_the_server(serve: Serve, home: Path) -> None:
    with serve(home, COUNTING, "serve") as app:
        page = app.open("iterations")
        launch(page, title=ORDERS, iterations=3, **{"prompts-per_iteration": PROMPTS})
        page.close()
    (run_id,) = open_store(home).runs()
    assert read_state(open_store(home).run(run_id).folder).state == "running"
    with serve(home, COUNTING, "serve") as app:
        page = app.open()
        expect(page.locator("#live")).to_contain_text(run_id)
        expect(page.locator("#live .lab-pill")).to_have_text("finished", timeout=40_000)
        page.close()


def test_an_empty_page_fills_by_itself_once_there_is_something(serve: Serve, home: Path) -> None:
    with serve(home, COUNTING, "serve") as app:
        page = app.open("iterations")
        launch(page, title='{"pause": 9}', iterations=1, **{"prompts-per_iteration": 2})
        prompts = app.open("prompts")
        expect(prompts.locator("#prompt-table")).to_contain_text("No prompts yet")
        expect(prompts.locator("#prompt-table tbody tr").first).to_contain_text("count 0", timeout=30_000)
        assert app.faults == []
