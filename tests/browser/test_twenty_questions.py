"""Twenty questions a researcher asks of a run, each answered in at most five clicks from the Overview.

A click is a click or a value given to one widget. What the page says is held against the store.
"""

import json
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Locator, Page, expect

from storage.database import Database
from storage.state import hold_worker_lock, set_state
from synpo_lab import recipes
from synpo_lab.config import load
from synpo_lab.health import check_run
from synpo_lab.home import open_store
from synpo_lab.importing.launching import import_config
from synpo_lab.jobs.provenance import stored_config
from synpo_lab.records import Note, Pair
from synpo_lab.run import Run
from synpo_lab.topics import write_topics
from tests.browser.conftest import App
from tests.plausible_run import write_run

pytestmark = [pytest.mark.browser, pytest.mark.slow]

REAL = Path(__file__).parents[3] / "shared" / "data" / "alpaca_eval"
SIMPO, JUDGED = "simpo", "judged"
BEFORE_AND_AFTER = ("Meta-Llama-3-8B-Instruct", "Llama-3-Instruct-8B-SimPO")
A, B, LIVE = "pocket-20260101-1200-aaaa", "pocket-20251231-1200-bbbb", "pocket-20251230-1200-cccc"
CLICKS = 5
Serve = Callable[..., AbstractContextManager[App]]


