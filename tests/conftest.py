"""What several rooms' tests share."""

import os
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from storage import Store
from storage.state import NEEDS_WORKER, read_state, set_state
from synpo_lab.errors import RunError
from synpo_lab.home import open_store
from synpo_lab.jobs import launching, stopping
from synpo_lab.records import (
    TABLES,
    EvalResult,
    Finding,
    Pair,
    PairLogp,
    Prompt,
    Response,
    Score,
    Seed,
    Topic,
    TrainStep,
    content_id,
)

# Machines are shared: a slow example says nothing about the code. In CI the examples are the same every time, so that a
# change fails for what it changed; elsewhere new ones are tried.
settings.register_profile("lab", deadline=None, max_examples=50)
settings.register_profile("ci", settings.get_profile("lab"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "lab")

COUNTING_WORKER = Path(__file__).parent / "jobs" / "counting_worker.py"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def counting(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A lab home whose workers are real processes that only count (jobs/counting_worker.py). None outlives the test."""
    monkeypatch.setattr(launching, "WORKER", (sys.executable, "-P", str(COUNTING_WORKER)))
    yield home
    store = open_store(home)
    for run_id in store.runs():
        if read_state(store.run(run_id).folder).state in NEEDS_WORKER:
            try:
                stopping.stop(home, run_id, wait=0.0, kill=True)
            except RunError:
                continue  # it ended by itself meanwhile


CONFIG = "recipe: synpo\ntitle: A small run\nseed: 7\npolicy: pocket\niterations: 2\nscorer:\n  name: rubric\n"

TinyStore = Callable[..., Store]


@pytest.fixture
def tiny_store(tmp_path: Path) -> TinyStore:
    """A function from records to a real store: tiny_store(records, run_id="run", config=..., state="finished").

    Called again, it adds another run to the same lab home.
    """

    def build(
        records: Iterable[Any] = (), *, run_id: str = "run", config: str = CONFIG, state: Any = "finished"
    ) -> Store:
        store = Store(tmp_path / "lab", TABLES)
        run = store.create_run(run_id, config, {"created_at": 1_700_000_000.0})
        run.append(records)
        set_state(run.folder, state)
        return store

    return build


@pytest.fixture
def small_run() -> list[Any]:
    """Every record of a made-up SynPO run of two iterations: 12 seeds, 30 prompts a round, pairs of every fate."""
    rng = random.Random(5)
    return [*_seeds(rng), *(record for t in (1, 2) for record in _round(t, rng)), *_tests(rng)]


def _seeds(rng: random.Random) -> Iterator[Any]:
    for i in range(12):
        text = f"name {i} fruits"
        seed_id = content_id("prompt", text)
        yield Seed(0, seed_id, text, f"gold {i}", "validation" if i % 4 == 0 else "train")
        yield _response(0, seed_id, "gold", "gold", f"gold {i}")
        yield from _answered(1, seed_id, "draft", "M_0", f"seed draft {i}", rng)


def _round(t: int, rng: random.Random) -> Iterator[Any]:
    for i in range(30):
        text, reason = f"round {t}: use word{i} in a sentence", ("malformed", "duplicate", None, None, None)[i % 5]
        keywords = [f"word{i}", rng.choice(["plum", "trumpet"]), "noise"]
        status = "dropped" if reason else "kept"
        prompt_id = content_id("prompt", text)
        yield Prompt(t, prompt_id, text, keywords, "noise", "generator", status, reason)
        if not reason:
            yield Topic(t, prompt_id, i % 3, f"word{i % 3}", rng.random(), rng.random(), rng.random(), None)
            yield from _paired(t, prompt_id, text, rng)
    for trainee, variant in (("improver", ""), ("policy", "beta=4"), ("policy", "beta=10")):
        for step in range(1, 6):
            yield TrainStep(t, trainee, variant, step, 1 / step, 1e-3, None, 0.1, 0.5, -1.0, -2.0, 100.0)


def _paired(t: int, prompt_id: str, text: str, rng: random.Random) -> Iterator[Any]:
    made = [
        (role, list(_answered(t, prompt_id, role, model, f"{role} {rng.random()}" * rng.randrange(1, 4), rng)))
        for role, model in (("initial", "M_0"), ("draft", f"M_{t - 1}"), ("improved", f"R_{t}"))
    ]
    for _, records in made:
        yield from records
    (rejected, low, _), (chosen, high, _) = made[0][1], made[2][1]
    gap, repetition = high.value - low.value, round(rng.random(), 2)
    reason = "gap" if gap <= 0.02 else "repetition" if repetition > 0.7 else rng.choice([None, None, "not sampled"])
    pair_id = content_id("pair", chosen.response_id, rejected.response_id)
    yield Pair(
        t, pair_id, prompt_id, text, chosen.response_id, rejected.response_id, chosen.text, rejected.text, high.value,
        low.value, gap, len(chosen.text), len(rejected.text), repetition, reason is None, reason,
        round(rng.random(), 2),
    )  # fmt: skip
    if len(chosen.text) > 2 * len(rejected.text):
        yield Finding(t, "much longer", pair_id, len(chosen.text) / len(rejected.text), "chosen / rejected")
    if reason is None:
        for model, better in (("M_0", -2.0), (f"M_{t}", -0.8)):
            yield PairLogp(t, pair_id, model, better - rng.random(), -1.5 - rng.random(), 10.0, 1.6)


def _tests(rng: random.Random) -> Iterator[Any]:
    for i in range(8):
        text = f"held out {i}"
        prompt_id = content_id("prompt", text)
        yield Prompt(0, prompt_id, text, [], None, "eval:pocket", "held-out", None)
        opponent = list(_answered(0, prompt_id, "eval", "M_0", f"old {i}", rng))
        yield from opponent
        for t in (1, 2):
            policy = list(_answered(t, prompt_id, "eval", f"M_{t}", f"new {t} {i}", rng))
            yield from (*policy, _compared(t, "pocket", policy, opponent))
            for beta in (4, 10):
                grid = list(_answered(t, prompt_id, "eval", f"M_{t}-beta={beta}", f"grid {t} {i}", rng))
                yield from (*grid, _compared(t, "validation", grid, opponent))


def _answered(t: int, prompt_id: str, role: Any, model: str, text: str, rng: random.Random) -> Iterator[Any]:
    response = _response(t, prompt_id, role, model, text)
    yield response
    yield Score(t, response.response_id, "rubric", "total", rng.randrange(0, 11) / 10)
    yield Score(t, response.response_id, "rubric", "polite", rng.randrange(0, 3) / 2)


def _response(t: int, prompt_id: str, role: Any, model: str, text: str) -> Response:
    key = content_id("response", t, prompt_id, role, model)
    finish = "given" if role == "gold" else "stop"
    return Response(t, key, prompt_id, role, model, text, len(text.split()), finish, '{"temperature":0.7,"seed":1}')


def _compared(t: int, suite: str, policy: list[Any], opponent: list[Any]) -> EvalResult:
    (a, score_a, _), (b, score_b, _) = policy, opponent
    winner = "tie" if score_a.value == score_b.value else "a" if score_a.value > score_b.value else "b"
    return EvalResult(
        t, suite, a.prompt_id, a.model, b.model, a.response_id, b.response_id, score_a.value, score_b.value, winner,
        len(a.text), len(b.text),
    )  # fmt: skip
