"""Playground page: answers side by side, blind until the vote, and whom it lets talk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pages import playground
from pages.playground import Stops, Talk
from pages.shell import Lab
from pages.verdicts import NOBODY
from storage.state import set_state
from synpo_lab.errors import EngineError
from synpo_lab.home import open_home, open_store
from synpo_lab.playground.session import Question
from synpo_lab.playground.wire import Ask, Reply
from synpo_lab.records import Note

HOSTILE = "<script>alert(1)</script>\0"


class Models:
    """Answers at once with hostile text, or fails."""

    def __init__(self, reply: Reply | None = None, *, dies: bool = False, pid: int | None = 1) -> None:
        self._reply, self._dies, self.pid = reply, dies, pid

    def ask(self, ask: Ask, given_up: Any = None) -> Reply:
        if self._dies:
            raise EngineError("the playground's process ended (killed)", hint="ask again")
        return self._reply or Reply(ask.id, f"{HOSTILE} by {ask.model.name}", 4, "stop", 0.5)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    for run_id, policy in (("toy", "pocket"), ("real", "hub:owner/name")):
        store = open_store(open_home(tmp_path))
        run = store.create_run(run_id, f"title: x\npolicy: {policy}\n", {"created_at": 1.0, "recipe": "synpo"})
        (run.models / "M_1").mkdir()
        set_state(run.folder, "finished")
    made = Lab(tmp_path)
    yield made
    made.close()


def asked(lab: Lab, talk: Talk, models: Any, question: Question | None = None) -> list[Any]:
    *_, last = playground._answer(lab, models, Stops(), talk, question or Question("hi"))
    return last


def test_answers_stand_side_by_side_as_text(lab: Lab) -> None:
    talk, answers, voting, _ = asked(lab, Talk("toy", ("M_0", "M_1")), Models())
    assert "<script" not in answers
    assert answers.count("&lt;script&gt;alert(1)&lt;/script&gt;␀") == 2
    assert "A · M_0" in answers
    assert "B · M_1" in answers
    assert voting.visible
    assert len(talk.turns) == 1


def test_the_first_question_says_that_a_model_is_being_loaded(lab: Lab) -> None:
    def told(pid: int | None) -> list[str]:
        models: Any = Models(pid=pid)
        talk = Talk("toy", ("M_0", "M_1"))
        return [str(shown[1]) for shown in playground._answer(lab, models, Stops(), talk, Question("hi"))]

    first, second, _, last = told(None)
    assert "M_0 is being loaded" in first
    assert "M_1 is answering" in second
    assert "loaded" not in second + last + "".join(told(7))


def test_blind_answers_hide_who_wrote_them_until_the_vote(lab: Lab) -> None:
    talk = Talk("toy", ("M_1", "M_0"), blind=True)
    talk, answers, voting, wins = asked(lab, talk, Models(Reply(1, "an answer", 4, "stop", 0.5)))
    assert "M_0" not in answers + wins
    assert "M_1" not in answers + wins
    assert "Answer A" in answers
    assert voting.visible
    voted = playground._voted(lab, talk, "a")
    _, answers, voting, wins = playground._shown(lab, voted)
    assert "A was M_1, B was M_0" in answers
    assert not voting.visible
    assert "M_0 against M_1" in wins
    assert [note.verdict for note in lab.store.notes(Note)] == ["chosen"]
    assert playground._voted(lab, voted, "b") is voted  # one vote an answer
    assert len(lab.store.notes(Note)) == 1


def test_after_a_blind_vote_the_next_question_is_blind_in_an_order_drawn_anew(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Models(Reply(1, "an answer", 4, "stop", 0.5))
    talk, *_ = asked(lab, Talk("toy", ("M_1", "M_0"), blind=True), answer)
    assert playground._next(talk, "toy", ["M_0", "M_1"], True).models == ("M_1", "M_0")  # nothing was told yet
    voted = playground._voted(lab, talk, "a")
    monkeypatch.setattr(playground.random, "sample", lambda names, n: sorted(names)[:n])
    following = playground._next(voted, "toy", ["M_1", "M_0"], True)
    assert (following.models, following.voted, following.blind) == (("M_0", "M_1"), "", True)
    following, answers, *_ = asked(lab, following, answer)
    told, hidden = answers.split("</section>")[:2]
    assert ("<b>M_1</b>" in told, "<b>M_0</b>" in told, "Answer " in told) == (True, True, False)
    assert ("M_0" in hidden, "M_1" in hidden) == (False, False)
    assert hidden.index("<b>Answer A</b>") < hidden.index("<b>Answer B</b>")
    assert "A was M_0, B was M_1" in playground._shown(lab, playground._voted(lab, following, "b"))[1]
    (first, second) = lab.database.rows("SELECT model_a, model_b, winner, blind FROM votes ORDER BY votes.at")
    assert (first["model_a"], second["model_a"], second["winner"], second["blind"]) == ("M_1", "M_0", "b", True)


def test_who_is_known_stays_so_when_the_oldest_turns_are_dropped(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playground, "MOST_TURNS", 2)
    talk = Talk("toy", ("M_0", "M_1"), blind=True)
    for _ in range(3):
        talk, *_ = asked(lab, talk, Models())
    talk, *_ = asked(lab, playground._next(playground._voted(lab, talk, "tie"), "toy", ["M_0", "M_1"], True), Models())
    assert (len(talk.turns), talk.known) == (3, 2)


def test_votes_of_different_readers_stand_side_by_side(lab: Lab) -> None:
    talk, *_ = asked(lab, Talk("toy", ("M_0", "M_1")), Models())
    for author, winner in ((" Ann ", "a"), ("Ben", "b"), (None, "tie")):
        playground._voted(lab, talk, winner, author)  # type: ignore[arg-type]
    noted = lab.database.rows("SELECT author, verdict FROM notes ORDER BY notes.at")
    assert [tuple(row.values()) for row in noted] == [("Ann", "chosen"), ("Ben", "rejected"), (NOBODY, "tie")]
    assert [row["author"] for row in lab.database.rows("SELECT author FROM votes ORDER BY votes.at")] == [
        "Ann",
        "Ben",
        NOBODY,
    ]


def test_an_error_is_told_in_its_place_and_cannot_be_voted_on(lab: Lab) -> None:
    failed = Reply(1, finish_reason="error", error="no room for <b>", hint="fewer tokens")
    talk, answers, voting, _ = asked(lab, Talk("toy", ("M_0", "M_1")), Models(failed))
    assert "no room for &lt;b&gt;" in answers
    assert "fewer tokens" in answers
    assert not voting.visible
    assert playground._voted(lab, talk, "a") is talk
    talk, answers, *_ = asked(lab, Talk("toy", ("M_0",)), Models(dies=True))
    assert "process ended" in answers
    assert talk.turns == ()


def test_what_cannot_be_asked_is_told(lab: Lab) -> None:
    _, answers, *_ = asked(lab, Talk("toy", ()), Models())
    assert "no model is chosen" in answers
    _, answers, *_ = asked(lab, Talk("toy", ("M_0",)), Models(), Question(""))
    assert "the prompt is empty" in answers


def test_the_form_is_read_within_its_bounds() -> None:
    question = playground._question("p", None, " a, ,b ", 0.5, 0.9, 1e9, None)
    assert (question.keywords, question.draft, question.seed) == (("a", "b"), "", 0)
    assert question.sampling.max_new_tokens == playground.MOST_TOKENS
    assert [box.visible for box in playground._fields(["M_0", "R_1"])] == [True, False]
    assert [box.visible for box in playground._fields(["G"])] == [False, True]


def test_a_lab_open_read_only_lends_the_pocket_model_alone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    visitors = Lab(lab.home, read_only=True)
    assert playground._refused(visitors, "toy") is None
    assert "read-only" in (playground._refused(visitors, "real") or "")
    _, answers, *_ = asked(visitors, Talk("real", ("M_0",)), Models())
    assert "lets nobody talk" in answers
    *_, voting, _ = asked(visitors, Talk("toy", ("M_0", "M_1")), Models())
    assert not voting.visible
    monkeypatch.setenv(playground.ALLOW, "all")
    assert playground._refused(visitors, "real") is None
    assert playground._refused(lab, "real") is None
    visitors.close()
