"""What the pages show, against the same asked of the store directly."""

import re
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import parse_qs

import pytest

from pages import charts, iterations, overview, prompt_rows, sql
from pages.launch_form import filled, launched
from pages.shell import Lab
from storage.queries import prompts_page
from storage.sandbox import QueryResult
from synpo_lab.records import Pair, Prompt
from tests.pages.conftest import RUN
from tests.pages.test_components import status as status_with
from tests.plausible_run import write_run


def records(lab: Lab, kind: type) -> list[Any]:
    return list(lab.store.run(RUN).read(kind))


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
        for gaps in ([one.gap for one in mine if one.kept], [one.gap for one in mine]):
            assert f"{fmean(gaps):+.3f}" in shown
    for row in rows:
        assert row.win_rate is not None
        assert f"{row.win_rate:.1%}" in shown


def test_the_overview_draws_all_panels_at_first_and_none_when_nothing_happens(lab: Lab) -> None:
    status = lab.run(RUN)
    panels = overview._panels(lab, status)
    assert len([draw() for _, draw in panels]) == 7
    assert [shows for shows, _ in panels] == [shows for shows, _ in overview._panels(lab, status)]


def test_only_a_run_that_did_not_end_well_is_at_a_stage() -> None:
    states = ("running", "stopped", "finished", "imported")
    told = [overview._at(status_with(state=state, stage="find topics", iteration=None)) for state in states]
    assert told == ["find topics", "find topics", "", ""]


def test_a_single_iteration_has_no_neighbours_on_its_axis() -> None:
    row = {"win_rate": 0.5, "low": 0.4, "high": 0.6, "n": 10, "ties": 0}
    figure = charts.win_rate([row | {"iteration": 0}], RUN)
    assert tuple(figure.layout.xaxis.range) == (-0.5, 0.5)
    assert charts.win_rate([row | {"iteration": t} for t in (0, 1)], RUN).layout.xaxis.range is None


def test_an_empty_home_explains_one_iteration(empty_lab: Lab) -> None:
    drawn = [draw() for _, draw in overview._panels(empty_lab, None)]
    assert "No run yet" in drawn[1]
    assert "One iteration, in five steps" in drawn[3]


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
    assert "became M<sub>2</sub>" in grid
    log = iterations._log(lab, status, lab_events(lab), 1)
    assert "M_2 is beta" in log
    assert parse_qs(re.findall(r'href="[^"]*sql\?([^"]*)"', log)[0].replace("&amp;", "&"))["run"] == [RUN]


def test_the_log_leads_to_all_events(lab: Lab) -> None:
    asked = lab.console.query(iterations.EVENTS.format(RUN))
    assert len(asked.rows) == iterations.events_page(lab.database, RUN).total


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


def test_a_long_prompt_of_an_example_claims_no_length_it_was_cut_to() -> None:
    told = overview._two_answers("x" * 600, ("rejected", "a", 0.1), ("chosen", "b", 0.9))
    assert "x …</p>" in told
    assert "in all" not in told
