from pathlib import Path
from typing import Any

import pytest

from storage import RunStore
from synpo_lab.config import RunConfig
from synpo_lab.errors import RunError
from synpo_lab.home import open_store
from synpo_lab.records import EvalResult, Pair, Response, Score
from synpo_lab.report import comparison_rows, interval, result_rows, shown


def make_run(home: Path, run_id: str, recipe: str, wins: list[str], iterations: int = 2) -> RunStore:
    """A run whose iterations each have two pairs, one of them kept, and the evaluation results `wins`."""
    config = RunConfig.model_validate({"recipe": recipe, "iterations": iterations})
    run = open_store(home).create_run(run_id, config.to_yaml(), {"recipe": recipe})
    for t in range(iterations + 1):
        run.append(evaluated("pocket", t, f"M_{t}", wins))
        if t:
            run.append(item for n in (0, 1) for item in paired(t, n))
            run.append(
                [*evaluated("validation", t, f"M_{t}-beta=2", wins), *evaluated("validation", t, f"M_{t}-beta=4", wins)]
            )
            run.mark(f"iteration={t}/policy", {"beta": 4})
    return run


def evaluated(suite: str, t: int, model: str, wins: list[str]) -> list[EvalResult]:
    return [
        EvalResult(t, suite, f"e{n}", model, "M_0", f"{suite}{model}{n}", f"{suite}0{n}", 0.75, 0.5, winner, 10, 10)
        for n, winner in enumerate(wins)
    ]


def paired(t: int, n: int) -> list[Any]:
    answers = [
        (f"{role}{t}{n}", role, score) for role, score in (("initial", 0.25), ("draft", 0.5), ("improved", 0.875))
    ]
    responses = [Response(t, name, f"p{n}", role, "M", "text", 3, "stop", "{}") for name, role, _ in answers]
    scores = [Score(t, name, "rubric", "total", score) for name, _, score in answers]
    pair = Pair(
        t, f"pair{t}{n}", f"p{n}", "prompt", f"improved{t}{n}", f"initial{t}{n}", "a", "b", 0.875, 0.25, 0.625,
        1, 1, 0.0, n == 0, None if n == 0 else "gap",
    )  # fmt: skip
    return [*responses, *scores, pair]


def test_a_run_is_told_iteration_by_iteration(home: Path) -> None:
    """Win rate of a, a, tie, b = (1 + 1 + .5 + 0) / 4 = .625.

    Wilson with z^2 / n = 3.8415 / 4 = .9604: centre (.625 + .4802) / 1.9604 = .5638, half width
    1.96 * sqrt(.625 * .375 / 4 + .9604 / 16) / 1.9604 = .3444.
    """
    make_run(home, "synpo", "synpo", ["a", "a", "tie", "b"])
    initial, first, second = result_rows(home, "synpo")
    assert (initial["iteration"], first["iteration"], second["iteration"]) == (0, 1, 2)
    assert (first["pairs"], first["pairs_kept"], first["beta"], first["n"]) == (2, 1, 4.0, 4)
    assert (first["mean_initial"], first["mean_draft"], first["mean_improved"]) == (0.25, 0.5, 0.875)
    assert (first["mean_policy"], first["win_rate"]) == (0.75, 0.625)
    assert first["win_rate_low"] == pytest.approx(0.5638 - 0.3444, abs=1e-3)
    assert first["win_rate_high"] == pytest.approx(0.5638 + 0.3444, abs=1e-3)


def test_a_run_that_has_made_nothing_has_no_rows(home: Path) -> None:
    open_store(home).create_run("young", RunConfig().to_yaml(), {})
    assert result_rows(home, "young") == []


def test_a_row_is_shown_in_shares_and_leaves_blank_what_is_not_there(home: Path) -> None:
    make_run(home, "synpo", "synpo", ["a", "a", "tie", "b"])
    initial, first, _ = map(shown, result_rows(home, "synpo"))
    assert (first["M_t"], first["pairs kept"], first["win rate"], first["beta"]) == ("M_1", "1 of 2", "62.5%", "4")
    assert first["95 %"] == "21.9% to 90.8%"
    assert (initial["pairs kept"], initial["draft"], initial["beta"]) == ("", "", "")


def test_a_comparison_shows_m_0_once_all_of_synpo_and_the_end_of_the_others(home: Path) -> None:
    make_run(home, "ours", "synpo", ["a"])
    make_run(home, "theirs", "sampling-ranking", ["tie"])
    rows = comparison_rows(home, ["ours", "theirs"])
    assert [(row["run_id"], row["iteration"]) for row in rows] == [("ours", 0), ("ours", 1), ("ours", 2), ("theirs", 2)]


def test_a_run_that_is_not_there_is_a_mistake(home: Path) -> None:
    with pytest.raises(RunError, match="'nobody'"):
        comparison_rows(home, ["nobody"])


def test_a_win_rate_of_all_or_nothing_has_an_interval_with_a_width() -> None:
    """Wilson's lower end for 10 of 10 is n / (n + z^2) = 10 / 13.8415 = .7225."""
    assert interval(1.0, 10) == (pytest.approx(0.7225, abs=1e-4), 1.0)
    assert interval(0.0, 10) == (0.0, pytest.approx(0.2775, abs=1e-4))


def test_there_is_no_interval_without_comparisons() -> None:
    assert interval(None, 0) == interval(0.5, 0) == (None, None)
