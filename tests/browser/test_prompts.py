"""Prompts by keyword, topic and place on the map, and one prompt's lineage, in a real browser."""

import csv
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Page, expect

from storage.database import Database
from storage.queries.stories import StoryQuery, stories
from storage.queries.topics import topic_results, topic_sizes
from synpo_lab.home import open_store
from synpo_lab.records import Prompt, Response, content_id
from synpo_lab.topics import write_topics
from tests.browser.conftest import App
from tests.plausible_run import write_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RUN, BARE = "pocket-20260101-1200-aaaa", "pocket-20251231-1200-bbbb"
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>\0 \u202e" + "w" * 5000
HOSTILE_ID = content_id("prompt", HOSTILE)
Serve = Callable[..., AbstractContextManager[App]]


@pytest.fixture(scope="module")
def app(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The lab over a run with topics, one of its prompts made to break a page, and an older run without any."""
    home = tmp_path_factory.mktemp("home")
    run = write_run(home, RUN, iterations=2, prompts=60)
    run.append([Prompt(2, HOSTILE_ID, HOSTILE, ["<b>", HOSTILE], "<b>", "generator", "kept", None)])
    answers = [
        Response(2, f"h{n}", HOSTILE_ID, role, "<i>M</i>", HOSTILE, 9, "stop", "{}")
        for n, role in enumerate(("initial", "draft"))
    ]  # type: ignore[arg-type]
    run.append(answers)
    write_topics(run)
    write_run(home, BARE, iterations=1, prompts=20, created_at=1_700_000_000.0)
    with serve(home, "-m", "synpo_lab.cli", "serve") as served:
        yield served


@pytest.fixture(autouse=True)
def no_faults(app: App) -> Iterator[None]:
    """No page may log an error, throw, or ask another host for anything."""
    app.faults.clear()
    yield
    assert app.faults == []


@pytest.fixture
def database(app: App) -> Iterator[Database]:
    opened = Database(open_store(app.home, read_only=True))
    yield opened
    opened.close()


def query_of(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlparse(page.url).query).items()}


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name, exact=True).click()


def test_which_prompts_came_from_a_keyword_is_one_click_from_any_prompt(app: App, database: Database) -> None:
    page = app.open("prompts")
    chip = page.locator("#prompt-table .lab-chip:not(.noise)").first
    word = chip.inner_text()
    chip.click()
    found = database.row(
        "SELECT count(*) AS n FROM prompts WHERE run_id = $run AND list_contains(keywords, $word)",
        {"run": RUN, "word": word},
    )
    assert found is not None
    expect(page.locator("#prompt-keyword input")).to_have_value(re.compile(re.escape(word)))
    expect(page.locator("#prompt-table tbody tr")).to_have_count(min(25, found["n"]))
    assert query_of(page)["keyword"] == word
    for row in page.locator("#prompt-table tbody tr").all()[:5]:
        assert word in [text.split("\n")[0] for text in row.locator(".lab-chip").all_inner_texts()]
    page.close()


def test_a_keyword_can_be_typed_and_goes_into_the_address(app: App) -> None:
    page = app.open("prompts")
    expect(page.locator("#prompt-table tbody tr").first).to_be_visible()
    box = page.locator("#prompt-keyword input")
    box.fill("banjo")
    box.press("Enter")
    page.wait_for_function("new URLSearchParams(location.search).get('keyword') === 'banjo'")
    expect(page.locator("#prompt-table tbody tr .lab-chip.noise", has_text="banjo").first).to_be_visible()
    page.close()


def test_the_prompts_that_are_shown_are_downloaded(app: App, database: Database, tmp_path: Path) -> None:
    page = app.open(f"prompts?run={RUN}&status=dropped&iteration=1")
    expect(page.locator("#prompt-table tbody tr").first).to_be_visible()
    page.get_by_role("button", name="Export what is shown").click()
    with page.expect_download() as caught:
        page.locator("#prompts-download").click()
    caught.value.save_as(tmp_path / "prompts.csv")
    with (tmp_path / "prompts.csv").open(newline="", encoding="utf-8") as file:
        ids = [row["prompt_id"] for row in csv.DictReader(file)]
    asked = {"run": RUN}
    dropped = database.rows(
        "SELECT prompt_id FROM prompts WHERE run_id = $run AND status = 'dropped' AND iteration = 1", asked
    )
    assert sorted(ids) == sorted(row["prompt_id"] for row in dropped)
    expect(page.locator("#prompts-said")).to_contain_text(f"{len(ids)} prompt")
    page.close()


def test_a_click_on_the_map_opens_that_prompt_and_on_a_topic_its_prompts(app: App, database: Database) -> None:
    page = app.open("prompts?tab=map")
    sizes = topic_sizes(database, RUN)
    expect(page.locator("#prompt-map .lab-key li")).to_have_count(len(sizes))
    point = page.locator("#prompt-map svg.lab-map a:has(use:not(.hollow))").first
    told = point.locator("title").text_content() or ""
    point.locator("use").dispatch_event("click")
    expect(page.locator("#lineage-head .lab-prompt")).to_be_visible()
    assert (page.locator("#lineage-head .lab-prompt").text_content() or "")[:40] in told
    page.go_back()
    page.locator("#prompt-map .lab-key li a").first.click()
    expect(page.locator("#prompt-topic input")).to_have_value(re.compile(re.escape(sizes[0].label)))
    total = sizes[0].prompts + sizes[0].evaluation
    expect(page.locator("#prompt-place")).to_contain_text(f"of {total:,}")
    page.close()


def test_the_tab_is_in_the_address_and_the_map_shows_one_round(app: App) -> None:
    page = app.open("prompts")
    open_tab(page, "Map")
    expect(page.locator("#prompt-map svg.lab-map")).to_be_visible()
    page.wait_for_function("new URLSearchParams(location.search).get('tab') === 'map'")
    before = page.locator("#prompt-map svg.lab-map use").count()
    page.locator("#map-round input").click()
    page.get_by_role("option", name="1", exact=True).click()
    expect(page.locator("#prompt-map svg.lab-map use.hollow")).to_have_count(0)
    assert 0 < page.locator("#prompt-map svg.lab-map use").count() < before
    page.close()


def test_which_topics_got_worse_is_on_the_topics_tab_and_leads_to_their_prompts(app: App, database: Database) -> None:
    page = app.open("prompts")
    open_tab(page, "Topics")
    worst = topic_results(database, RUN)[0]
    first = page.locator("#prompt-topics table.changes tbody tr").first
    expect(first).to_contain_text(worst.label)
    first.get_by_role("link", name="its prompts →").click()
    expect(page.locator("#lineage-list tbody tr")).to_have_count(min(12, worst.n))
    expect(page.locator("#lineage-order input")).to_have_value("got worse first")
    page.close()


def test_diversity_shows_drift_spreads_and_the_closest_to_the_evaluation_set(app: App) -> None:
    page = app.open("prompts?tab=diversity")
    expect(page.locator("#prompt-drift tbody tr")).to_have_count(2)
    for plot in ("drift", "similarity", "novelty", "overlap"):
        expect(page.locator(f"#plot-{plot} .js-plotly-plot")).to_be_visible(timeout=20_000)
        for axis in ("xtitle", "ytitle", "gtitle"):
            expect(page.locator(f"#plot-{plot} .{axis}")).not_to_be_empty()
    expect(page.locator("#prompt-closest tbody tr")).to_have_count(10)
    page.close()


def test_how_a_prompt_s_answer_evolved_is_told_policy_by_policy(app: App, database: Database) -> None:
    page = app.open("lineage")
    listed = stories(database, RUN, StoryQuery(), limit=12).rows
    expect(page.locator("#lineage-list tbody tr")).to_have_count(12)
    expect(page.locator("#lineage-head .lab-prompt")).to_have_text(listed[0]["text"])
    expect(page.locator("#lineage .lab-steps-of > li")).to_have_count(3)
    expect(page.locator("#lineage ins").first).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator("#lineage-head .lab-prompt")).to_have_text(listed[1]["text"])
    page.wait_for_function(f"new URLSearchParams(location.search).get('prompt') === '{listed[1]['prompt_id']}'")
    page.reload()
    expect(page.locator("#lineage-head .lab-prompt")).to_have_text(listed[1]["text"])
    page.locator("#lineage-previous").click()
    expect(page.locator("#lineage-head .lab-prompt")).to_have_text(listed[0]["text"])
    page.close()


def test_prompts_that_got_worse_and_written_ones_are_a_choice_away(app: App, database: Database) -> None:
    page = app.open("lineage?order=worse&kind=written")
    listed = stories(database, RUN, StoryQuery("written", "worse"), limit=1).rows
    expect(page.locator("#lineage-head .lab-prompt")).to_have_text(listed[0]["text"])
    expect(page.locator("#lineage .lab-steps-of .role")).to_have_text(["initial", "draft", "improved"])
    page.locator("#lineage a", has_text="pair →").first.click()
    expect(page.locator("#pair")).to_contain_text(listed[0]["text"][:30])
    page.close()


def test_a_hostile_prompt_does_nothing_in_the_table_on_the_map_and_in_its_lineage(app: App) -> None:
    for path in ("prompts?search=onerror", "prompts?tab=map", f"lineage?prompt={HOSTILE_ID}"):
        page = app.open(path)
        page.wait_for_timeout(1500)
        assert page.title() != "taken"
        assert page.locator("img[src='x']").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        page.close()


def test_topics_are_found_in_the_background_from_the_page(app: App) -> None:
    page = app.open(f"prompts?run={BARE}&tab=topics")
    expect(page.locator("#prompt-topics")).to_contain_text("No topics yet")
    expect(page.locator("#topics-told")).to_contain_text("no topics yet")
    page.locator("#find-topics").click()
    expect(page.locator("#topics-told")).to_contain_text("topics of", timeout=60_000)
    expect(page.locator("#prompt-topics tbody tr").first).to_be_visible()
    open_tab(page, "Map")
    expect(page.locator("#prompt-map svg.lab-map")).to_be_visible()
    page.close()


def test_the_tab_of_the_address_is_opened_even_if_the_tabs_came_late_and_never_against_the_visitor(app: App) -> None:
    page = app.open(f"prompts?run={RUN}&tab=map")
    back_to_the_first = "() => document.querySelectorAll('button[role=tab]')[0].click()"  # as when the tabs come late
    chosen = page.locator("#prompt-tabs button[role=tab][aria-selected=true]")
    expect(chosen).to_have_text("Map")
    page.evaluate(back_to_the_first)
    expect(chosen).to_have_text("Table")
    page.evaluate("labTab({map: 'Map'})")
    expect(chosen).to_have_text("Map")
    open_tab(page, "Topics")
    expect(chosen).to_have_text("Topics")
    page.evaluate("labTab({map: 'Map'})")
    expect(chosen).to_have_text("Topics")
    page.close()
