"""Times are worked by hand: events at 0, 10, 20, ... seconds."""

from typing import Any

import pytest

from synpo_lab.jobs.timeline import Timeline


def event(at: float, stage: str, message: str = "", **fields: Any) -> dict[str, Any]:
    return {"at": at, "stage": stage, "message": message, "iteration": None, "done": None, "total": None} | fields


def stage(name: str, iteration: int, start: float, seconds: float, total: int = 10) -> list[dict[str, Any]]:
    return [
        event(start, name, "started", iteration=iteration, done=0, total=total),
        event(start + seconds, name, "finished in x s", iteration=iteration, done=total, total=total),
    ]


def digested(*events: dict[str, Any]) -> Timeline:
    timeline = Timeline()
    timeline.feed(events)
    return timeline


def test_a_run_without_events_claims_nothing() -> None:
    timeline = digested()
    assert (timeline.stage, timeline.rate, timeline.stage_seconds_left, timeline.run_seconds_left(4)) == (
        "",
        None,
        None,
        None,
    )


def test_the_rate_and_the_time_left_are_of_the_present_stage() -> None:
    timeline = digested(
        *stage("draft", 1, 0, 10),
        event(20, "improve", "started", iteration=1, done=0, total=100),
        event(25, "improve", iteration=1, done=10, total=100),
        event(30, "improve", iteration=1, done=20, total=100),
    )
    assert timeline.rate == 2.0
    assert timeline.stage_seconds_left == 40.0


def test_loading_a_model_and_leaping_to_a_checkpoint_are_no_part_of_the_rate() -> None:
    timeline = digested(
        event(0, "train policy", "started", iteration=1, done=0, total=100),
        event(30, "train policy", iteration=1, done=80, total=100),
        event(35, "train policy", iteration=1, done=90, total=100),
    )
    assert timeline.rate == 2.0
    assert timeline.stage_seconds_left == 5.0


def test_what_an_earlier_attempt_did_is_no_part_of_the_rate() -> None:
    timeline = digested(
        event(0, "draft", "started", iteration=1, done=90, total=100),
        event(5, "draft", iteration=1, done=92, total=100),
        event(8, "draft", iteration=1, done=95, total=100),
    )
    assert timeline.rate == 1.0


def test_time_between_an_interruption_and_a_resume_is_no_work() -> None:
    timeline = digested(event(0, "run", "started"), event(10, "log"), event(1000, "run", "started"), event(1005, "log"))
    assert timeline.elapsed == 15.0


def test_a_plain_message_does_not_hide_the_stage() -> None:
    timeline = digested(event(0, "draft", "started", iteration=2, done=0, total=5), event(1, "log", "a word"))
    assert (timeline.stage, timeline.iteration) == ("draft", 2)


@pytest.mark.parametrize("iterations_done", [0, 1])
def test_the_whole_run_is_not_estimated_before_two_iterations_are_complete(iterations_done: int) -> None:
    events = [e for t in range(1, iterations_done + 1) for e in stage("train", t, 100 * t, 10)]
    present = iterations_done + 1
    events += [
        event(500, "train", "started", iteration=present, done=0, total=10),
        event(505, "train", iteration=present, done=5, total=10),
    ]
    assert digested(*events).run_seconds_left(4) is None


def test_the_whole_run_is_estimated_by_the_growth_of_each_stage() -> None:
    """train took 10, 20 s, so 30 s in iteration 3 and 40 s in 4; judge 5 s always. At 15 s of the third training,
    15 + 5 are left of iteration 3 and 40 + 5 of iteration 4.
    """
    timeline = digested(
        *stage("train", 1, 0, 10),
        *stage("judge", 1, 10, 5),
        *stage("train", 2, 20, 20),
        *stage("judge", 2, 40, 5),
        event(50, "train", "started", iteration=3, done=0, total=10),
        event(65, "train", iteration=3, done=5, total=10),
    )
    assert timeline.run_seconds_left(4) == pytest.approx(65.0)


def test_a_stage_that_is_there_several_times_in_an_iteration_counts_as_often() -> None:
    """A grid of two: 10 + 10 s in each iteration. After the first of iteration 3, the second's 10 s are left."""
    grid = [e for t in (1, 2) for n in (0, 1) for e in stage("train", t, 100 * t + 10 * n, 10)]
    timeline = digested(*grid, *stage("train", 3, 300, 10))
    assert timeline.run_seconds_left(3) == pytest.approx(10.0)
