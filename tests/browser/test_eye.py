"""Trainer's eye, disagreement board, playground and compare, in a real browser."""

import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from urllib.parse import parse_qs, urlparse

import psutil
import pytest
from playwright.sync_api import Page, Route, expect

from storage.database import Database
from storage.queries.comparison import paired_changes
from storage.queries.eye import EyeCount, agreement_cells, eye_counts
from synpo_lab.config import load
from synpo_lab.home import open_store
from synpo_lab.planning import plan
from synpo_lab.planning.gpus import gpu_to_plan_for
from synpo_lab.pocket import MODEL
from synpo_lab.records import Note, Pair
from tests.browser.conftest import App
from tests.plausible_run import write_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

RUN, OTHER = "pocket-20260101-1200-aaaa", "pocket-20251231-1200-bbbb"
LOADING = 180_000  # milliseconds: a model's process has to start
Serve = Callable[..., AbstractContextManager[App]]


@pytest.fixture(scope="module")
def app(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """Two made-up runs; the first has the pocket model's weights as its M_2, and a reader's verdicts."""
    home = tmp_path_factory.mktemp("home")
    run = write_run(home, RUN, iterations=2, prompts=60)
    shutil.copytree(MODEL, run.models / "M_2")
    for pair in sorted(run.read(Pair), key=lambda pair: pair.pair_id)[:10]:
        open_store(home).append_note(Note(pair.pair_id, "chosen", "", "ann", 1.0))
    write_run(home, OTHER, iterations=1, prompts=30, created_at=1_700_000_000.0, title="another")
    with serve(home, "-m", "synpo_lab.cli", "serve") as served:
        yield served


@pytest.fixture(autouse=True)
def no_faults(app: App) -> Iterator[None]:
    app.faults.clear()
    yield
    assert app.faults == []


@pytest.fixture
def database(app: App) -> Iterator[Database]:
    made = Database(open_store(app.home, read_only=True))
    yield made
    made.close()


def last(database: Database) -> EyeCount:
    return eye_counts(database, RUN)[-1]


def query_of(page: Page) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlparse(page.url).query).items()}


def test_which_pairs_the_policy_still_ranks_wrongly_is_said_and_opened(app: App, database: Database) -> None:
    page, told = app.open(f"eye?run={RUN}"), last(database)
    expect(page.locator("#eye-answer")).to_contain_text(f"{told.ranked_wrongly} pairs of {told.pairs} wrongly")
    page.locator("#eye-answer h3 a").click()
    expect(page.locator("h1")).to_have_text("Pairs")
    expect(page.locator("#pair-place")).to_contain_text(f"of {told.ranked_wrongly}")
    assert query_of(page)["eye"] == "ranked wrongly"
    assert query_of(page)["run"] == RUN
    page.close()


def test_another_policy_and_other_pairs_change_every_number_and_the_address(app: App, database: Database) -> None:
    page = app.open(f"eye?run={RUN}")
    expect(page.locator("#eye-policy input")).to_have_value("M_2")
    pick(page, "#eye-policy", "M_1")
    first = eye_counts(database, RUN)[0]
    expect(page.locator("#eye-answer")).to_contain_text(f"of {first.pairs} wrongly")
    pick(page, "#eye-kept", "not trained on")
    unseen = eye_counts(database, RUN, kept=False)[0]
    expect(page.locator("#eye-answer")).to_contain_text(f"of {unseen.pairs} wrongly")
    page.wait_for_url(re.compile("policy=1.*kept=not\\+trained\\+on"))
    page.reload()
    expect(page.locator("#eye-answer")).to_contain_text(f"of {unseen.pairs} wrongly")
    page.close()


