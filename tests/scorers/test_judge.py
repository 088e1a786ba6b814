"""Judges: what they are asked, how strictly they are read, and that a judge who prefers a place comes out at 0."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab import origins
from synpo_lab.config import ScorerConfig, parse
from synpo_lab.engines.scripted_engine import ScriptedEngine
from synpo_lab.errors import ConfigError, EngineError
from synpo_lab.scorers import judge, open_scorer
from synpo_lab.scorers.judge import _better, _rating
from tests.engines.tiny_server import serving, status
from tests.scorers.tiny_scorers import rows_of_many_lengths
from tests.tiny_model import save_tiny

Saying = Callable[[str, int], str]  # (what the judge is asked, draw) -> what it says


def asked_answer(text: str) -> str:
    return text.partition("[The answer]\n")[2]


def asked_sides(text: str) -> tuple[str, str]:
    first, _, second = text.partition("[Answer A]\n")[2].partition("\n\n[Answer B]\n")
    return first, second


class Script(ScriptedEngine):
    """Deterministic judge that keeps what it was asked."""

    def __init__(self, say: Saying) -> None:
        super().__init__("judge", say)
        self.asked: list[tuple[str, float]] = []

    def generate(self, requests: Any, sampling: Any, *, seed: int, check: Any = lambda: None) -> Any:
        listed = list(requests)
        self.asked += [(request.prompt, sampling.temperature) for request in listed]
        return super().generate(listed, sampling, seed=seed, check=check)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str, Saying], tuple[Any, Script]]:
    """A judge of that kind whose engine says what the function says."""
    (tmp_path / "judge-7b").mkdir()

    def make(name: str, say: Saying) -> tuple[Any, Script]:
        engine = Script(say)
        monkeypatch.setattr(judge, "open_engine", lambda *_, **__: engine)
        return open_scorer(ScorerConfig(name=name, model=str(tmp_path / "judge-7b"))), engine

    return make


@pytest.mark.parametrize(
    ("said", "rating"),
    [
        ("Good.\nRating: 7", 7), ("Rating: 10", 10), ("Rating: 1.", 1), ("**Rating: 8**", 8), ("Rating: 3\n\n", 3),
        ("Rating: 11", None), ("Rating: 0", None), ("Rating: 7/10", None), ("Rating: 7.5", None), ("rating: 7", None),
        ("Rating: 7\nThat is all.", None), ("I'd say 7", None), ("Rating: seven", None), ("", None), ("\n\n", None),
        ("Rating: 2\nRating: 9", 9), ("Rating: NUMBER", None), ("My Rating: 7", None), ("Rating: ７", None),
    ],
)  # fmt: skip
def test_a_rating_is_read_from_the_last_line_and_nothing_else(said: str, rating: float | None) -> None:
    assert _rating(said) == rating


@pytest.mark.parametrize(
    ("said", "verdict"),
    [
        ("Better: A", 1), ("x\nBetter: B", -1), ("Better: tie", 0), ("**Better: A**", 1), ("Better: C", None),
        ("Better: A or B", None), ("A", None), ("Better: A\nBut B is fine too.", None), ("better: A", None), ("", None),
    ],
)  # fmt: skip
def test_a_verdict_is_read_from_the_last_line_and_nothing_else(said: str, verdict: float | None) -> None:
    assert _better(said) == verdict


@given(st.text())
def test_nothing_a_judge_writes_breaks_the_reader(said: str) -> None:
    assert _rating(said) is None or re.search(r"Rating: \d", said)
    assert _better(said) is None or "Better: " in said


def test_a_grade_is_what_the_judge_says_of_prompt_and_answer(scripted: Any) -> None:
    made, engine = scripted("judge", lambda text, draw: f"Fine.\nRating: {min(10, len(asked_answer(text)))}")
    assert list(made.score([("{braces} %s", "four"), ("p", "sevenx {")])) == [
        {"total": 4, "unparsed": 0},
        {"total": 8, "unparsed": 0},
    ]
    assert "{braces} %s" in engine.asked[0][0]


def test_what_cannot_be_read_is_asked_once_more_at_another_temperature_then_left_unscored(scripted: Any) -> None:
    def say(text: str, draw: int) -> str:
        answer = asked_answer(text)
        if answer == "late":
            return "hm" if draw == 0 else "Rating: 5"
        return "no idea" if answer == "never" else "Rating: 9"

    made, engine = scripted("judge", say)
    found = list(made.score([("p", "good"), ("p", "late"), ("p", "never"), ("p", "good")]))
    assert found == [
        {"total": 9, "unparsed": 0}, {"total": 5, "unparsed": 0}, {"unparsed": 1}, {"total": 9, "unparsed": 0},
    ]  # fmt: skip
    assert [(asked_answer(text), temperature) for text, temperature in engine.asked] == [
        ("good", 0), ("late", 0), ("never", 0), ("late", 0.7), ("never", 0.7),
    ]  # fmt: skip


def test_a_verdict_that_was_cut_off_is_none(scripted: Any) -> None:
    """The last line reads well, but the judge was stopped in the middle of it: 1 may have become 10."""
    made, _ = scripted("judge", lambda text, draw: " ".join(["word"] * 600))
    assert list(made.score([("p", "a")])) == [{"unparsed": 1.0}]


def test_the_better_answer_wins_in_both_orders(scripted: Any) -> None:
    def say(text: str, draw: int) -> str:
        first, second = asked_sides(text)
        return "Better: tie" if len(first) == len(second) else f"Better: {'AB'[len(second) > len(first)]}"

    made, engine = scripted("pairwise-judge", say)
    rows = [("p", "long answer", "short"), ("p", "short", "long answer"), ("p", "same", "size")]
    assert [found["total"] for found in made.compare(rows)] == [1, -1, 0]
    assert [found["order"] for found in made.compare(rows)] == [1, 1, 1]
    shown = [asked_sides(text) for text, _ in engine.asked[:2]]
    assert shown == [("long answer", "short"), ("short", "long answer")]


@pytest.mark.parametrize("place", ["A", "B"])
def test_a_judge_that_prefers_a_place_comes_out_at_zero(scripted: Any, place: str) -> None:
    made, _ = scripted("pairwise-judge", lambda text, draw: f"Better: {place}")
    [found] = made.compare([("p", "x", "y")])
    assert found == {"total": 0, "order": 0, "unparsed": 0}


def test_a_comparison_of_which_one_order_cannot_be_read_is_unscored(scripted: Any) -> None:
    made, _ = scripted(
        "pairwise-judge", lambda text, draw: "Better: A" if asked_sides(text)[0] == "x" else "both are nice"
    )
    assert list(made.compare([("p", "x", "y"), ("p", "x", "x")])) == [
        {"unparsed": 1},
        {"total": 0, "order": 0, "unparsed": 0},
    ]


def test_a_stop_reaches_the_engine(scripted: Any) -> None:
    class Stop(BaseException):
        pass

    def check() -> None:
        raise Stop

    made, _ = scripted("judge", lambda text, draw: "Rating: 5")
    made.check = check
    with pytest.raises(Stop):
        list(made.score([("p", "a")]))


def test_a_judge_needs_a_model() -> None:
    with pytest.raises(ConfigError, match=r"needs scorer\.model"):
        open_scorer(ScorerConfig(name="judge"))


def test_the_judges_identity_follows_the_text_it_is_asked(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = scripted("judge", lambda text, draw: "")[0].name
    assert re.fullmatch(r"judge:judge-7b@[0-9a-f]{8}#[0-9a-f]{8}", before)
    monkeypatch.setattr(judge, "GRADED", judge.GRADED + " Be strict.")
    assert scripted("judge", lambda text, draw: "")[0].name != before


def test_a_judge_behind_a_server_is_asked_there_and_retried() -> None:
    def reply(handler: Any, asked: dict[str, Any]) -> None:
        text = asked["messages"][-1]["content"]
        handler.answer("I cannot say." if asked_answer(text) == "odd" else f"Rating: {len(asked_answer(text))}")

    with serving(reply) as server:
        server.faults.append(status(500, "busy"))
        engine = {"kind": "openai", "openai": {"base_url": server.url, "model": "tiny"}}
        made: Any = open_scorer(ScorerConfig(name="judge", judge={"engine": engine}))  # type: ignore[arg-type]
        assert made.name.startswith("judge:tiny#")
        found = list(made.score([("p", "four"), ("p", "odd"), ("p", "six..x")]))
        made.close()
        assert [one.get("total") for one in found] == [4, None, 6]
        assert found[1] == {"unparsed": 1}
        assert all(asked["model"] == "tiny" for _, asked in server.seen)


@pytest.mark.parametrize("name", ["judge", "pairwise-judge"])
def test_a_judge_behind_a_server_is_asked_for_by_the_name_that_is_stored_with_its_scores(name: str) -> None:
    with serving(lambda handler, asked: handler.answer("Better: A\nRating: 5")) as server:
        engine = {"kind": "openai", "openai": {"base_url": server.url}}
        made: Any = open_scorer(
            ScorerConfig.model_validate({"name": name, "model": "big-judge", "judge": {"engine": engine}})
        )
        list(made.score([("p", "a")]) if name == "judge" else made.compare([("p", "a", "b")]))
        made.close()
        assert made.name.startswith(f"{name}:big-judge#")
        assert {asked["model"] for _, asked in server.seen} == {"big-judge"}


def test_two_names_for_one_judge_are_refused() -> None:
    engine = {"kind": "openai", "openai": {"model": "small-judge"}}
    with pytest.raises(ConfigError, match="two names for the judge"):
        parse({"scorer": {"name": "judge", "model": "big-judge", "judge": {"engine": engine}}})


def test_a_server_that_is_not_there_is_told_with_a_hint() -> None:
    engine = {"kind": "openai", "openai": {"base_url": "http://127.0.0.1:9/v1", "model": "tiny", "attempts": 1}}
    made: Any = open_scorer(ScorerConfig(name="pairwise-judge", judge={"engine": engine}))  # type: ignore[arg-type]
    with pytest.raises(EngineError) as caught:
        list(made.compare([("p", "a", "b")]))
    made.close()
    assert caught.value.hint


@pytest.mark.slow
def test_a_random_model_as_the_judge_says_nothing_readable_and_nothing_breaks(tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "judge", max_position_embeddings=512)
    sampling = {"temperature": 0, "max_new_tokens": 8}
    config = {"name": "judge", "model": str(folder), "judge": {"engine": {"device": "cpu"}, "sampling": sampling}}
    made: Any = open_scorer(ScorerConfig.model_validate(config))
    rows = rows_of_many_lengths(5)
    assert list(made.score(rows)) == [{"unparsed": 1.0}] * 5
    made.close()
    assert json.dumps(made.name)


def test_a_judge_of_the_hub_is_asked_at_its_revision_and_a_server_cannot_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    opened: list[str] = []

    def open_engine(name: str, model: str, *_: Any, **__: Any) -> Script:
        opened.append(model)
        return Script(lambda text, draw: "Rating: 5")

    monkeypatch.setattr(judge, "open_engine", open_engine)
    monkeypatch.setattr(origins, "commit_of", lambda name, revision: revision)
    monkeypatch.setattr(
        huggingface_hub, "snapshot_download", lambda name, *, revision, **_: str(tmp_path / name / revision)
    )
    made: Any = open_scorer(ScorerConfig(name="judge", model="hub:one/judge", revision="v2"))
    assert made.name.startswith("judge:one/judge@v2#")
    assert [one["total"] for one in made.score([("p", "a")])] == [5]
    assert opened == [str(tmp_path / "one" / "judge" / "v2")]
    served = {"kind": "openai", "openai": {"model": "tiny"}}
    with pytest.raises(ConfigError, match="revision = v2 cannot be asked of a server") as refused:
        open_scorer(ScorerConfig.model_validate({"name": "judge", "revision": "v2", "judge": {"engine": served}}))
    assert "leave scorer.revision out" in refused.value.hint
