"""What a recipe does with requests that an engine cannot answer, and when it holds which engine."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from synpo_lab.config import SamplingConfig
from synpo_lab.engines.base import Check, Completion, Request, never, unanswerable
from synpo_lab.errors import DataError
from synpo_lab.recipes import beta_grid, workshop
from synpo_lab.records import Pair, Prompt, Response
from synpo_lab.run import Run, StopRequested
from tests.recipes.conftest import StandInEngine
from tests.recipes.test_recipes import SMALL

Start = Callable[..., Run]


def refuse(monkeypatch: pytest.MonkeyPatch, refused: Callable[[str, Request], bool], *, again: bool = False) -> None:
    """Let the stand-in engine refuse these requests of the model of that name."""

    class Refusing(StandInEngine):
        def generate(
            self, requests: Iterable[Request], sampling: SamplingConfig, *, seed: int, check: Check = never
        ) -> Iterator[Completion]:
            for request in requests:
                if refused(self.name, request):
                    yield unanswerable(request, 'its prompt is "too long"', again=again)
                else:
                    yield from super().generate([request], sampling, seed=seed)

    monkeypatch.setattr(workshop, "open_engine", Refusing)


def test_requests_without_an_answer_are_left_out_and_the_run_goes_on(
    quick: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, lambda name, request: request.key[0] in "01")  # keys are hex: an eighth of each stage's
    run = start(**SMALL, **quick)
    responses = list(run.read(Response))
    failed = [response for response in responses if response.finish_reason == "error"]
    assert 0.05 < len(failed) / len(responses) < 0.2
    assert {response.text for response in failed} == {""}
    lost = {response.response_id for response in failed}
    pairs = list(run.read(Pair))
    assert pairs
    assert not any(pair.chosen_id in lost or pair.rejected_id in lost for pair in pairs)
    assert {made.drop_reason for made in run.read(Prompt)} >= {"unanswered"}
    assert run.done("iteration=2/policy")
    told = [line["message"] for line in run._store.events()[0] if line["level"] == "warning"]
    assert any("draft: " in line and 'its prompt is "too long"' in line for line in told)


def test_a_failed_request_is_not_tried_again_on_resume(
    quick: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, lambda name, request: request.key[0] in "01")
    before = len(list(start(**SMALL, **quick).read(Response)))
    asked: list[str] = []
    refuse(monkeypatch, lambda name, request: asked.append(request.key) is None)
    assert len(list(start().read(Response))) == before
    assert asked == []


def test_what_failed_for_a_reason_that_may_pass_is_asked_again_on_resume_and_only_then(
    quick: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()

    def fails(name: str, request: Request) -> bool:
        lost = name == "M_0" and request.key[0] in "01"
        asked[request.key] += lost
        return lost

    refuse(monkeypatch, fails, again=True)
    run = start(**SMALL, **quick)
    failed = {key for key, times in asked.items() if times}
    assert failed
    assert max(asked.values()) == 1
    assert not failed & {response.response_id for response in run.read(Response)}
    told = [line["message"] for line in run._store.events()[0] if line["level"] == "warning"]
    assert any("got no answer and are left out" in line for line in told)
    refuse(monkeypatch, lambda name, request: False)
    answered = {r.response_id: r.role for r in start().read(Response)}
    assert {answered[key] for key in failed if key in answered} == {
        "initial",
        "draft",
    }  # what beta's choice asked is past


def test_a_model_that_answers_nothing_on_the_validation_seeds_says_so(
    quick: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, lambda name, request: name.startswith("M_1-beta"))
    with pytest.raises(DataError, match="answered no validation seed"):
        start(**SMALL, **quick)


def test_an_engine_is_closed_before_training_and_scoring_and_two_are_never_open(
    quick: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_now: list[str] = []

    class Counting(StandInEngine):
        def __init__(self, name: str, *rest: Any, **how: Any) -> None:
            super().__init__(name, *rest, **how)
            open_now.append(name)
            assert len(open_now) == 1

        def close(self) -> None:
            open_now.remove(self.name)

    def alone(plain: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **more: Any) -> Any:
            assert open_now == []
            return plain(*arguments, **more)

        return run

    monkeypatch.setattr(workshop, "open_engine", Counting)
    for module, name in ((workshop, "train_sft"), (beta_grid, "train_preference"), (workshop, "score")):
        monkeypatch.setattr(module, name, alone(getattr(module, name)))
    start(**SMALL, **quick)


def test_a_stop_is_heard_between_two_answers(
    quick: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = 0

    class Waiting(StandInEngine):
        def generate(
            self, requests: Iterable[Request], sampling: SamplingConfig, *, seed: int, check: Check = never
        ) -> Iterator[Completion]:
            nonlocal checked
            list(requests)
            for _ in range(100):  # no answer comes for a long time
                checked += 1
                check()
            yield from ()

    monkeypatch.setattr(workshop, "open_engine", Waiting)
    with pytest.raises(StopRequested):
        start(stop=lambda: checked >= 5, **SMALL, **quick)
    assert checked == 5
