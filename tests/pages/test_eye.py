"""Trainer's eye: what it shows of a run, and of one whose policies nobody asked."""

import re
from pathlib import Path
from typing import Any

import pytest

from pages import eye
from pages.pair_address import asked_of
from pages.shell import Lab, Selection
from storage.queries import pairs_page
from storage.queries.eye import eye_counts, eye_page
from storage.queries.eye_conditions import LOOKS
from storage.state import hold_worker_lock, set_state
from synpo_lab.home import open_home, open_store
from synpo_lab.records import Pair, PairLogp
from tests.pages.conftest import RUN

HOSTILE = "<img src=x onerror=alert(1)>\0‮" + "w" * 5000


def links(html: str) -> list[tuple[dict[str, str], str]]:
    """Every link to the pairs page: its address's values and its text."""
    from html import unescape
    from urllib.parse import parse_qsl, urlsplit

    found = re.findall(r'<a href="(\./pairs[^"]*)">(.*?)</a>', html)
    return [(dict(parse_qsl(urlsplit(unescape(href)).query)), text) for href, text in found]


@pytest.mark.parametrize("kept", eye.KEPT)
def test_every_number_opens_as_many_rows_as_it_says(lab: Lab, kept: str) -> None:
    panels = eye._panels(lab, RUN, 2, kept)
    opened = [(values, text) for panel in panels if isinstance(panel, str) for values, text in links(panel)]
    assert len(opened) > 15
    for values, text in opened:
        assert values["run"] == RUN
        asked = asked_of(values)
        assert not asked.faults
        assert f"{pairs_page(lab.database, RUN, asked.query, limit=0).total:,}" in text.removesuffix(" pairs")


def test_the_answer_says_how_many_are_still_ranked_wrongly(lab: Lab) -> None:
    told = eye_counts(lab.database, RUN)[-1]
    shown = re.sub("<[^>]+>", "", eye._answer(RUN, told, "trained on", told.pairs))
    assert f"M2 still ranks {told.ranked_wrongly} pairs of {told.pairs} wrongly" in shown
    assert "became less likely" in shown or "became more likely" in shown


@pytest.mark.parametrize("kept", eye.KEPT)
def test_a_policy_asked_about_some_pairs_only_says_of_how_many(lab: Lab, kept: str) -> None:
    wanted = eye.KEPT[kept]
    told = eye_counts(lab.database, RUN, kept=wanted)[0]
    of_round = sum(one.iteration <= 1 and wanted in {None, one.kept} for one in lab.store.run(RUN).read(Pair))
    assert eye._stored(lab, RUN, told, kept) == of_round
    assert "a sample" not in eye._answer(RUN, told, kept, told.pairs)
    words = {"trained on": "trained on", "not trained on": "not trained on", "all": "stored"}[kept]
    said = f"a sample: the policy was asked about {told.pairs:,} of the 9,000 pairs {words} up to round 1"
    assert said in eye._answer(RUN, told, kept, 9_000)


def test_a_policy_that_pushes_the_chosen_answer_down_is_told_so(lab: Lab) -> None:
    from dataclasses import replace

    told = eye_counts(lab.database, RUN)[-1]
    assert "became less likely" in eye._health(replace(told, logp_chosen=told.logp_chosen_0 - 0.1))
    assert "became more likely" in eye._health(replace(told, logp_chosen=told.logp_chosen_0 + 0.1))


def test_points_fall_into_the_quadrants_that_are_counted(lab: Lab) -> None:
    told = eye_counts(lab.database, RUN)[-1]
    figure = eye._panels(lab, RUN, 2, "trained on")[1]
    drawn = {trace.name: len(trace.x) for trace in figure.data}
    assert drawn == {name: getattr(told, name.replace(" ", "_")) for name in drawn}
    assert sum(drawn.values()) == told.pairs
    assert all(to.startswith("./pairs?") for trace in figure.data for to in trace.customdata)


@pytest.mark.parametrize("look", LOOKS)
def test_the_table_pages_through_the_rows_of_a_look(lab: Lab, look: str) -> None:
    table, place, start, previous, following = eye._listed(lab, RUN, 2, None, look, "margin-up", 0)
    found = eye_page(lab.database, RUN, 2, kept=None, look=look, limit=eye.ROWS)
    assert table.count("<tr>") == (1 + len(found.rows) if found.rows else 0)
    assert (f"of {found.total}" in place) == bool(found.rows)
    assert (start, previous.interactive, following.interactive) == (0, False, found.total > eye.ROWS)


def test_the_address_chooses_policy_pairs_rows_and_order(lab: Lab) -> None:
    counts = eye_counts(lab.database, RUN)
    asked = {"policy": "1", "kept": "all", "look": "learned", "sort": "change"}
    assert eye._chosen(Selection(RUN, asked), counts) == (1, "all", "learned", "change")
    nonsense = {"policy": "99", "kept": "<b>", "look": "1=1", "sort": "x"}
    assert eye._chosen(Selection(RUN, nonsense), counts) == (2, "trained on", "ranked wrongly", "margin-up")


@pytest.fixture
def unseen(tmp_path: Path) -> Lab:
    """A finished run with a policy and a pair, and no log-probs."""
    run = open_store(open_home(tmp_path)).create_run("unseen", "title: x\n", {"created_at": 1.0, "iterations": 1})
    run.append([Pair(1, "p", "q", HOSTILE, "c", "r", HOSTILE, "fine", 1.0, 0.5, 0.5, 9, 4, 0.0, True, None)])
    run.mark("iteration=1/policy", {"beta": 2.0})
    (run.models / "M_1").mkdir()
    set_state(run.folder, "finished")
    return Lab(tmp_path)


def test_a_run_nobody_looked_at_offers_to_ask_its_policies(unseen: Lab) -> None:
    nothing, asking, timer = eye._nothing(unseen, "unseen")
    assert "No log-probs in this run" in nothing
    assert asking.visible
    assert not timer.active
    with hold_worker_lock(unseen.store.run("unseen").folder):
        nothing, asking, timer = eye._nothing(unseen, "unseen")
        assert "being asked" in nothing
        assert (asking.visible, timer.active) == (False, True)
    set_state(unseen.store.run("unseen").folder, "imported")
    nothing, asking, _ = eye._nothing(unseen, "unseen")
    assert "disagree?run=unseen" in nothing
    assert not asking.visible
    unseen.close()


def test_what_a_model_wrote_is_shown_as_text(unseen: Lab) -> None:
    logps = [PairLogp(1, "p", model, -1.0, -2.0, 2.0, 1.6) for model in ("M_0", "M_1")]
    open_store(unseen.home).run("unseen").append(logps)
    table: Any = eye._listed(unseen, "unseen", 1, None, "satisfied", "gap", 0)[0]
    assert "<img" not in table
    assert "&lt;img src=x onerror=alert(1)&gt;␀⟨U+202E⟩" in table
    assert len(table) < 5_000
    unseen.close()


def test_a_long_text_ends_with_an_ellipsis_and_claims_no_length(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eye, "LONGEST", 10)
    listed = eye._listed(lab, RUN, 2, None, "seen by the policy", "margin-up", 0)[0]
    assert " …</span>" in listed
    assert "in all" not in listed


def test_a_policy_of_another_loss_is_told_so(unseen: Lab) -> None:
    assert eye._other_loss(unseen, "unseen") == ""
    run = open_store(unseen.home).create_run("dpo", "simpo: {kind: dpo, betas: [0.1]}\n", {"created_at": 1.0})
    assert "trained by DPO" in eye._other_loss(unseen, run.run_id)
    unseen.close()
