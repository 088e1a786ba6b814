"""The pairs page in a real browser: keys, verdicts, blind reading, differences, Markdown and hostile texts."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Page, expect

from storage.database import Database
from storage.state import set_state
from synpo_lab.agreement import first_side
from synpo_lab.home import open_home, open_store
from synpo_lab.metrics import similarity
from synpo_lab.records import Note, Pair, content_id
from tests.browser.conftest import App
from tests.plausible_run import write_run

expect.set_options(timeout=30_000)  # a shared machine may be slow; what is waited for comes or does not
pytestmark = [pytest.mark.browser, pytest.mark.slow]

RUN, DATA = "pocket-20260101-1200-aaaa", "simpo"
REAL = Path(__file__).parents[3] / "shared" / "data" / "alpaca_eval" / "outputs"
MODELS = ("Meta-Llama-3-8B-Instruct", "Llama-3-Instruct-8B-SimPO")
HOSTILE = "h" * 16
EVIL = (
    "# Title\n\n<script>document.title='taken'</script> <img src=x onerror=\"document.title='taken'\">\n\n"
    "[press](javascript:document.title='taken') ![spy](https://example.com/spy.png) <https://example.com>\n\n"
    "| a | b |\n|---|---|\n| <b onclick=\"document.title='taken'\">1</b> | `</code><script>` |\n\n"
    "\0 \u202eevil\u202c مرحبا بالعالم 👩\u200d🚀 \ud83d " + "w" * 15_000
)
Serve = Callable[..., AbstractContextManager[App]]


def hostile_pair() -> Pair:
    messages = [{"role": "system", "content": EVIL[:200]}, {"role": "user", "content": EVIL[:200]}]
    return Pair(
        1, HOSTILE, content_id("prompt", EVIL), EVIL, "hc", "hr", EVIL, EVIL[::-1], 0.9, 0.1, 0.8, len(EVIL),
        len(EVIL), 0.0, True, None, 0.5, False, json.dumps(messages),
    )  # fmt: skip


def real_pairs() -> Iterator[Pair]:
    """A model before and after SimPO, without scores, as an import makes them."""
    before, after = (json.loads((REAL / f"{model}.json").read_text()) for model in MODELS)
    for a, b in zip(before, after, strict=True):
        prompt, chosen, rejected = a["instruction"], b["output"], a["output"]
        ids = [content_id(side, prompt) for side in ("pair", "prompt", "chosen", "rejected")]
        yield Pair(
            1, ids[0], ids[1], prompt, ids[2], ids[3], chosen, rejected, None, None, None, len(chosen), len(rejected),
            0.0, True, None, similarity(chosen, rejected),
        )  # fmt: skip


def write_home(home: Path) -> None:
    write_run(home, RUN, iterations=2, prompts=40)
    config = "recipe: import\ntitle: SimPO against its base\n"
    data = open_store(open_home(home)).create_run(
        DATA, config, {"recipe": "import", "title": "SimPO", "created_at": 1.0}
    )
    data.append([hostile_pair(), *(real_pairs() if REAL.exists() else [])])
    set_state(data.folder, "imported")


@pytest.fixture(scope="module")
def app(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    home = tmp_path_factory.mktemp("home")
    write_home(home)
    with serve(home, "-m", "synpo_lab.cli", "serve") as served:
        yield served


@pytest.fixture(autouse=True)
def no_faults(app: App) -> Iterator[None]:
    """No page may log an error, throw, or ask another host for anything."""
    app.faults.clear()
    yield
    assert app.faults == []


def shown_id(page: Page) -> str:
    return page.locator("#pair .lab-pair-head .lab-id").inner_text()


def opened(app: App, path: str, **size: int) -> Page:
    page = app.open(path, **size)
    expect(page.locator("#pair article, #pair table").first).to_be_visible()
    return page


def pressed(page: Page, key: str, then: str) -> None:
    """Press a key and wait for the place line to say so."""
    page.keyboard.press(key)
    expect(page.locator("#pair-place")).to_contain_text(then)


def notes(app: App) -> list[Note]:
    return open_store(app.home, read_only=True).notes(Note)


def said_of(app: App, pair_id: str) -> list[tuple[str, str, str]]:
    return [(note.author, note.verdict, note.text) for note in notes(app) if note.pair_id == pair_id]


# Keys


def test_keys_walk_swap_and_change_the_view_and_the_address_follows(app: App) -> None:
    page = opened(app, f"pairs?run={RUN}")
    first = shown_id(page)
    for key, place in (("j", "2 of"), ("ArrowRight", "3 of"), ("k", "2 of"), ("ArrowLeft", "1 of")):
        pressed(page, key, place)
    assert shown_id(page) == first
    page.keyboard.press("s")
    expect(page.locator("#pair [data-first]")).to_have_attribute("data-first", "chosen")
    expect(page.locator("article.lab-side").nth(1)).to_have_class(re.compile("chosen"))
    page.keyboard.press("d")
    expect(page.locator("article.initial :is(ins, del)")).to_have_count(0)
    expect(page.locator("#pair :is(article.draft, article.improved) :is(ins, del)").first).to_be_visible()
    page.keyboard.press("d")
    expect(page.locator("#pair :is(ins, del)")).to_have_count(0)
    page.keyboard.press("m")
    expect(page.locator("#pair .lab-markdown").first).to_be_visible()
    page.wait_for_function("() => new URLSearchParams(location.search).get('markdown') === '1'")
    said = {name: values[0] for name, values in parse_qs(urlparse(page.url).query).items()}
    assert said == {"run": RUN, "pair": first, "swap": "1", "diff": "off", "markdown": "1"}
    page.reload()
    expect(page.locator("#pair .lab-markdown").first).to_be_visible()
    assert shown_id(page) == first
    expect(page.locator("#pair [data-first]")).to_have_attribute("data-first", "chosen")
    page.close()


def test_keys_do_nothing_while_somebody_types(app: App) -> None:
    page = opened(app, f"pairs?run={RUN}")
    before = len(notes(app))
    page.locator("#verdict-note textarea, #verdict-note input").first.focus()
    page.keyboard.type("just 1 text b")
    page.keyboard.press("ArrowLeft")
    page.wait_for_timeout(600)
    expect(page.locator("#pair-place")).to_contain_text("1 of")
    assert not page.locator("#pair-blind input").is_checked()
    page.locator("#pair-search textarea, #pair-search input").first.fill("xjjx2")
    expect(page.locator("#pair")).to_contain_text("No pair passes these filters")
    # No verdict; the note itself is stored, as its pair was left.
    assert [(note.verdict, note.text) for note in notes(app)[before:]] == [("", "just 1 text b")]
    page.close()


def test_the_keys_are_told_and_the_list_opens_its_rows(app: App) -> None:
    page = opened(app, f"pairs?run={RUN}")
    page.keyboard.press("?")
    expect(page.locator("#pair-keys")).to_be_visible()
    page.keyboard.press("j")
    page.keyboard.press("Escape")
    expect(page.locator("#pair-keys")).not_to_be_visible()
    expect(page.locator("#pair-place")).to_contain_text("1 of")
    pressed(page, "l", "1 to 20 of")
    assert page.locator("#pair tbody tr").count() == 20
    pressed(page, "j", "21 to 40 of")
    row = page.locator("#pair tbody tr").nth(4).locator("a[data-pair]").first
    wanted = row.get_attribute("data-pair")
    row.click()
    expect(page.locator("#pair-place")).to_contain_text("25 of")
    assert shown_id(page) == wanted
    page.wait_for_function("id => new URLSearchParams(location.search).get('pair') === id", arg=wanted)
    pressed(page, "j", "26 of")
    page.close()


# Verdicts


def test_a_verdict_outlives_the_page_and_the_server(serve: Serve, app: App, tmp_path: Path) -> None:
    write_run(tmp_path, RUN, iterations=1, prompts=20)
    with serve(tmp_path, "-m", "synpo_lab.cli", "serve") as here:
        page = opened(here, "pairs")
        pair_id = shown_id(page)
        page.locator("#verdict-author textarea, #verdict-author input").first.fill("Ana")
        page.locator("#verdict-note textarea, #verdict-note input").first.fill("clear & <b>short</b>")
        page.locator("#pair .lab-prompt").click()
        page.keyboard.press("c")
        expect(page.locator(".lab-notes")).to_contain_text("Ana: the chosen answer is better")
        expect(page.locator(".lab-notes")).to_contain_text("clear & <b>short</b>")
        expect(page.locator("button#verdict-second")).to_have_class(re.compile("primary"))
        assert said_of(here, pair_id) == [("Ana", "chosen", "clear & <b>short</b>")]
        page.reload()
        expect(page.locator(".lab-notes")).to_contain_text("Ana: the chosen answer is better")
        expect(page.locator("#verdict-author textarea, #verdict-author input").first).to_have_value("Ana")
        expect(page.locator("button#verdict-second")).to_have_class(re.compile("primary"))
        page.keyboard.press("r")
        expect(page.locator(".lab-notes")).to_contain_text("the rejected answer is better")
        page.keyboard.press("u")
        expect(page.locator(".lab-notes")).not_to_contain_text("is better")
        expect(page.locator(".lab-notes")).to_contain_text("Ana: clear & <b>short</b>")
        page.keyboard.press("x")
        expect(page.locator(".lab-notes")).to_contain_text("a bad pair")
        assert [verdict for _, verdict, _ in said_of(here, pair_id)] == ["chosen", "rejected", "", "bad"]
        page.close()
        assert here.faults == []
    with serve(tmp_path, "-m", "synpo_lab.cli", "serve") as again:
        page = opened(again, f"pairs?pair={pair_id}")
        expect(page.locator(".lab-notes")).to_contain_text("Ana: a bad pair")
        page.goto(f"{again.address}/pairs?verdict=bad")
        expect(page.locator("#pair-place")).to_contain_text("1 of 1")
        page.close()
        assert again.faults == []


def test_a_note_being_written_is_not_lost(app: App) -> None:
    page = opened(app, f"pairs?run={RUN}&sort=similarity")
    note = page.locator("#verdict-note textarea, #verdict-note input").first
    page.locator("#verdict-author textarea, #verdict-author input").first.fill("Cy")
    first = shown_id(page)
    note.fill("half a note")
    page.locator("#pair .lab-prompt").click()
    for key, told in (("m", "markdown=1"), ("s", "swap=1"), ("d", "diff=draft")):
        page.keyboard.press(key)
        page.wait_for_function("told => location.search.includes(told)", arg=told)
        expect(note).to_have_value("half a note")
    pressed(page, "l", "1 to 20 of")
    page.keyboard.press("l")
    expect(note).to_have_value("half a note")
    for key in "jbj":  # a mode asked for while a step is being answered is not an answer to the pair before
        page.keyboard.press(key)
    expect(page.locator("#pair-place")).to_contain_text("3 of")
    expect(note).to_have_value("")
    page.wait_for_timeout(600)
    expect(page.locator("#pair-place")).to_contain_text("3 of")
    assert [text for _, _, text in said_of(app, first)][-1] == "half a note"
    third = page.evaluate("() => new URLSearchParams(location.search).get('pair')")
    note.fill("said with a verdict")
    page.locator("#pair .lab-prompt").click()
    for key in "tkk":
        page.keyboard.press(key)
    expect(page.locator("#pair-place")).to_contain_text("1 of")
    expect(note).to_have_value("half a note")
    assert said_of(app, third) == [("Cy", "tie", "said with a verdict")]
    page.close()


def test_agreement_with_the_scorer_is_told_and_notes_are_saved(app: App, tmp_path: Path) -> None:
    page = opened(app, f"pairs?run={RUN}")
    page.locator("#verdict-author textarea, #verdict-author input").first.fill("Bo")
    page.locator("#pair .lab-prompt").click()
    ids = []
    for key, place in (("c", "2 of"), ("c", "3 of"), ("r", "4 of")):
        ids.append(shown_id(page))
        page.keyboard.press(key)
        expect(page.locator(".lab-notes")).to_contain_text("Bo")
        pressed(page, "j", place)
    page.get_by_text("How often do I agree with the scorer?").click()
    scorer = page.locator("#agreement-table tr", has_text="the scorer").filter(has_text="Bo")
    expect(scorer).to_contain_text("Bo (you)")
    expect(scorer.locator("td").nth(2)).to_have_text("3")
    expect(scorer.locator("td").nth(4)).to_have_text("66.7%")
    expect(scorer.locator("td").nth(5)).to_have_text("20.8% to 93.9%")
    with page.expect_download() as saved:
        page.locator("#notes-csv").click()
    path = tmp_path / "notes.csv"
    saved.value.save_as(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = {row["pair_id"]: row["verdict"] for row in csv.DictReader(file) if row["author"] == "Bo"}
    assert rows == dict(zip(ids, ("chosen", "chosen", "rejected"), strict=True))
    page.close()


def test_blind_reading_hides_the_sides_until_a_verdict_is_given(app: App) -> None:
    page = opened(app, f"pairs?run={RUN}&blind=1&sort=shuffled")
    text = page.locator("#pair").inner_text()
    for told in ("improved", "initial", "draft", "rejected", "chosen", "gap", "M_0", "R_1"):
        assert told not in text
    expect(page.locator("article.lab-side")).to_have_count(2)
    expect(page.locator("button#verdict-first")).to_contain_text("answer 1 is better")
    page.keyboard.press("c")  # says nothing here
    page.keyboard.press("2")
    expect(page.locator("#pair .lab-line").first).to_contain_text("gap")
    pair_id = shown_id(page)
    second = "rejected" if first_side(pair_id) == "chosen" else "chosen"
    assert said_of(app, pair_id)[-1][1] == second
    expect(page.locator("article.lab-side").nth(1)).to_have_class(re.compile(second))
    pressed(page, "j", "2 of")
    expect(page.locator("#pair .lab-pair-head")).to_contain_text("comes with your verdict")
    page.close()


# What is shown


def test_differences_are_told_apart_without_colour_and_sides_scroll_together(app: App) -> None:
    if not REAL.exists():
        pytest.skip("the real AlpacaEval outputs are not here (../shared/data)")
    page = opened(app, f"pairs?run={DATA}&sort=length-change-up")
    marks = page.evaluate(
        """() => ['ins', 'del'].map((tag) => {
            const one = document.querySelector(`#pair ${tag}`);
            return [getComputedStyle(one).textDecorationLine, getComputedStyle(one, '::before').content];
        })"""
    )
    assert marks == [["underline", '"+"'], ["line-through", '"−"']]
    sides = page.locator(".lab-sides")
    heights = {round(box["height"]) for side in sides.locator("article").all() if (box := side.bounding_box())}
    assert len(heights) == 1
    before = [side.bounding_box()["y"] for side in sides.locator("article").all()]  # type: ignore[index]
    sides.evaluate("(box) => { box.scrollTop = 300; }")
    after = [side.bounding_box()["y"] for side in sides.locator("article").all()]  # type: ignore[index]
    assert [round(b - a) for b, a in zip(before, after, strict=True)] == [300, 300]
    scrolling = sides.evaluate(
        "(box) => [...box.querySelectorAll('article, .lab-text')].map((one) => getComputedStyle(one).overflowY)"
    )
    assert set(scrolling) == {"visible"}
    page.keyboard.press("m")
    expect(page.locator("#pair .lab-markdown :is(li, strong)").first).to_be_visible()
    page.close()


def test_real_pairs_are_found_by_search_and_by_what_tells_most(app: App) -> None:
    if not REAL.exists():
        pytest.skip("the real AlpacaEval outputs are not here (../shared/data)")
    page = opened(app, f"pairs?run={DATA}&search=Broadway")
    with_it = sum("broadway" in (one.prompt + one.chosen + one.rejected).lower() for one in real_pairs())
    expect(page.locator("#pair-place")).to_contain_text(f"1 of {with_it}")
    page.goto(f"{app.address}/pairs?run={DATA}&sort=telling&view=list")
    expect(page.locator("#pair tbody tr")).to_have_count(20)
    expect(page.locator("#pair tbody")).to_contain_text("characters longer")
    page.close()


def test_what_was_sent_is_one_click_away(app: App) -> None:
    page = opened(app, f"pairs?run={RUN}")
    improved = page.locator("article.improved details")
    improved.locator("summary").click()
    expect(improved.locator("pre")).to_contain_text("better answer:<bot>")
    for name in ("model", "temperature", "seed", "max_new_tokens"):
        expect(improved.locator("dt", has_text=name).first).to_be_visible()
    page.close()


@pytest.mark.parametrize("modes", ["", "&markdown=1", "&diff=off", "&blind=1&markdown=1", "&view=list"])
def test_hostile_texts_are_read_and_nothing_else(app: App, modes: str) -> None:
    page = opened(app, f"pairs?pair={HOSTILE}{modes}", width=390, height=844)
    page.wait_for_timeout(800)
    assert page.title() != "taken"
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    inside = page.locator("#pair")
    for tag in ("script", "img", "iframe", "[onclick]", "[onerror]", "a[href^='javascript']", "a[href^='http']"):
        assert inside.locator(tag).count() == 0
    expect(inside).to_contain_text("onerror=")
    page.close()


def test_hostile_texts_keep_their_signs(app: App) -> None:
    page = opened(app, f"pairs?pair={HOSTILE}&markdown=1")
    chosen = page.locator("article.chosen")
    for sign in ("⟨U+202E⟩", "مرحبا بالعالم", "🚀", "picture: spy (https://example.com/spy.png)"):
        expect(chosen).to_contain_text(sign)
    expect(chosen.locator("h1")).to_have_text("Title")
    expect(page.locator(".lab-turn")).to_have_count(2)
    page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_page_fits_a_phone(app: App, theme: str) -> None:
    for path in (f"pairs?run={RUN}", f"pairs?run={RUN}&view=list", f"pairs?run={RUN}&blind=1"):
        page = opened(app, f"{path}&__theme={theme}", width=390, height=844)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path} scrolls sideways"
        page.close()


def test_an_address_that_makes_no_sense_says_so_and_shows_all(app: App) -> None:
    page = opened(app, f"pairs?run={RUN}&min_gap=wide&rules=" + '{"min_gap":0.3}')
    expect(page.locator("#pair-chips")).to_contain_text("min_gap=wide: that makes no sense")
    expect(page.locator("#pair-chips")).to_contain_text("kept by the rules: min gap 0.3")
    database = Database(open_store(app.home, read_only=True))
    kept = database.row(
        "SELECT count(*) AS n FROM pairs WHERE run_id = $run AND gap > 0.3 AND repetition <= 0.5", {"run": RUN}
    )
    database.close()
    assert kept is not None
    expect(page.locator("#pair-place")).to_contain_text(f"1 of {kept['n']}")
    page.locator("#pair-chips a").first.click()
    expect(page.locator("#pair-place")).not_to_contain_text(f"1 of {kept['n']} ")
    page.close()