def test_the_rows_are_sorted_and_paged(app: App, database: Database) -> None:
    page, told = app.open(f"eye?run={RUN}&look=satisfied"), last(database)
    expect(page.locator("#eye-place")).to_contain_text(f"1 to 15 of {told.satisfied}")
    first = margins(page)
    assert first == sorted(first)
    page.locator("#eye-next").click()
    expect(page.locator("#eye-place")).to_contain_text("16 to")
    assert margins(page)[0] >= first[-1]
    pick(page, "#eye-sort", "widest margin first")
    expect(page.locator("#eye-place")).to_contain_text("1 to 15")
    page.wait_for_timeout(500)
    assert margins(page) == sorted(margins(page), reverse=True)
    page.close()


def margins(page: Page) -> list[float]:
    cells = page.locator("#eye-rows tbody td[data-label=margin]").all_inner_texts()
    return [float(text.replace("−", "-")) for text in cells]


def test_a_point_of_the_plot_opens_its_pair(app: App) -> None:
    page = app.open(f"eye?run={RUN}")
    expect(page.locator("#eye-scatter .js-plotly-plot")).to_be_visible(timeout=60_000)
    page.wait_for_timeout(1_500)
    x, y, pair_id = page.evaluate(
        """() => {
            const chart = document.querySelector("#eye-scatter .js-plotly-plot"), layout = chart._fullLayout;
            const trace = chart._fullData.reduce((a, b) => (a.x.length > b.x.length ? a : b));
            const place = trace.y.indexOf(Math.max(...trace.y)), frame = chart.getBoundingClientRect();
            return [
                frame.left + layout._size.l + layout.xaxis.l2p(trace.x[place]),
                frame.top + layout._size.t + layout.yaxis.l2p(trace.y[place]),
                new URL(trace.customdata[place], location.href).searchParams.get("pair"),
            ];
        }"""
    )
    page.mouse.move(x - 4, y)
    page.mouse.move(x, y)
    page.wait_for_timeout(700)
    page.mouse.down()
    page.wait_for_timeout(120)  # a press that takes no time is no click to plotly
    page.mouse.up()
    page.wait_for_url(re.compile("/pairs"))
    assert query_of(page)["pair"] == pair_id
    page.close()


def test_where_the_scorer_and_length_disagree_opens_its_rows(app: App, database: Database) -> None:
    page = app.open(f"disagree?run={RUN}")
    cells, _ = agreement_cells(database, RUN)
    cell = next(cell for cell in cells if (cell.one, cell.other) == ("scorer", "length"))
    expect(page.locator("#judges-quadrants")).to_contain_text("scorer and length")
    expect(page.locator("#agreement table").first.locator("tbody tr")).to_have_count(len(cells))
    page.locator("#judges-quadrants tbody tr").nth(1).locator("td a").first.click()  # length prefers the rejected one
    expect(page.locator("h1")).to_have_text("Pairs")
    expect(page.locator("#pair-place")).to_contain_text(f"of {cell.first}")
    page.close()


def test_another_two_judges_are_chosen_in_the_matrix(app: App) -> None:
    page = app.open(f"disagree?run={RUN}")
    page.locator("#agreement a", has_text="label and readers").click()
    expect(page.locator("#judges-quadrants h3")).to_have_text("label and readers")
    expect(page.locator("#judges-quadrants")).to_contain_text("100.0%")
    page.close()


