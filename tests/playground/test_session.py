"""Who is asked what: conversations, improvers, the prompt generator, and votes."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storage import RunStore
from storage.database import Database
from storage.queries.votes import Duel, duels
from synpo_lab.config import RunConfig, SamplingConfig, parse
from synpo_lab.errors import ConfigError, StorageError
from synpo_lab.home import open_home, open_store
from synpo_lab.playground.session import LONGEST, Question, Turn, models_of, turn
from synpo_lab.playground.votes import Winner, cast, vote_on
from synpo_lab.playground.wire import Ask, Reply
from synpo_lab.records import Note
from synpo_lab.templates import TEMPLATES


class Parrot:
    """A playground whose models say their own name and what they were asked."""

    def __init__(self, *, fails: Sequence[str] = ()) -> None:
        self.asks: list[Ask] = []
        self._fails = fails

    def ask(self, ask: Ask, given_up: Callable[[], bool] = lambda: False) -> Reply:
        self.asks.append(ask)
        if given_up():
            return Reply(ask.id, finish_reason="cancelled")
        if ask.model.name in self._fails:
            return Reply(ask.id, finish_reason="error", error="no room", hint="less")
        return Reply(ask.id, f"{ask.model.name}: {ask.prompt}", 3, "stop", 0.1)


@pytest.fixture
def run(tmp_path: Path) -> RunStore:
    made = open_store(open_home(tmp_path)).create_run("r", "title: x\n", {"created_at": 1.0})
    for name in ("M_1", "M_10", "M_2", "R_1", "G", ".M_3.checkpoints", "M_1-beta=4", "notes"):
        (made.models / name).mkdir()
    return made


@pytest.fixture
def config() -> RunConfig:
    return parse({"policy": "pocket", "templates": "pocket", "engine": {"kind": "vllm"}})


def talk(run: RunStore, config: RunConfig, models: list[str], question: Question, *before: Turn, **more: Any) -> Any:
    parrot = more.pop("parrot", Parrot())
    *_, last = turn(parrot, run, config, models, question, before, **more)
    return last, parrot.asks


def test_the_models_of_a_run_are_those_whose_weights_are_there(run: RunStore) -> None:
    assert models_of(run) == ["M_0", "M_1", "M_2", "M_10", "R_1", "G"]


def test_all_policies_get_the_same_prompt_seed_and_random_stream(run: RunStore, config: RunConfig) -> None:
    question = Question("hi", sampling=SamplingConfig(temperature=0.3), seed=5)
    last, asks = talk(run, config, ["M_0", "M_2"], question)
    assert [said.model for said in last.said] == ["M_0", "M_2"]
    assert {(ask.prompt, ask.seed, ask.key, ask.sampling["temperature"]) for ask in asks} == {
        ("hi", 5, asks[0].key, 0.3)
    }
    assert asks[1].model.weights == str(run.models / "M_2")
    assert [ask.model.initial for ask in asks] == [True, False]
    assert {ask.model.engine["kind"] for ask in asks} == {"transformers"}
    assert len({said.response_id for said in last.said}) == 2


def test_each_policy_remembers_its_own_words(run: RunStore, config: RunConfig) -> None:
    first, _ = talk(run, config, ["M_0", "M_1"], Question("one"))
    _, asks = talk(run, config, ["M_0", "M_1"], Question("two"), first)
    assert [ask.history for ask in asks] == [(("one", "M_0: one"),), (("one", "M_1: one"),)]


def test_an_improver_rewrites_the_draft_or_what_the_policy_before_it_says(run: RunStore, config: RunConfig) -> None:
    templates = TEMPLATES["pocket"]
    _, asks = talk(run, config, ["R_1"], Question("ask", draft="poor"))
    assert [ask.prompt for ask in asks] == [templates.ask_to_improve("ask", "poor")]
    last, asks = talk(run, config, ["R_1"], Question("ask"))
    assert [(ask.model.name, ask.prompt) for ask in asks] == [
        ("M_0", "ask"), ("R_1", templates.ask_to_improve("ask", "M_0: ask")),
    ]  # fmt: skip
    assert [said.model for said in last.said] == ["R_1"]
    _, asks = talk(run, config, ["M_0", "R_1"], Question("ask"))
    assert [ask.model.name for ask in asks] == ["M_0", "R_1"]  # what M_0 said already is not asked again


def test_an_improver_without_a_draft_says_why_it_has_none(run: RunStore, config: RunConfig) -> None:
    last, _ = talk(run, config, ["R_1"], Question("ask"), parrot=Parrot(fails=["M_0"]))
    assert (last.said[0].model, last.said[0].reply.error) == ("R_1", "no room")


def test_the_generator_gets_keywords_and_stops_where_the_prompt_ends(run: RunStore, config: RunConfig) -> None:
    _, asks = talk(run, config, ["G"], Question("", keywords=("plum", "moon")))
    assert asks[0].prompt == TEMPLATES["pocket"].ask_for_prompt(("plum", "moon"))
    assert asks[0].stop == "solution:"
    assert asks[0].history == ()


def test_one_model_s_error_leaves_the_others_to_answer_and_a_cancel_does_not(run: RunStore, config: RunConfig) -> None:
    last, _ = talk(run, config, ["M_1", "M_2"], Question("ask"), parrot=Parrot(fails=["M_1"]))
    assert [said.reply.finish_reason for said in last.said] == ["error", "stop"]
    last, asks = talk(run, config, ["M_1", "M_2"], Question("ask"), given_up=lambda: True)
    assert [said.reply.finish_reason for said in last.said] == ["cancelled"]
    assert len(asks) == 1


@pytest.mark.parametrize(
    ("models", "question", "why"),
    [
        ([], Question("x"), "no model"),
        (["M_0"] * 5, Question("x"), "5 models"),
        (["M_0"], Question(" \n"), "empty"),
        (["G"], Question("x"), "keywords"),
        (["M_0"], Question("x" * (LONGEST + 1)), "too long"),
    ],
)
def test_what_cannot_be_asked_is_said_before_anything_is_loaded(
    models: list[str], question: Question, why: str, run: RunStore, config: RunConfig
) -> None:
    with pytest.raises(ConfigError, match=why) as caught:
        talk(run, config, models, question)
    assert caught.value.hint


def voted(run: RunStore, config: RunConfig, order: list[str], winner: Winner, *, seed: int, blind: bool = True) -> None:
    last, _ = talk(run, config, order, Question("<b>ask</b>\n\ud800", seed=seed))
    store = open_store(run.folder.parents[1])
    at = float(len(store.notes(Note)))
    vote = vote_on(last, *last.said, winner, run_id="r", blind=blind, author="ann", at=at, before=[])
    cast(store, vote)


def test_votes_are_kept_as_lines_as_verdicts_and_as_a_table(run: RunStore, config: RunConfig) -> None:
    home = run.folder.parents[1]
    voted(run, config, ["M_0", "M_2"], "b", seed=1)
    voted(run, config, ["M_2", "M_0"], "a", seed=2)
    voted(run, config, ["M_0", "M_2"], "a", seed=3, blind=False)
    voted(run, config, ["M_0", "M_2"], "tie", seed=4)
    voted(run, config, ["M_0", "M_1"], "bad", seed=5)
    voted(run, config, ["M_0", "M_2"], "a", seed=6)
    voted(run, config, ["M_2", "M_0"], "a", seed=6)  # a change of mind on the same two answers
    database = Database(open_store(home))
    assert duels(database, "r") == [
        Duel("M_0", "M_1", one_won=0, other_won=0, ties=0, bad=1, blind=1),
        Duel("M_0", "M_2", one_won=1, other_won=3, ties=1, bad=0, blind=4),
    ]
    rows = database.rows("SELECT prompt, winner, model_a FROM votes ORDER BY votes.at")
    assert [row["winner"] for row in rows] == ["b", "a", "a", "tie", "bad", "a", "a"]
    verdicts = [note.verdict for note in open_store(home).notes(Note)]
    assert verdicts == ["rejected", "chosen", "chosen", "tie", "bad", "chosen", "chosen"]
    database.close()


def test_a_home_open_read_only_takes_no_vote(run: RunStore, config: RunConfig) -> None:
    last, _ = talk(run, config, ["M_0", "M_2"], Question("ask"))
    vote = vote_on(last, *last.said, "a", run_id="r", blind=True, author="ann", at=1.0, before=[])
    with pytest.raises(StorageError, match="read-only"):
        cast(open_store(run.folder.parents[1], read_only=True), vote)
    assert not (run.folder.parents[1] / "playground").exists()


def test_the_turns_before_are_in_the_vote(run: RunStore, config: RunConfig) -> None:
    first, _ = talk(run, config, ["M_0", "M_2"], Question("one"))
    second, _ = talk(run, config, ["M_0", "M_2"], Question("two"), first)
    vote = vote_on(second, *second.said, "a", run_id="r", blind=True, author="ann", at=1.0, before=[first])
    assert vote.history == '[["one", "M_0: one", "M_2: one"]]'
    other = replace(second, question=Question("two", seed=9))
    assert vote_on(other, *other.said, "a", run_id="r", blind=True, author="a", at=1.0, before=[]).seed == 9