@pytest.fixture(scope="module")
def app(serve: Serve, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The lab over a finished run with topics, a health report and verdicts, another one, and one at work."""
    home = tmp_path_factory.mktemp("home")
    run = write_run(home, A, iterations=4, prompts=80, stuck=20)
    write_topics(run)
    check_run(home, A)
    for pair in list(run.read(Pair, 4))[:9]:
        open_store(home).append_note(Note(pair.pair_id, "chosen", "", "ana", 1_767_300_000.0))
    write_run(home, B, iterations=4, prompts=60, title="another seed", created_at=1_767_200_000.0)
    live = write_run(home, LIVE, iterations=4, done=2, prompts=40, state="running", created_at=1_767_100_000.0)
    with hold_worker_lock(live.folder):
        set_state(live.folder, "running")
        with serve(home, "-m", "synpo_lab.cli", "serve") as served:
            yield served


@pytest.fixture
def database(app: App) -> Iterator[Database]:
    opened = Database(open_store(app.home, read_only=True))
    yield opened
    opened.close()


class Visitor:
    """Starts on the Overview and counts clicks."""

    def __init__(self, app: App) -> None:
        self.page: Page = app.open(f"?run={A}")
        self.clicks = 0
        expect(self.page.locator("#live")).to_contain_text(A)

    def click(self, what: "Locator | str") -> "Visitor":
        self._one_more()
        (self.page.locator(what).first if isinstance(what, str) else what.first).click()
        return self

    def go(self, name: str) -> "Visitor":
        """By the navigation."""
        self.click(self.page.get_by_role("navigation").get_by_role("link", name=name, exact=True))
        self.page.wait_for_load_state()
        self.page.locator("h1").wait_for()
        return self

    def tab(self, name: str) -> "Visitor":
        return self.click(self.page.get_by_role("tab", name=name, exact=True))

    def give(self, field: str, text: str) -> "Visitor":
        self._one_more()
        box = self.page.locator(f"{field} input, {field} textarea").first
        box.fill(text)
        box.press("Enter")
        return self

    def _one_more(self) -> None:
        self.clicks += 1
        assert self.clicks <= CLICKS, "too many clicks"


@pytest.fixture
def visitor(app: App) -> Iterator[Visitor]:
    app.faults.clear()
    one = Visitor(app)
    yield one
    one.page.close()
    assert app.faults == []


def shown(visitor: Visitor, where: str) -> Locator:
    return visitor.page.locator(where)


def number(database: Database, sql: str, **parameters: object) -> int:
    found = database.row(sql, {"run": A, **parameters})
    assert found is not None
    return int(next(iter(found.values())))


def test_1_is_a_run_going_how_far_when_done(visitor: Visitor) -> None:
    visitor.give("#run-picker", LIVE)
    live = shown(visitor, "#live")
    expect(live.locator(".lab-pill")).to_have_text("running")
    expect(live).to_contain_text("of 4")
    expect(live).to_contain_text("run left")


def test_2_which_prompts_came_from_a_keyword(visitor: Visitor, database: Database) -> None:
    visitor.go("Prompts")
    chip = shown(visitor, "#prompt-table .lab-chip:not(.noise)").first
    word = chip.inner_text()
    visitor.click(chip)
    sql = "SELECT count(*) FROM prompts WHERE run_id = $run AND list_contains(keywords, $word)"
    expect(shown(visitor, "#prompt-table tbody tr")).to_have_count(min(25, number(database, sql, word=word)))
    expect(shown(visitor, "#prompt-keyword input")).to_have_value(re.compile(re.escape(word)))


def test_3_which_pairs_did_the_filter_drop_for_repetition(visitor: Visitor, database: Database) -> None:
    visitor.go("Filter").click(shown(visitor, "#waterfall").get_by_text("repetition", exact=True))
    visitor.page.wait_for_url("**/pairs?**")
    dropped = "run_id = $run AND NOT kept AND gap > 0.1 AND repetition > 0.5"
    found = number(database, f"SELECT count(*) FROM pairs WHERE {dropped}")
    assert found
    expect(shown(visitor, "#pair-place")).to_contain_text(f"1 of {found:,}")
    ids = {row["pair_id"] for row in database.rows(f"SELECT pair_id FROM pairs WHERE {dropped}", {"run": A})}
    assert shown(visitor, "#pair .lab-pair-head .lab-id").inner_text() in ids


def test_4_what_would_a_gap_of_0_3_keep_per_iteration(visitor: Visitor, database: Database) -> None:
    visitor.go("Filter").give("#cut", "0.3")
    sql = "SELECT count(*) FROM pairs WHERE run_id = $run AND iteration = $t AND gap > 0.3 AND repetition <= 0.5"
    rows = shown(visitor, "#cut-counts tbody tr")
    for t in range(1, 5):
        expect(rows.nth(t - 1).get_by_text(str(number(database, sql, t=t)), exact=True).first).to_be_visible()


def test_5_which_rows_change_between_two_cuts(visitor: Visitor, database: Database) -> None:
    visitor.go("Filter").give("#cut", "0.15")  # the run's own cut is 0.1
    expect(shown(visitor, "#cut-summary")).to_contain_text("0.150")
    visitor.give("#filter-baseline", "this filter, as it is now")
    expect(shown(visitor, "#cut-summary")).to_contain_text("Against the filter pinned: min gap 0.15")
    visitor.give("#cut", "0.3")
    sql = "SELECT count(*) FROM pairs WHERE run_id = $run AND gap > 0.15 AND gap <= 0.3 AND repetition <= 0.5"
    lost = number(database, sql)
    expect(shown(visitor, "#cut-summary")).to_contain_text(re.compile(rf"[-−–]{lost}\b"))
    expect(shown(visitor, "#cut-changed tbody tr").first).to_be_visible()


def test_6_does_keeping_more_raise_the_length_bias(visitor: Visitor, database: Database) -> None:
    visitor.go("Filter").give("#cut", "0.02")
    sql = """SELECT round(1000 * avg(CAST(len_chosen > len_rejected AS INTEGER))) FROM pairs
        WHERE run_id = $run AND gap > $cut AND repetition <= 0.5"""
    row = shown(
        visitor,
        "#filter-effects tbody tr",
    ).filter(has_text="longer")
    for cut in (0.1, 0.02):
        expect(row).to_contain_text(f"{number(database, sql, cut=cut) / 10:.1f}%")


def test_7_one_pairs_exact_sampling_parameters(visitor: Visitor) -> None:
    visitor.go("Pairs").click("#pair .lab-asked summary")
    asked = shown(visitor, "#pair .lab-asked[open]").first
    expect(asked).to_contain_text("temperature")
    expect(asked).to_contain_text("0.7")
    expect(asked).to_contain_text("seed")


def test_8_what_did_the_improver_change_most_often(visitor: Visitor, database: Database) -> None:
    visitor.go("Health")
    sql = """SELECT replace(kind, 'draft edit: ', '') AS name, count(*) AS n FROM findings
        WHERE run_id = $run AND kind LIKE 'draft edit: %' GROUP BY 1 ORDER BY n DESC, name"""
    first, second, *_ = database.rows(sql, {"run": A})
    assert first["n"] > second["n"]
    lead = shown(visitor, "#health-edits p").filter(has_text="From the draft to the improved answer")
    expect(lead.locator("a")).to_have_text(first["name"])
    visitor.click(lead.locator("a"))
    visitor.page.wait_for_url("**/pairs?**finding=draft**")
    expect(shown(visitor, "#pair-place")).to_contain_text(f"1 of {first['n']}")


def test_9_where_do_scorer_and_length_disagree(visitor: Visitor, database: Database) -> None:
    visitor.go("Disagreement")
    expect(shown(visitor, "#judges-quadrants h3")).to_have_text("scorer and length")
    scorer_for_chosen = shown(visitor, "#judges-quadrants tbody tr").filter(has_text="length prefers rejected")
    visitor.click(scorer_for_chosen.locator("td a"))
    visitor.page.wait_for_url("**/pairs?**eye=**")
    sql = "SELECT count(*) FROM pairs WHERE run_id = $run AND gap > 0 AND len_chosen < len_rejected"
    found = number(database, sql)
    assert found
    expect(shown(visitor, "#pair-place")).to_contain_text(f"1 of {found:,}")


def test_10_which_topics_did_the_last_iteration_get_worse_at(visitor: Visitor, database: Database) -> None:
    visitor.go("Prompts").tab("Topics")
    sql = """SELECT label, avg(now.score_a - before.score_a) AS change
        FROM evals AS now JOIN evals AS before USING (run_id, suite, prompt_id) JOIN topics USING (run_id, prompt_id)
        WHERE run_id = $run AND suite = 'pocket' AND now.iteration = 4 AND before.iteration = 3
        GROUP BY label ORDER BY change"""
    changes = database.rows(sql, {"run": A})
    worse = [row for row in changes if row["change"] < -0.0005]
    rows = shown(visitor, "#prompt-topics table").first.locator("tbody tr")
    expect(rows).to_have_count(len(changes))
    assert worse
    for place, row in enumerate(worse):
        expect(rows.nth(place)).to_contain_text(row["label"])
        expect(rows.nth(place)).to_contain_text(f"−{-row['change']:.3f}")


def test_11_how_did_this_prompts_answer_evolve(visitor: Visitor) -> None:
    visitor.go("Prompts").click("#prompt-table a:has-text('lineage')")
    visitor.page.wait_for_url("**/lineage?**")
    story = shown(visitor, "#lineage")
    for role in ("initial", "draft", "improved"):
        expect(story).to_contain_text(role)


def test_12_are_prompts_drifting_or_repeating(visitor: Visitor, database: Database) -> None:
    visitor.go("Prompts").tab("Diversity")
    sql = """SELECT count(*) AS written, count(*) FILTER (status = 'kept') AS kept,
            count(*) FILTER (drop_reason = 'duplicate') AS repeated,
            avg(novelty) FILTER (status = 'kept') AS novelty, avg(similarity) FILTER (status = 'kept') AS alike
        FROM prompts LEFT JOIN (FROM topics WHERE run_id = $run) AS told USING (iteration, prompt_id)
        WHERE prompts.run_id = $run AND status <> 'held-out' GROUP BY iteration ORDER BY iteration"""
    rows, cells = database.rows(sql, {"run": A}), ("written", "kept", "duplicates", "similarity", "novelty")
    assert len(rows) == 4
    for place, row in enumerate(rows):
        told = shown(visitor, "#prompt-drift tbody tr").nth(place).locator("td")
        said = {name: told.nth(at).inner_text() for name, at in zip(cells, (1, 2, 3, 9, 10), strict=True)}
        numbers = [str(row["written"]), str(row["kept"]), str(row["repeated"])]
        assert list(said.values()) == [*numbers, f"{row['alike']:.3f}", f"{row['novelty']:.3f}"]


def test_13_do_any_overlap_the_evaluation_set(visitor: Visitor, database: Database) -> None:
    visitor.go("Health")
    sql = "SELECT count(*) FROM findings WHERE run_id = $run AND kind = 'evaluation overlap'"
    row = shown(visitor, "#health-summary tbody tr").filter(has_text="evaluation overlap")
    found = number(database, sql)
    expect(row.locator("td").nth(2)).to_have_text(f"{found} pairs")
    assert found
    visitor.click(row.get_by_role("link", name="pairs →"))
    expect(shown(visitor, "#pair-place")).to_contain_text(f"1 of {found}")


def test_14_which_pairs_does_the_trained_policy_still_rank_wrongly(visitor: Visitor) -> None:
    visitor.go("Trainer’s eye")
    told = shown(visitor, "#eye-answer")
    expect(told).to_contain_text("still ranks")
    wrong = re.search(r"still ranks\s+([\d,]+)", told.inner_text())
    assert wrong is not None
    visitor.click(told.locator("a"))
    visitor.page.wait_for_url("**/pairs?**eye=**")
    expect(shown(visitor, "#pair-place")).to_contain_text(f"of {wrong[1]}")


def test_15_how_often_do_i_agree_with_the_scorer(visitor: Visitor) -> None:
    visitor.go("Pairs")
    visitor.click(visitor.page.get_by_role("button", name="How often do I agree with the scorer?"))
    row = shown(visitor, "#agreement-table tbody tr").filter(has_text="ana").filter(has_text="the scorer")
    expect(row).to_contain_text("%")
    expect(shown(visitor, "#agreement-table tbody tr").filter(has_text="the label")).to_contain_text("9")


def test_16_which_beta_won_and_by_how_much(visitor: Visitor, database: Database) -> None:
    visitor.go("Iterations")
    sql = """SELECT model_a, avg(score_a) AS mean FROM evals
        WHERE run_id = $run AND suite = 'validation' AND iteration = 4 GROUP BY 1 ORDER BY mean DESC"""
    won, lost = database.rows(sql, {"run": A})
    row = shown(visitor, "#grid tbody tr").filter(has_text=re.compile("became M\\s*4"))
    expect(row).to_have_count(1)
    cells = [text.strip() for text in row.locator("td").all_inner_texts()]
    assert cells[:3] == ["4", won["model_a"].removeprefix("M_4-"), f"{won['mean']:.3f}"]
    assert cells[-1] == f"+{won['mean'] - lost['mean']:.3f}"


def test_17_what_is_in_this_parquet_and_is_it_sound(visitor: Visitor, tmp_path: Path) -> None:
    rows = [{"prompt": f"p{i}?", "chosen": "yes, of course " * (1 + i % 3), "rejected": "no"} for i in range(40)]
    pq.write_table(pa.Table.from_pylist([*rows, rows[0]]), tmp_path / "sent.parquet")
    visitor.go("Data").give("#data-path", str(tmp_path / "sent.parquet"))
    visitor.page.wait_for_timeout(400)
    visitor.click("#data-look")
    expect(shown(visitor, "#data-report")).to_contain_text("make 41 pairs")
    visitor.click("#data-import")
    row = shown(visitor, "#data-sets tbody tr").filter(has_text="sent")
    expect(row.locator(".lab-pill")).to_have_text("imported", timeout=60_000)
    visitor.click(row.get_by_role("link", name="health"))
    visitor.page.wait_for_url("**/health?**")
    told = shown(visitor, "#health-summary tbody tr")
    expect(told.filter(has_text="exact duplicate").locator("td").nth(2)).to_have_text("1 pairs", timeout=120_000)
    expect(told.filter(has_text="longer is chosen").locator("td").nth(2)).to_contain_text("100.0")


def test_18_the_kept_rows_for_trl(visitor: Visitor, database: Database, tmp_path: Path) -> None:
    visitor.go("Filter").click(visitor.page.get_by_role("button", name="Export what is shown"))
    with visitor.page.expect_download() as caught:
        visitor.click("#filter-download")
    caught.value.save_as(tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    kept = database.rows("SELECT pair_id FROM pairs WHERE run_id = $run AND kept", {"run": A})
    assert {row["pair_id"] for row in rows} == {row["pair_id"] for row in kept}


def test_19_what_did_run_b_change_against_run_a(visitor: Visitor, database: Database) -> None:
    visitor.go("Compare")
    rows = shown(visitor, "#compare-config tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.nth(0).locator("td")).to_have_text(["prompts.per_iteration", "80", "60"])
    expect(rows.nth(1).locator("td")).to_have_text(["title", '"SynPO on the pocket world"', '"another seed"'])
    sql = """SELECT avg(CASE winner WHEN 'a' THEN 1 WHEN 'tie' THEN 0.5 ELSE 0 END) AS rate FROM evals
        WHERE run_id = $run AND iteration = 4 AND suite = 'pocket'"""
    last = shown(visitor, "#compare-results tbody tr").last
    for run in (A, B):
        found = database.row(sql, {"run": run})
        assert found is not None
        expect(last).to_contain_text(f"{found['rate']:.1%}")


def test_20_how_do_i_run_exactly_this_again_without_the_page(visitor: Visitor, app: App) -> None:
    visitor.go("Iterations").click(visitor.page.get_by_role("button", name=re.compile("again", re.IGNORECASE)))
    line = shown(visitor, "#again-line .cm-content")
    expect(line).to_contain_text("synpo-lab run")
    program, verb, start, *changes = shlex.split("".join(line.locator(".cm-line").all_inner_texts()))
    assert (program, verb, set(changes[::2])) == ("synpo-lab", "run", {"--set"})
    assert load(start, changes[1::2]) == stored_config(open_store(app.home).run(A))


# The same of data that somebody brought: a model before and after SimPO, and a judge's preferences


@pytest.fixture(scope="module")
def real(app: App) -> None:
    """Llama 3 before and after SimPO on 805 real prompts, and GPT-4's preferences, beside the runs; with verdicts."""
    if not REAL.is_dir():
        pytest.skip("the AlpacaEval data is not in ../shared/data")
    bring(app.home, SIMPO, [REAL / "outputs" / f"{model}.json" for model in BEFORE_AND_AFTER])
    bring(app.home, JUDGED, [REAL / "annotations" / "OpenHermes-2.5-Mistral-7B.json"])
    store = open_store(app.home)
    for place, pair in enumerate(list(store.run(JUDGED).read(Pair))[:10]):
        verdict = "rejected" if place < 3 else "chosen"
        store.append_note(Note(pair.pair_id, verdict, "", "bea", 1_767_300_000.0))


def bring(home: Path, name: str, files: list[Path]) -> None:
    config = import_config([str(file) for file in files])
    info = {"recipe": "import", "title": name, "iterations": 1, "created_at": 1.0}
    run = open_store(home).create_run(name, config.to_yaml(), info)
    recipes.get("import")(config, Run(run, config))
    set_state(run.folder, "imported")
    check_run(home, name)


def of(visitor: Visitor, name: str) -> Visitor:
    """The visitor, having picked a data set."""
    visitor.give("#run-picker", name)
    expect(shown(visitor, "#live")).to_contain_text(name)
    return visitor


@pytest.mark.usefixtures("real")
def test_what_was_changed_most_often_in_real_answers(visitor: Visitor, database: Database) -> None:
    of(visitor, SIMPO).go("Health")
    sql = """SELECT replace(kind, 'edit: ', '') AS name, count(*) AS n FROM findings
        WHERE run_id = $run AND kind LIKE 'edit: %' GROUP BY 1 ORDER BY n DESC LIMIT 1"""
    most = database.row(sql, {"run": SIMPO})
    assert most is not None
    lead = shown(visitor, "#health-edits p").filter(has_text="Most often").first
    expect(lead.locator("a")).to_have_text(most["name"])
    visitor.click(lead.locator("a"))
    visitor.page.wait_for_url("**/pairs?**finding=edit**")
    expect(shown(visitor, "#pair-place")).to_contain_text(f"1 of {most['n']}")


@pytest.mark.usefixtures("real")
def test_where_a_real_judge_and_length_disagree(visitor: Visitor, database: Database) -> None:
    of(visitor, JUDGED).go("Disagreement")
    expect(shown(visitor, "#judges-quadrants h3")).to_have_text("scorer and length")
    visitor.click(
        shown(visitor, "#judges-quadrants tbody tr").filter(has_text="length prefers rejected").locator("td a")
    )
    sql = "SELECT count(*) FROM pairs WHERE run_id = $run AND gap > 0 AND len_chosen < len_rejected"
    expect(shown(visitor, "#pair-place")).to_contain_text(f"1 of {number(database, sql, run=JUDGED)}")


@pytest.mark.usefixtures("real")
def test_how_often_a_reader_agrees_with_a_real_judge(visitor: Visitor) -> None:
    of(visitor, JUDGED).go("Pairs")
    visitor.click(visitor.page.get_by_role("button", name="How often do I agree with the scorer?"))
    row = shown(visitor, "#agreement-table tbody tr").filter(has_text="bea").filter(has_text="the scorer")
    expect(row).to_contain_text("70.0%")


@pytest.mark.usefixtures("real")
def test_whether_real_data_is_sound(visitor: Visitor, database: Database) -> None:
    of(visitor, SIMPO).go("Health")
    kinds = ("near-duplicate prompt", "refusal", "truncated answer", "identical sides")
    sql = "SELECT count(*) FROM findings WHERE run_id = $run AND kind = $kind"
    for kind in kinds:
        row = shown(visitor, "#health-summary tbody tr").filter(has_text=kind).first
        found = number(database, sql, run=SIMPO, kind=kind)
        assert found
        expect(row.locator("td").nth(2)).to_have_text(f"{found} pairs")
    visitor.click(row.get_by_role("link", name="pairs →"))
    expect(shown(visitor, "#pair-place")).to_contain_text(f"1 of {found}")


@pytest.mark.usefixtures("real")
def test_real_data_is_filtered_and_what_is_kept_goes_to_trl(
    visitor: Visitor, database: Database, tmp_path: Path
) -> None:
    of(visitor, JUDGED).go("Filter").give("#cut", "0.5")
    pairs = number(database, "SELECT count(*) FROM pairs WHERE run_id = $run", run=JUDGED)
    ids = {
        row["pair_id"] for row in database.rows(f"SELECT pair_id FROM pairs WHERE run_id = '{JUDGED}' AND gap > 0.5")
    }
    expect(shown(visitor, "#cut-summary")).to_contain_text(f"{len(ids)} of {pairs}")
    visitor.click(visitor.page.get_by_role("button", name="Export what is shown"))
    with visitor.page.expect_download() as caught:
        visitor.click("#filter-download")
    caught.value.save_as(tmp_path / "rows.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert {row["pair_id"] for row in rows} == ids
    assert all({"prompt", "chosen", "rejected"} <= row.keys() for row in rows)


@pytest.mark.usefixtures("real")
def test_real_data_is_asked_in_sql(visitor: Visitor, database: Database) -> None:
    of(visitor, SIMPO).go("SQL")
    expect(shown(visitor, "#sql-result thead")).to_be_visible()
    sql = "SELECT count(*) AS n FROM pairs WHERE run_id = {} AND len_chosen > len_rejected"
    found = number(database, sql.format("$run"), run=SIMPO)
    visitor.click("#sql-editor .cm-content")
    visitor.page.keyboard.press("Control+A")
    visitor.page.keyboard.insert_text(sql.format(f"'{SIMPO}'"))
    visitor.page.keyboard.press("Control+Enter")
    expect(shown(visitor, "#sql-result tbody td")).to_have_text([str(found)])


@pytest.mark.usefixtures("real")
def test_a_real_prompts_answers_are_on_its_lineage(visitor: Visitor) -> None:
    of(visitor, SIMPO).go("Prompts").click("#prompt-table a:has-text('lineage')")
    visitor.page.wait_for_url("**/lineage?**")
    expect(shown(visitor, "#lineage .lab-steps-of > li")).to_have_count(2)
    for model in BEFORE_AND_AFTER:
        expect(shown(visitor, "#lineage")).to_contain_text(model)
