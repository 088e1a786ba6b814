"""The pieces of pages escape what is put into them."""

from markupsafe import Markup

from pages.components import (
    Column,
    address,
    card,
    empty,
    facts,
    keyword_chips,
    link,
    live_card,
    pill,
    problem,
    state_pill,
    table,
)
from synpo_lab.jobs import RunStatus

HOSTILE = "<img src=x onerror=alert(1)>\"'&"


def status(**changes: object) -> RunStatus:
    plain: dict[str, object] = {
        "run_id": "r", "recipe": "synpo", "title": "t", "state": "running", "message": "", "stage": "draft",
        "iteration": 2, "iterations": 4, "done": 30, "total": 120, "rate": 12.5, "seconds_left": 7.2,
        "run_seconds_left": None, "elapsed": 75.0, "created_at": 0.0,
    }  # fmt: skip
    return RunStatus(**(plain | changes))  # type: ignore[arg-type]


def test_every_piece_shows_hostile_text_as_text() -> None:
    pieces = [
        table([Column(HOSTILE, lambda row: row, title=HOSTILE)], [HOSTILE], caption=HOSTILE),
        card(HOSTILE, HOSTILE, note=HOSTILE),
        empty(HOSTILE, HOSTILE),
        problem(HOSTILE, HOSTILE),
        facts([(HOSTILE, HOSTILE)]),
        pill(HOSTILE, "kept", HOSTILE),
        state_pill("failed", HOSTILE),
        link("pairs", HOSTILE, run=HOSTILE),
        keyword_chips([HOSTILE], HOSTILE),
        live_card(status(title=HOSTILE, stage=HOSTILE, message=HOSTILE, state="failed"), True, {}),
    ]
    assert all(isinstance(piece, Markup) for piece in pieces)
    assert [piece for piece in pieces if "<img" in piece or 'onerror=alert(1)>"' in piece] == []


def test_an_address_is_relative_encoded_and_leaves_out_what_is_not_chosen() -> None:
    assert address("") == "./"
    assert address("pairs", run="a b&c", iteration=None, pair="x") == "./pairs?run=a+b%26c&pair=x"


def test_the_noise_keyword_is_marked_by_a_word_too() -> None:
    shown = keyword_chips(["plum", "banjo"], "banjo")
    assert shown.count("<i>noise</i>") == 1
    assert shown.index("plum") < shown.index("banjo<i>noise")


def test_two_noise_keywords_are_both_marked() -> None:
    assert keyword_chips(["a", "b", "c"], "a, c").count("<i>noise</i>") == 2


def test_the_live_card_tells_round_stage_progress_rate_and_time_left() -> None:
    shown = live_card(status(), False, {0: 0.5, 1: 0.625})
    for words in ("running", "iteration 2/4, draft", "30 of 120", "12.5/s", "7 s", "1 min 15 s", "62.5%"):
        assert words in shown
    assert '<progress max="120" value="30">' in shown
    assert "Toy model" not in shown


def test_the_live_card_says_that_a_toy_is_a_toy_and_why_a_run_failed() -> None:
    shown = live_card(status(state="failed", message="no model folder\nhint: name another"), True, {})
    assert "Toy model" in shown
    assert "hint: name another" in shown


def test_a_run_at_its_end_is_at_its_last_iteration() -> None:
    shown = live_card(status(state="finished", stage="find topics", iteration=None), False, {})
    assert "<dt>iteration</dt><dd>4 of 4</dd>" in shown
    assert "<dd>4 of 4</dd>" in live_card(status(stage="find topics", iteration=None), False, {})
    assert "<dd>0 of 4</dd>" in live_card(status(stage="", iteration=None), False, {})


def test_only_a_run_that_will_go_on_by_itself_gets_ready() -> None:
    assert "getting ready" in live_card(status(stage="", iteration=None, state="queued"), False, {})
    stopped = live_card(status(stage="", iteration=None, state="stopped"), False, {})
    assert "getting ready" not in stopped
    assert "before the first stage" in stopped


def test_a_run_of_many_rounds_has_no_ladder() -> None:
    assert "lab-ladder" in live_card(status(iterations=4), False, {})
    assert "lab-ladder" not in live_card(status(iterations=50), False, {})
