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


def test_the_whole_run_is_not_estimated_before_an_iteration_is_complete() -> None:
    timeline = digested(
        event(500, "train", "started", iteration=1, done=0, total=10),
        event(505, "train", iteration=1, done=5, total=10),
    )
    assert timeline.run_seconds_left(4) is None


def test_the_whole_run_is_estimated_by_the_growth_of_what_each_stage_is_given() -> None:
    """train: 10, 20, 30 steps at 1 s, so 40 in iteration 4; judge 10 answers in 5 s always. Ten steps of the third
    training were done at 1 s each from the first progress on: 10 + 5 s are left of iteration 3, 40 + 5 of iteration 4.
    """
    timeline = digested(
        *stage("train", 1, 0, 10, total=10),
        *stage("judge", 1, 10, 5),
        *stage("train", 2, 20, 20, total=20),
        *stage("judge", 2, 40, 5),
        event(50, "train", "started", iteration=3, done=0, total=30),
        event(60, "train", iteration=3, done=10, total=30),
        event(70, "train", iteration=3, done=20, total=30),
    )
    assert timeline.run_seconds_left(4) == pytest.approx(10 + 5 + 40 + 5)


def test_a_machine_that_was_busy_once_does_not_read_as_growth() -> None:
    """10 answers took 10 s, then 50 s: 3 s each on the whole, so 60 s for iterations 3 and 4, not 90 + 130."""
    timeline = digested(*stage("draft", 1, 0, 10), *stage("draft", 2, 10, 50), *stage("judge", 3, 70, 1))
    assert timeline.run_seconds_left(4) == pytest.approx(60.0)


def test_the_second_iteration_is_estimated_once_most_of_its_work_has_begun() -> None:
    """20 steps after 10, so 30 in iteration 3. The other training of the grid grows like the one that has begun."""
    first = [*stage("draft", 1, 0, 5), *stage("train policy a", 1, 10, 10), *stage("train policy b", 1, 20, 10)]
    drafted = [*first, *stage("draft", 2, 30, 5)]
    assert digested(*drafted).run_seconds_left(3) is None
    trained = [*drafted, *stage("train policy a", 2, 40, 20, total=20)]
    assert digested(*trained).run_seconds_left(3) == pytest.approx(20 + 5 + 30 + 30)


def test_what_a_fork_has_taken_over_is_no_measure_of_what_is_left() -> None:
    """Its parent's iterations leave it only pairs to look at."""
    timeline = digested(
        *stage("look at pairs with M_0", 1, 0, 1),
        *stage("look at pairs with M_0", 2, 1, 1),
        event(10, "train", "started", iteration=3, done=0, total=100),
        event(20, "train", iteration=3, done=10, total=100),
        event(30, "train", iteration=3, done=20, total=100),
    )
    assert timeline.stage_seconds_left == 80.0
    assert timeline.run_seconds_left(4, taken_over=3) is None


def test_the_run_is_never_left_with_less_than_its_stage() -> None:
    """Even where the stage is one that no earlier iteration had."""
    timeline = digested(
        *stage("draft", 1, 0, 1),
        *stage("draft", 2, 1, 1),
        *stage("draft", 3, 2, 1),
        event(10, "train", "started", iteration=3, done=0, total=100),
        event(20, "train", iteration=3, done=10, total=100),
        event(30, "train", iteration=3, done=20, total=100),
    )
    assert timeline.run_seconds_left(3) == 80.0


def test_a_stage_named_after_its_model_is_the_same_stage_in_every_iteration() -> None:
    """Looking took 5 s for M_1 and for M_2; in iteration 3 it is done, so nothing is left."""
    timeline = digested(*(e for t in (1, 2, 3) for e in stage(f"look at pairs with M_{t}", t, 10 * t, 5)))
    assert timeline.run_seconds_left(3) == 0.0


def test_an_interrupted_attempt_counts_by_what_it_did() -> None:
    """90 of 100 drafts took 90 s; the rest were made by the next attempt in 30 s, most of it loading a model."""
    timeline = digested(
        event(0, "draft", "started", iteration=1, done=0, total=100),
        event(90, "draft", iteration=1, done=90, total=100),
        event(500, "draft", "started", iteration=1, done=90, total=100),
        event(530, "draft", "finished in 30 s", iteration=1, done=100, total=100),
        event(540, "draft", "started", iteration=2, done=0, total=100),
    )
    assert timeline.run_seconds_left(2) == pytest.approx(120.0)


def test_a_stage_that_is_there_several_times_in_an_iteration_counts_as_often() -> None:
    """A grid of two: 10 + 10 s in each iteration. After the first of iteration 3, the second's 10 s are left."""
    grid = [e for t in (1, 2) for n in (0, 1) for e in stage("train", t, 100 * t + 10 * n, 10)]
    timeline = digested(*grid, *stage("train", 3, 300, 10))
    assert timeline.run_seconds_left(3) == pytest.approx(10.0)