def test_two_models_answer_blind_and_the_vote_is_kept(app: App, database: Database) -> None:
    page = app.open(f"playground?run={RUN}")
    expect(page.locator("#play-models")).to_contain_text("M_2")
    page.locator("#play-blind input").check()
    page.locator("#play-prompt textarea").fill("name three fruits. <script>document.title='taken'</script>")
    page.locator("#play-ask").click()
    expect(page.locator("#play-answers article")).to_have_count(2, timeout=LOADING)
    expect(page.locator("#vote-a")).to_be_visible(timeout=LOADING)
    assert "M_" not in page.locator("#play-answers").inner_text()
    assert page.title() != "taken"
    page.locator("#vote-author input, #vote-author textarea").fill("Ann")
    page.locator("#vote-tie").click()
    expect(page.locator("#play-answers")).to_contain_text(re.compile("A was M_[02], B was M_[02]"))
    expect(page.locator("#play-wins tbody tr")).to_contain_text("M_0 against M_2")
    (row,) = database.rows("SELECT winner, blind, answer_a, answer_b, author FROM votes")
    assert (row["winner"], row["blind"], row["author"]) == ("tie", True, "Ann")
    assert row["answer_a"] == row["answer_b"]  # the same weights, prompt and seed
    assert len([child for child in workers() if "playground" in " ".join(child.cmdline())]) == 1
    page.goto(page.url.partition("/playground")[0] + f"/pairs?run={RUN}")
    expect(page.locator("#verdict-author input, #verdict-author textarea")).to_have_value("Ann")  # one reader's name
    page.goto(page.url.partition("/pairs")[0] + f"/playground?run={RUN}")
    page.locator("#play-prompt textarea").fill("name two fruits.")
    page.locator("#play-ask").click()
    expect(page.locator("#vote-author input, #vote-author textarea")).to_have_value("Ann", timeout=LOADING)
    page.close()


def workers() -> list[psutil.Process]:
    return psutil.Process().children(recursive=True)


def test_what_b_changed_against_a_is_told(app: App, database: Database) -> None:
    page = app.open(f"compare?run={RUN}&with={OTHER}")
    expect(page.locator("#compare-config")).to_contain_text("prompts.per_iteration")
    rows = page.locator("#compare-config tbody tr")
    expect(rows).to_have_count(3)
    expect(page.locator("#compare-results tbody tr")).to_have_count(3)
    expect(page.locator("#compare-prompts tbody tr")).to_have_count(max(1, len(paired_changes(database, RUN, OTHER))))
    page.locator("#again button").first.click()
    expect(page.locator("#again-line")).to_contain_text("synpo-lab run pocket")
    expect(page.locator("#again-yaml")).to_contain_text("recipe")
    page.close()


def test_compare_and_run_again_are_found_from_the_overview(app: App) -> None:
    page = app.open(f"?run={RUN}")
    page.locator("#runs a", has_text="compare").first.click()
    expect(page.locator("h1")).to_have_text("Compare")
    page.locator("nav a", has_text="Iterations").click()
    page.locator("#again button").first.click()
    expect(page.locator("#again-line")).to_contain_text("synpo-lab run pocket --set")
    page.close()


def test_how_often_i_agree_is_told_though_it_was_opened_before_the_page_was_filled(app: App) -> None:
    page = app.open(f"?run={RUN}")
    held: list[Route] = []
    opened: list[str] = []

    def hold(route: Route) -> None:
        route.continue_() if opened else held.append(route)

    page.route("**/queue/join**", hold)
    page.goto(f"{app.address}/pairs?run={RUN}")
    page.get_by_role("button", name="How often do I agree with the scorer?").click()
    page.wait_for_timeout(500)
    assert held
    opened.append("the accordion")
    for route in held:
        route.continue_()
    expect(page.locator("#agreement-table tbody tr").filter(has_text="the scorer")).to_contain_text("ann")
    page.close()


def test_what_a_run_will_take_is_told_before_it_starts(app: App) -> None:
    page = app.open("iterations?new=1")
    expect(page.locator("#form-iterations input")).not_to_have_value("")
    page.locator("#form-plan").click()
    said = page.locator("#form-status")
    expect(said).to_contain_text(plan(load("pocket"), gpu_to_plan_for()[0]).line)
    page.locator("#form-iterations input").fill("0")
    expect(said).to_contain_text("iterations:")
    page.locator("#form-plan").click()
    page.wait_for_timeout(1_000)
    expect(said).to_contain_text("hint")
    page.close()


def pick(page: Page, dropdown: str, choice: str) -> None:
    page.locator(f"{dropdown} input").click()
    page.get_by_role("option", name=choice, exact=True).click()
