"""Every page of the navigation, light and dark, on a screen and on a phone: what a reader may count on anywhere."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from pages.shell import PAGES
from storage import RunStore
from synpo_lab.health import check_run
from synpo_lab.home import open_store
from synpo_lab.pocket import MODEL
from synpo_lab.records import Note, Pair, PairLogp, Prompt, content_id
from synpo_lab.topics import write_topics
from tests.browser.conftest import App
from tests.plausible_run import write_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

EVIL = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
LONG = EVIL + "\0 \u202e \U0001f680 " + "w" * 5000
EVIL_PAIR = "e" * 16
EVIL_FILTER = "<img src=x onerror=alert(1)>.yaml"
RUN, OTHER = "pocket-20260101-1200-aaaa", "pocket-20251231-1200-bbbb"
LOOKS = [("light", 1440), ("light", 390), ("dark", 390), ("dark", 1440)]  # in the order that changes one at a time
FILLED = {  # what stands on a page once it is filled, and how many charts of plotly's
    "": ("#example ins", 2),
    "prompts": ("#prompt-table tbody tr", 0),
    "prompts?tab=topics": ("#prompt-topics tbody tr", 0),
    "prompts?tab=map": ("#prompt-map svg use", 0),
    "prompts?tab=diversity": ("#prompt-drift tbody tr", 4),
    "lineage": ("#lineage .lab-steps-of li", 0),
    "pairs": ("#pair article", 0),
    "pairs?view=list": ("#pair tbody tr", 0),
    "pairs?blind=1": ("#pair article", 0),
    "thresholds?max_similarity=0.6": ("#waterfall a", 1),
    "health": ("#health-cards .lab-check", 0),
    "iterations": ("#grid tbody tr", 4),
    "compare": ("#compare-config tbody tr", 2),
    "eye": ("#eye-rows tbody tr", 4),
    "disagree": ("#judges-quadrants td a", 1),
    "playground": ("#play-models", 0),
    "sql": ("#sql-result tbody tr", 0),
    "data": ("#data-path", 0),
}
CONTRAST = (Path(__file__).parent / "contrast.js").read_text()
Serve = Callable[..., AbstractContextManager[App]]


@pytest.fixture(scope="module")
def app(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The lab over a finished run with topics, a health report, verdicts and a policy's weights; and another run."""
    home = tmp_path_factory.mktemp("home")
    run = write_run(home, RUN, iterations=2, prompts=60)
    write_topics(run)
    check_run(home, RUN)
    shutil.copytree(MODEL, run.models / "M_2")
    for pair in list(run.read(Pair, 2))[:9]:
        open_store(home).append_note(Note(pair.pair_id, "chosen", "", "ana", 1_767_300_000.0))
    hostile(write_run(home, OTHER, iterations=1, prompts=20, created_at=1_700_000_000.0, title=EVIL))
    (home / "filters").mkdir(exist_ok=True)
    (home / "filters" / EVIL_FILTER).write_text("min_gap: 0.3\n")
    with serve(home, "-m", "synpo_lab.cli", "serve") as served:
        yield served


def hostile(run: RunStore) -> None:
    """What models and files wrote is made to break a page: a pair, what a policy thinks of it, and the log."""
    key = content_id("prompt", LONG)
    run.append([Prompt(1, key, LONG, ["<b>", LONG], "<b>", "generator", "kept", None)])
    run.append([Pair(1, EVIL_PAIR, key, LONG, "c", "r", LONG, LONG[::-1], 9.0, 1.0, 8.0, 1, 1, 0.0, True, None)])
    run.append([PairLogp(1, EVIL_PAIR, model, -9.0, -0.1, 10.0, 1.6) for model in ("M_0", "M_1")])
    run.event("run", LONG)
    run.event(EVIL, LONG, level="error")


@pytest.fixture(autouse=True)
def no_faults(app: App) -> Iterator[None]:
    """No page may log an error, throw, or ask another host for anything."""
    app.faults.clear()
    yield
    assert app.faults == []


def test_every_page_of_the_navigation_is_looked_at() -> None:
    assert {path.partition("?")[0] for path in FILLED} == set(PAGES)


@pytest.fixture(scope="module")
def looked_at(app: App) -> Iterator[Callable[[str], Page]]:
    """A filled page by its path; it stays open until another is asked for."""
    shown: dict[str, Page] = {}

    def look(path: str) -> Page:
        if path not in shown:
            close()
            shown[path] = filled(app, path)
        return shown[path]

    def close() -> None:
        while shown:
            shown.popitem()[1].close()

    yield look
    close()


def filled(app: App, path: str) -> Page:
    sign, charts = FILLED[path]
    page = app.open(f"{path}{'&' if '?' in path else '?'}run={RUN}&__theme=light")
    expect(page.locator(sign).first).to_be_visible()
    expect(page.locator(".js-plotly-plot .gtitle")).to_have_count(charts)
    page.add_style_tag(content="* { transition: none !important; animation: none !important }")  # colours at once
    return page


@pytest.mark.parametrize(("theme", "width"), LOOKS)
@pytest.mark.parametrize("path", FILLED)
def test_a_page_fits_names_its_axes_and_can_be_read(
    looked_at: Callable[[str], Page], path: str, theme: str, width: int
) -> None:
    page = looked_at(path)
    expect(page.locator("nav a.active")).to_have_text(PAGES[path.partition("?")[0]])
    page.set_viewport_size({"width": width, "height": 900})
    if page.evaluate("document.body.classList.contains('dark')") is not (theme == "dark"):
        page.locator("[data-theme-switch]").click()
    assert page.evaluate("document.body.classList.contains('dark')") is (theme == "dark")
    fits(page)
    assert unnamed(page) == []
    assert page.evaluate(CONTRAST) == []


