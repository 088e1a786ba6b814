"""Two runs against each other."""

from collections.abc import Callable
from statistics import fmean, stdev

import pytest

from storage import Store
from storage.database import Database
from storage.queries.comparison import Shared, paired_changes, shared
from synpo_lab.records import EvalResult, Pair, Prompt

TinyStore = Callable[..., Store]


def judged(iteration: int, prompt: str, score: float, *, suite: str = "pocket", answer: int = 0) -> EvalResult:
    ids = (f"a{suite}{iteration}{prompt}{answer}", f"b{prompt}")
    return EvalResult(iteration, suite, prompt, f"M_{iteration}", "M_0", *ids, score, 0.5, "a", 3, 3)


def test_scores_are_compared_prompt_by_prompt(tiny_store: TinyStore) -> None:
    """Prompts p0..p3 in both, p4 in one only; p0 answered twice: its mean counts."""
    one = [judged(1, f"p{i}", 0.5) for i in range(5)]
    changes = [0.2, -0.1, 0.0, 0.3]
    other = [judged(1, f"p{i}", 0.5 + change) for i, change in enumerate(changes) if i]
    other += [judged(1, "p0", 0.6), judged(1, "p0", 0.8, answer=1), judged(2, "p0", 1.0)]
    seeds = [judged(1, "p0", 9.0, suite="validation")]
    tiny_store([*one, *seeds], run_id="one")
    database = Database(tiny_store([*other, *seeds], run_id="other"))
    (found,) = paired_changes(database, "one", "other")
    assert (found.suite, found.iteration, found.prompts, found.better, found.worse) == ("pocket", 1, 4, 2, 1)
    assert found.change == pytest.approx(fmean(changes))
    assert found.se == pytest.approx(stdev(changes) / 2)
    (back,) = paired_changes(database, "other", "one")
    assert (back.change, back.better, back.worse) == (pytest.approx(-found.change), 1, 2)
    database.close()


def a_pair(prompt: str, chosen: str, kept: bool = True) -> Pair:
    return Pair(
        1, f"{prompt}{chosen}", prompt, prompt, "c", "r", chosen, "no", 1.0, 0.5, 0.5, 1, 2, 0.0, kept,
        None if kept else "gap",
    )  # fmt: skip


def test_what_two_runs_share_is_counted(tiny_store: TinyStore) -> None:
    def prompts(names: str, status: str = "kept") -> list[Prompt]:
        return [Prompt(1, name, name, [], None, "generator", status, None) for name in names]  # type: ignore[arg-type]

    tiny_store([*prompts("abc"), *prompts("z", "held-out"), a_pair("a", "x"), a_pair("b", "y")], run_id="one")
    database = Database(
        tiny_store([*prompts("bcde"), a_pair("b", "y"), a_pair("c", "x"), a_pair("a", "x", kept=False)], run_id="other")
    )
    assert shared(database, "one", "other") == Shared(3, 4, 2, 2, 2, 1)
    assert shared(database, "one", "nobody") == Shared(3, 0, 0, 2, 0, 0)
    database.close()
