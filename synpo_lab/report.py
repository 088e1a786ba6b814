"""What runs have come to, in rows. Everything is read from the store, so it can be told again at any time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from storage.database import Database
from storage.queries import IterationOverview, grid_results, list_runs, run_overview
from synpo_lab.agreement import Z95, wilson
from synpo_lab.errors import RunError
from synpo_lab.home import open_store, storage_errors


def result_rows(home: Path, run_id: str) -> list[dict[str, Any]]:
    """A run, one row per iteration; iteration 0 is M_0 itself. Numbers, None where there are none."""
    with storage_errors():
        return _rows_of(Database(open_store(home, read_only=True)), run_id)


def comparison_rows(home: Path, run_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Several runs in one list: M_0 once, every iteration of SynPO runs, the last of the others.

    RunError when there is no such run.
    """
    with storage_errors():
        database = Database(open_store(home, read_only=True))
        recipes = {run.run_id: run.recipe for run in list_runs(database)}
        for run_id in run_ids:
            if run_id not in recipes:
                raise RunError(f"there is no run {run_id!r}", hint="`synpo-lab status` lists the runs of this lab home")
        rows = [row for run_id in run_ids for row in _telling(recipes[run_id], _rows_of(database, run_id))]
    initial = [row for row in rows if row["iteration"] == 0][:1]
    return initial + [row for row in rows if row["iteration"] > 0]


def shown(row: dict[str, Any]) -> dict[str, str]:
    """A result row for people: shares in percent, scores with three digits, what is not there left blank."""
    return {
        "M_t": f"M_{row['iteration']}",
        "pairs kept": f"{row['pairs_kept']:,} of {row['pairs']:,}" if row["pairs"] else "",
        "initial": _score(row["mean_initial"]),
        "draft": _score(row["mean_draft"]),
        "improved": _score(row["mean_improved"]),
        "policy, held out": _score(row["mean_policy"]),
        "win rate": _percent(row["win_rate"]),
        "95 %": " to ".join(filter(None, [_percent(row["win_rate_low"]), _percent(row["win_rate_high"])])),
        "beta": "" if row["beta"] is None else f"{row['beta']:g}",
    }


def interval(share: float | None, n: int) -> tuple[float | None, float | None]:
    """The 95 % interval of a win rate over n comparisons, a tie half a win (Wilson); None where there is no win rate."""
    if share is None or not n:
        return None, None
    return wilson(share * n, n)


def around(mean: float, standard_error: float | None) -> tuple[float | None, float | None]:
    """The 95 % interval of a mean by the normal approximation."""
    if standard_error is None:
        return None, None
    return mean - Z95 * standard_error, mean + Z95 * standard_error


def _rows_of(database: Database, run_id: str) -> list[dict[str, Any]]:
    betas = {result.iteration: result.beta for result in grid_results(database, run_id) if result.won}
    return [_row(run_id, iteration, betas.get(iteration.iteration)) for iteration in run_overview(database, run_id)]


def _row(run_id: str, found: IterationOverview, beta: float | None) -> dict[str, Any]:
    low, high = interval(found.win_rate, found.n)
    return {
        "run_id": run_id,
        "iteration": found.iteration,
        "pairs": found.pairs,
        "pairs_kept": found.pairs_kept,
        "mean_initial": found.mean_initial,
        "mean_draft": found.mean_draft,
        "mean_improved": found.mean_improved,
        "mean_policy": found.mean_policy,
        "win_rate": found.win_rate,
        "win_rate_low": low,
        "win_rate_high": high,
        "n": found.n,
        "beta": beta,
    }


def _telling(recipe: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    first = [row for row in rows if row["iteration"] == 0]
    later = [row for row in rows if row["iteration"] > 0]
    return first + (later if recipe == "synpo" else later[-1:])


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.1%}"
