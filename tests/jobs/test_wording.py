from dataclasses import replace

import pytest

from synpo_lab.jobs import RunStatus
from synpo_lab.jobs.wording import duration, pace, stage_name


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_a_duration_is_said_as_people_say_it(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_stage_is_named_with_its_iteration_when_it_has_one() -> None:
    assert stage_name("draft", 2, 4) == "iteration 2/4, draft"
    assert stage_name("draft", 2) == "iteration 2, draft"
    assert stage_name("train generator", 0, 4) == "train generator"
    assert stage_name("", None) == ""


def test_the_pace_says_what_is_known_and_nothing_else() -> None:
    known = RunStatus("a", "synpo", "", "running", "", "draft", 3, 4, 1200, 5000, 40.0, 95.0, 600.0, 1.0, 1.0)
    assert pace(known) == "1,200/5,000, 40/s, 1 min 35 s left, run: 10 min 00 s left"
    assert pace(replace(known, total=None, rate=None, seconds_left=None, run_seconds_left=None)) == "1,200"
    assert pace(replace(known, done=None)) == ""
