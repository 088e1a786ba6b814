"""SynPO with a ranker for its scorer, and with answers that no scorer could read. On stand-in models."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from storage.database import Database
from storage.queries import run_overview
from synpo_lab.errors import DataError, EngineError
from synpo_lab.home import open_store
from synpo_lab.recipes import workshop
from synpo_lab.records import EvalResult, Pair, Response, Score
from synpo_lab.run import Run

Start = Callable[..., Run]
Aspects = dict[str, float]

SHORT = {"max_new_tokens": 24}
SMALL: dict[str, Any] = {
    "iterations": 2,
    "prompts": {"per_iteration": 40, "sampling": SHORT},
    "draft": SHORT,
    "improver": {"sampling": SHORT, "min_gap": -100.0},
    "filter": {"min_gap": -100.0, "max_repetition": 1.0},
    "simpo": {"betas": [2]},
    "evaluation": {"sampling": SHORT},
}


class ByLength:
    """A ranker: by how many characters an answer is longer. Keeps what it was asked."""

    name = "pairwise:by-length@1"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str]] = []

    def compare(self, rows: Iterable[tuple[str, str, str]]) -> Iterator[Aspects]:
        for prompt, one, other in rows:
            self.asked.append((prompt, one, other))
            yield {"total": float(len(one) - len(other)), "order": 1.0}


class Unsure:
    """Reads an answer only if it has an even number of characters. Keeps what it was asked; can be made to fail."""

    name = "judge:unsure@1"

    def __init__(self, fail_after: int | None = None) -> None:
        self.asked: list[tuple[str, str]] = []
        self.fail_after = fail_after
        self.closed = 0

    def score(self, rows: Iterable[tuple[str, str]]) -> Iterator[Aspects]:
        for prompt, answer in rows:
            if len(self.asked) == self.fail_after:
                raise EngineError("the judge's server is gone", hint="start it again")
            self.asked.append((prompt, answer))
            yield {"total": len(answer) / 10, "unparsed": 0.0} if len(answer) % 2 == 0 else {"unparsed": 1.0}

    def close(self) -> None:
        self.closed += 1


def use(monkeypatch: pytest.MonkeyPatch, scorer: Any) -> Any:
    monkeypatch.setattr(workshop, "open_scorer", lambda config: scorer)
    return scorer


def rows(run: Run) -> list[list[str]]:
    return [sorted(map(repr, run.read(kind))) for kind in (Response, Score, Pair, EvalResult)]


def lines(home: Path, run: Run) -> list[str]:
    events = (open_store(home).run(run.run_id).folder / "events.jsonl").read_text(encoding="utf-8")
    return [json.loads(line)["message"] for line in events.splitlines()]


@pytest.mark.parametrize("rejected", ["initial", "draft"])
def test_with_a_ranker_every_gap_is_its_comparison_of_the_pair(
    quick: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch, rejected: str
) -> None:
    ranker = use(monkeypatch, ByLength())
    run = start(**SMALL, **quick, pairing={"rejected": rejected})
    pairs = list(run.read(Pair))
    assert {pair.iteration for pair in pairs} == {1, 2}
    assert all(pair.gap == len(pair.chosen) - len(pair.rejected) for pair in pairs)
    assert all(pair.rejected_score == 0 for pair in pairs)  # it is what the chosen one is compared with
    assert {score.scorer for score in run.read(Score)} == {ranker.name}
    results = list(run.read(EvalResult))
    assert all(r.winner == ("a" if r.len_a > r.len_b else "b" if r.len_a < r.len_b else "tie") for r in results)
    assert {r.winner for r in results} >= {"a", "b"}


def test_a_ranker_resumed_between_any_two_of_its_chunks_compares_with_the_same_answers(
    quick: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second attempt finds M_0's answers scored already; they must be its anchors all the same."""
    use(monkeypatch, ByLength())
    whole = rows(start("whole", **SMALL, **quick))
    for number, fail_at in enumerate((1, 60, 130, 200, 260)):

        class Failing(ByLength):
            def compare(self, rows: Iterable[Any], limit: int = fail_at) -> Iterator[Aspects]:
                for aspects in super().compare(rows):
                    if len(self.asked) > limit:
                        raise EngineError("gone", hint="")
                    yield aspects

        use(monkeypatch, Failing())
        with pytest.raises(EngineError):
            start(f"broken{number}", **SMALL, **quick)
        use(monkeypatch, ByLength())
        assert rows(start(f"broken{number}")) == whole


def test_answers_that_cannot_be_read_are_counted_and_take_no_part(
    quick: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scorer = use(monkeypatch, Unsure())
    run = start(**SMALL, **quick)
    read = {s.response_id for s in run.read(Score) if s.aspect == "total"}
    unread = {s.response_id for s in run.read(Score) if s.aspect == "unparsed" and s.value == 1}
    assert read
    assert unread
    assert not read & unread
    texts = {r.response_id: r.text for r in run.read(Response)}
    assert all(len(texts[key]) % 2 == 0 for key in read)
    assert all({pair.chosen_id, pair.rejected_id} <= read for pair in run.read(Pair))
    assert len(scorer.asked) == len(read | unread)
    assert scorer.closed >= 4

    told = lines(tmp_path / "home", run)
    graded = Counter(s.iteration for s in run.read(Score) if s.aspect == "unparsed" and s.value == 1)
    said = sum(int(line.split(": ")[1].split(" of ")[0]) for line in told if "answers got no score" in line)
    assert said == sum(graded.values())
    results = [r for r in run.read(EvalResult) if r.iteration == 2 and r.suite == "validation"]
    assert 0 < len(results) < 45
    assert any(f"validation: {len(results)} of 45 comparisons of M_2-beta=2 with M_0 were possible" in x for x in told)
    overview = run_overview(Database(open_store(tmp_path / "home", read_only=True)), run.run_id)
    assert {found.iteration: found.pairs for found in overview if found.iteration} == {
        t: len(list(run.read(Pair, t))) for t in (1, 2)
    }


def test_a_resume_asks_nothing_again_not_even_what_could_not_be_read(
    quick: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = use(monkeypatch, Unsure())
    expected = rows(start("whole", **SMALL, **quick))
    first = use(monkeypatch, Unsure(fail_after=100))
    with pytest.raises(EngineError):
        start("cut", **SMALL, **quick)
    second = use(monkeypatch, Unsure())
    assert rows(start("cut")) == expected
    assert len(first.asked) + len(second.asked) == len(whole.asked)
    assert first.closed  # what fails gives its memory back too


def test_a_scorer_that_reads_nothing_at_all_ends_the_run_with_a_hint(
    quick: dict[str, str], start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mute(Unsure):
        def score(self, rows: Iterable[tuple[str, str]]) -> Iterator[Aspects]:
            return ({"unparsed": 1.0} for _ in rows)

    use(monkeypatch, Mute())
    with pytest.raises(DataError) as caught:
        start(**SMALL, **quick)
    assert caught.value.hint
