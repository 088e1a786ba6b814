"""What the pages show, against the same asked of the store directly."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pages import iterations, overview, pairs, prompt_rows, sql, thresholds
from pages.launch_form import filled, launched
from pages.shell import Lab
from storage.queries import PairFilter, PairQuery, neighbours, pair_at, pairs_page, prompts_page
from storage.sandbox import QueryResult
from synpo_lab.home import open_home, open_store
from synpo_lab.records import Pair, Prompt, content_id
from tests.pages.conftest import RUN
from tests.plausible_run import write_run

HOSTILE = "<script>alert('x')</script>\0 \u202egnp.exe " + "long " * 2000


def records(lab: Lab, kind: type) -> list[Any]:
    return list(lab.store.run(RUN).read(kind))


@pytest.fixture
def hostile_lab(tmp_path: Path) -> Lab:
    """A run whose only pair has texts made to break a page, imported: it has no responses."""
    store = open_store(open_home(tmp_path))
    run = store.create_run("hostile", "title: <b>x</b>\n", {"recipe": "import", "title": "<b>x</b>", "created_at": 1.0})
    prompt_id = content_id("prompt", HOSTILE)
    run.append([Prompt(1, prompt_id, HOSTILE, ["<i>k</i>"], "<i>k</i>", "generator", "kept", None)])
    run.append([Pair(1, "p" * 16, prompt_id, HOSTILE, "c", "r", HOSTILE, "fine", 1.0, 0.5, 0.5, 9, 4, 0.0, True, None)])
    return Lab(tmp_path)


# Overview


def test_the_overview_tells_the_numbers_of_the_store(lab: Lab) -> None:
    status = lab.run(RUN)
    assert status is not None
    rows = lab.overview(status)
    shown = overview._results(lab, RUN, rows)
    made = records(lab, Pair)
    for t in (1, 2):
        mine = [one for one in made if one.iteration == t]
        assert f"{sum(one.kept for one in mine)} of {len(mine)}" in shown
    for row in rows:
        assert row.win_rate is not None
        assert f"{row.win_rate:.1%}" in shown


def test_the_overview_draws_all_panels_at_first_and_none_when_nothing_happens(lab: Lab) -> None:
    status = lab.run(RUN)
    panels = overview._panels(lab, status)
    assert len([draw() for _, draw in panels]) == 6
    assert [shows for shows, _ in panels] == [shows for shows, _ in overview._panels(lab, status)]


def test_an_empty_home_explains_one_iteration(empty_lab: Lab) -> None:
    drawn = [draw() for _, draw in overview._panels(empty_lab, None)]
    assert "No run yet" in drawn[0]
    assert "One iteration, in five steps" in drawn[2]


def test_before_any_evaluation_the_overview_shows_pairs(tmp_path: Path) -> None:
    write_run(tmp_path, "r", iterations=1, prompts=20)
    lab = Lab(tmp_path)
    shown = overview._examples(overview._before_after(lab, "r", []))
    assert "What it will train on" in shown
    assert "<ins>" in shown
    lab.close()


# Prompts


def test_the_prompts_page_shows_a_page_of_prompts_with_their_noise(lab: Lab) -> None:
    found = prompts_page(lab.database, RUN, status="kept", limit=5)
    shown = prompt_rows.rows_table(lab, RUN, found)
    assert shown.count("<tr>") == 1 + 5
    assert shown.count("<i>noise</i>") >= 5
    assert f"prompt={found.rows[0]['prompt_id']}" in shown


def test_the_prompts_page_counts_what_was_lost(lab: Lab) -> None:
    made = [one for one in records(lab, Prompt) if one.status != "held-out"]
    shown = re.sub("<[^>]+>", "", prompt_rows.flow(lab, RUN))
    kept = sum(one.status == "kept" for one in made)
    assert shown == f"written {len(made)}invalid −{len(made) - kept}kept {kept}"


def test_no_match_and_no_prompts_are_two_things(lab: Lab, tmp_path: Path) -> None:
    assert "Nothing matches" in prompt_rows.nothing_found(lab, RUN)
    write_run(tmp_path, "young", iterations=1, done=0, state="stopped")
    young = Lab(tmp_path)
    assert "No prompts in this run" in prompt_rows.nothing_found(young, "young")
    young.close()


# Pairs


def shown_pair(lab: Lab, run_id: str, pair_id: str | None, asked: pairs.Asked | None = None) -> list[Any]:
    return pairs._show(lab, run_id, pair_id, "rejected and chosen", asked or pairs.Asked())


def test_a_pair_shows_draft_initial_and_improved_with_scores_by_aspect(lab: Lab) -> None:
    first = pair_at(lab.database, RUN, PairQuery())
    assert first is not None
    page, place, current, before, after, *_ = shown_pair(lab, RUN, first.pair["pair_id"])
    assert list(re.findall(r"<header><b>(\w+)</b>", page)) == ["draft", "initial", "improved"]
    for aspect in ("correct", "complete", "polite", "well_formed"):
        assert page.count(f"<dt>{aspect}</dt>") == 3
    assert f"gap +{first.pair['gap']:.3f}" in page
    assert f"1 of {len(records(lab, Pair))}" in place
    assert (current, before) == (first.pair["pair_id"], None)
    assert after is not None


def test_next_and_previous_walk_through_all_pairs_of_a_filter(lab: Lab) -> None:
    asked = pairs.Asked(iteration=1, kept="kept", sort="gap-up")
    expected = [row["pair_id"] for row in pairs_page(lab.database, RUN, asked.query, sort=asked.sort, limit=1000).rows]
    walked, pair_id = [], expected[0]
    while pair_id is not None:
        walked.append(pair_id)
        pair_id = shown_pair(lab, RUN, pair_id, asked)[4]
    assert walked == expected
    assert shown_pair(lab, RUN, expected[-1], asked)[3] == expected[-2]


def test_differences_are_marked_between_the_sides_that_are_asked_for(lab: Lab) -> None:
    first = pair_at(lab.database, RUN, PairQuery())
    assert first is not None
    texts = {"draft": "a b c", "initial": "a x c", "improved": "a y c"}
    found = replace(first, answers=[replace(answer, text=texts[answer.role]) for answer in first.answers])
    columns = {name: pairs.columns_of(found, lab.config(RUN), name, 10_000) for name in ("rejected", "draft", "")}
    marked = {
        name: {side.role for side in made if re.search("<(ins|del)>", side.text)} for name, made in columns.items()
    }
    assert marked == {"rejected": {"initial", "improved"}, "draft": {"draft", "improved"}, "": set()}


def test_the_improver_s_request_is_shown_as_it_was_sent(lab: Lab) -> None:
    first = pair_at(lab.database, RUN, PairQuery())
    assert first is not None
    draft, improved = first.answer("draft"), next(a for a in first.answers if a.role == "improved")
    assert draft is not None
    made = pairs.columns_of(first, lab.config(RUN), "", 10_000)
    details = next(column.details for column in made if column.role == "improved")
    assert f"answer: {draft.text} better answer:" in details.unescape()
    assert str(improved.sampling["max_new_tokens"]) in details


def test_a_hostile_pair_is_shown_as_text(hostile_lab: Lab) -> None:
    page = shown_pair(hostile_lab, "hostile", "p" * 16)[0]
    assert "<script" not in page
    assert "␀" in page
    assert "⟨U+202E⟩" in page
    assert page.count("<article") == 2
    assert "<script" not in prompt_rows.rows_table(hostile_lab, "hostile", prompts_page(hostile_lab.database, "hostile"))
    hostile_lab.close()


def test_an_unknown_pair_and_a_filter_without_pairs_say_what_to_do(lab: Lab) -> None:
    assert "no pair nobody" in shown_pair(lab, RUN, "nobody")[0]
    assert "No pair passes these filters" in shown_pair(lab, RUN, None)[0]


def test_a_pair_stands_among_its_neighbours(lab: Lab) -> None:
    third = pair_at(lab.database, RUN, PairQuery(), position=2)
    assert third is not None
    beside = neighbours(lab.database, RUN, third.pair["pair_id"], PairQuery())
    assert beside is not None
    assert "3 of " in shown_pair(lab, RUN, third.pair["pair_id"])[1]


# Thresholds


def cut_at(lab: Lab, gap: float, iteration: int | None = None) -> list[Any]:
    return thresholds._show(lab, RUN, iteration, PairFilter(gap, 0.5))


@pytest.mark.parametrize("gap", [-1.0, 0.0, 0.1, 0.35])
def test_moving_the_cut_tells_what_a_direct_count_tells(lab: Lab, gap: float) -> None:
    made = records(lab, Pair)
    kept = sum(one.gap > gap and one.repetition <= 0.5 for one in made)
    summary, _, bars, counts, changed, _ = cut_at(lab, gap)
    assert f"<b>{kept}</b> of {len(made)} pairs are kept" in summary
    assert sum(next(bar for bar in bars.data if bar.name == "kept").y) == kept
    assert counts.count("<tr>") == 1 + 2
    moved = sum((one.gap > gap) != (one.gap > 0.1) for one in made)
    assert (f"{moved} in all" in changed) if moved else ("None: this keeps exactly" in changed)


def test_a_cut_that_keeps_nothing_says_so(lab: Lab) -> None:
    assert "This keeps nothing" in cut_at(lab, 5.0)[0]


def test_the_histogram_shows_the_cut_and_counts_every_pair(lab: Lab) -> None:
    figure = cut_at(lab, 0.35)[1]
    assert sum(figure.data[0].y) == len(records(lab, Pair))
    assert [line.x0 for line in figure.layout.shapes] == [0.1, 0.35]
    assert figure.layout.xaxis.title.text.startswith("gap = score(chosen)")


def test_the_slider_spans_all_gaps(lab: Lab) -> None:
    gaps = [one.gap for one in records(lab, Pair)]
    made = thresholds._slider(thresholds.gap_histogram(lab, RUN, PairFilter()), PairFilter(0.1), PairFilter(0.1))
    assert made.minimum <= min(gaps)
    assert made.maximum >= max(gaps)


# Iterations


def test_the_iterations_page_draws_each_beta_and_names_the_winner(lab: Lab) -> None:
    status = lab.run(RUN)
    assert status is not None
    made = iterations.variants(lab.database, RUN)
    drawn = [draw() for _, draw in iterations._panels(lab, status, made, iterations.LATEST)]
    assert len(drawn) == 1 + len(iterations.CURVES) + 2
    loss, logp = iterations._curve(lab, RUN, made[-2:], "loss"), iterations._curve(lab, RUN, made[-2:], "logp")
    assert loss.visible
    assert logp.visible
    grid = iterations._grid(iterations.grid_results(lab.database, RUN))
    assert grid.count("became M") == 2
    assert "M_2 is beta" in iterations._log(lab, status, lab_events(lab), 1)


def lab_events(lab: Lab) -> list[dict[str, Any]]:
    return iterations.events_page(lab.database, RUN, limit=500).rows


def test_a_supervised_training_has_no_rewards_to_draw(lab: Lab) -> None:
    improver = [row for row in iterations.variants(lab.database, RUN) if row["trainee"] == "improver"][:1]
    assert iterations._curve(lab, RUN, improver, "loss").visible
    assert not iterations._curve(lab, RUN, improver, "margin").visible


@pytest.mark.parametrize(
    ("state", "stop", "resume"),
    [("running", True, False), ("stopped", False, True), ("failed", False, True), ("finished", False, False)],
)
def test_buttons_that_mean_nothing_are_off(lab: Lab, state: Any, stop: bool, resume: bool) -> None:
    status = lab.run(RUN)
    assert status is not None
    made = iterations._controls(replace(status, state=state))
    assert [button.interactive for button in made] == [stop, resume]


def test_a_wrong_config_starts_nothing_and_says_what_is_wrong(empty_lab: Lab) -> None:
    run_id, said = launched(empty_lab, "recipe: synpo\niterations: 0\nseed: many\n")
    assert run_id is None
    assert "2 problems" in said
    assert "hint" in said
    assert empty_lab.runs() == []


def test_the_form_starts_from_the_selected_run_with_the_cut_of_the_thresholds_page(lab: Lab) -> None:
    _, text, *values = filled(lab, RUN, filter__min_gap=0.35)
    assert "min_gap: 0.35" in text
    assert 0.35 in values


# SQL


def test_a_result_is_a_table_of_texts(lab: Lab) -> None:
    found = QueryResult(["<b>", "n"], ["VARCHAR", "BIGINT"], [["<script>", 1], [None, 2]], 0.0123, True)
    shown = sql._table(found)
    assert "<script" not in shown
    assert "2 rows, and there are more, in 0.012 s; a download has up to 100,000 rows" in shown


def test_every_public_table_is_described(lab: Lab) -> None:
    shown = sql._schema()
    for name in ("runs", "prompts", "pairs", "evals", "train_steps", "notes"):
        assert f"<summary><b>{name}</b>" in shown