def fits(page: Page) -> None:
    """Charts take a moment to follow the window."""
    page.wait_for_function("document.documentElement.scrollWidth <= innerWidth")


def unnamed(page: Page) -> list[str]:
    """The charts that lack a title or the name of an axis."""
    drawn: list[list[str]] = page.evaluate(
        """() => [
            ...[...document.querySelectorAll(".js-plotly-plot")].map((chart) =>
                ["gtitle", "xtitle", "ytitle"].map((name) => chart.querySelector("." + name)?.textContent ?? "")),
            ...[...document.querySelectorAll("figure.lab-bars")].map((chart) =>
                [chart.querySelector("figcaption"), ...chart.querySelectorAll(".axis")].map((one) => one.textContent)),
            ...[...document.querySelectorAll("figure.lab-histogram")].map((chart) =>
                [...chart.querySelectorAll("figcaption b, figcaption span, text.top")].map((one) => one.textContent)),
        ]"""
    )
    return [str(parts) for parts in drawn if len(parts) != 3 or not all(part.strip() for part in parts)]


# Keyboard


FOCUSED = """() => {
    const at = document.activeElement, style = getComputedStyle(at);
    return [
        [...(function* () { for (let up = at; up; up = up.parentElement) if (up.id) yield up.id })()],
        at.tagName.toLowerCase(),
        style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
    ];
}"""


@pytest.mark.parametrize(
    ("path", "controls"),
    [
        ("pairs", {"run-picker",  "pair-next", "pair-view", "pair-compare", "pair-markdown",
                   "pair-blind", "verdict-first", "verdict-second", "verdict-tie", "verdict-note", "agreement"}),
        ("thresholds", {"run-picker", "filter-start", "filter-baseline", "filter-reset", "waterfall", "cut",
                        "on-max-similarity", "cut-max-similarity", "where", "filter-name", "filter-save", "fork"}),
    ],
)  # fmt: skip
def test_tab_reaches_the_controls_and_shows_where_it_is(app: App, path: str, controls: set[str]) -> None:
    page = app.open(f"{path}?run={RUN}")
    expect(page.locator("#pair article, #waterfall a").first).to_be_visible()
    if path == "pairs":
        expect(page.locator("#pair-place")).to_contain_text("1 of")
    reached: set[str] = set()
    hidden: list[str] = []
    for _ in range(150):
        page.keyboard.press("Tab")
        ids, tag, is_seen = page.evaluate(FOCUSED)
        if tag == "body":
            break
        reached |= set(ids)
        if not is_seen:
            hidden.append(f"{tag} in {ids[:2]}")
        if controls <= reached:
            break
    assert controls - reached == set()
    assert hidden == []
    page.close()


# Hostile texts


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("thresholds?min_gap=7&rows=kept", "#cut-changed"),
        ("eye", "#eye-rows"),
        ("iterations", "#log"),
        ("compare", "#compare-config"),
        ("", "#runs"),
    ],
)
def test_hostile_texts_are_shown_and_nothing_else(app: App, path: str, place: str) -> None:
    other = f"run={RUN}&with={OTHER}" if path == "compare" else f"run={OTHER}"
    page = app.open(f"{path}{'&' if '?' in path else '?'}{other}", width=390, height=844)
    expect(page.locator(place)).to_contain_text("<img src=x onerror=")
    harmless(page)
    page.close()


def harmless(page: Page) -> None:
    fits(page)
    assert page.title() == "SynPO Lab"
    assert page.locator("img[src=x], [onerror], main script").count() == 0


def test_hostile_cells_column_names_and_labels_of_a_chart_are_shown(app: App) -> None:
    page = app.open("sql")
    expect(page.locator("#sql-result tbody tr").first).to_be_visible()
    page.locator("#sql-editor .cm-content").click()
    page.keyboard.press("Control+A")
    name = EVIL.replace('"', '""')
    page.keyboard.insert_text(f"SELECT prompt, gap AS \"{name}\" FROM pairs WHERE pair_id = '{EVIL_PAIR}'")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#sql-result thead")).to_contain_text("<img src=x onerror=")
    expect(page.locator("#sql-result tbody td").first).to_contain_text("<img src=x onerror=")
    page.get_by_role("button", name="Chart of the result").click()
    expect(page.locator("#sql-chart .js-plotly-plot .gtitle")).to_be_visible()
    harmless(page)
    page.close()


def test_a_hostile_name_of_a_filter_is_refused_and_such_a_file_is_not_offered(app: App) -> None:
    page = app.open(f"thresholds?run={OTHER}")
    expect(page.locator("#cut-summary")).to_contain_text("pairs are kept")
    page.locator("#filter-name input, #filter-name textarea").fill(EVIL)
    page.locator("#filter-save").click()
    expect(page.locator(".toast-body, #filter-said .lab-problem").first).to_contain_text("cannot name a filter")
    page.locator("#filter-baseline input").click()
    expect(page.get_by_role("option").first).to_be_visible()
    expect(page.get_by_role("option").filter(has_text="onerror")).to_have_count(0)
    harmless(page)
    page.close()
