"""Votes between two answers of the playground: one JSONL line each, and a verdict beside those on pairs."""

import json
from dataclasses import asdict, dataclass
from typing import Literal

from storage import Store
from storage.log import append_line
from synpo_lab.home import storage_errors
from synpo_lab.playground.session import Said, Turn
from synpo_lab.records import Note, content_id

Winner = Literal["a", "b", "tie", "bad"]
WINNERS: tuple[Winner, ...] = ("a", "b", "tie", "bad")
_VERDICTS: dict[Winner, Literal["chosen", "rejected", "tie", "bad"]] = {
    "a": "chosen", "b": "rejected", "tie": "tie", "bad": "bad",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Vote:
    """Which of two answers to the same prompt a reader preferred."""

    at: float  # seconds since 1970, UTC
    run_id: str
    pair_id: str  # content_id("pair", response_a, response_b): what the note is about
    prompt: str
    history: str  # JSON: the (user, model A, model B) turns before it
    model_a: str
    model_b: str
    response_a: str
    response_b: str
    answer_a: str
    answer_b: str
    sampling: str  # JSON
    seed: int
    winner: Winner  # bad: both are
    blind: bool  # the reader did not know which model wrote which
    author: str


def vote_on(
    turn: Turn,
    a: Said,
    b: Said,
    winner: Winner,
    *,
    run_id: str,
    blind: bool,
    author: str,
    at: float,
    before: list[Turn],
) -> Vote:
    """The vote on two answers of a turn."""
    history = [(old.question.prompt, _text(old, a.model), _text(old, b.model)) for old in before]
    return Vote(
        at, run_id, content_id("pair", a.response_id, b.response_id), turn.question.prompt,
        json.dumps(history, ensure_ascii=False), a.model, b.model, a.response_id, b.response_id, a.reply.text,
        b.reply.text, turn.question.sampling.model_dump_json(), turn.question.seed, winner, blind, author,
    )  # fmt: skip


def cast(store: Store, vote: Vote) -> None:
    """Keep a vote: as a line of its own, and as a reader's verdict. Raises StorageError in a home open read-only."""
    with storage_errors():
        store.check_writable()
        append_line(store.home / "playground" / "votes.jsonl", asdict(vote))
        told = f"playground: {vote.model_a} against {vote.model_b}, seed {vote.seed}"
        store.append_note(Note(vote.pair_id, _VERDICTS[vote.winner], told, vote.author, vote.at))


def _text(turn: Turn, model: str) -> str:
    said = turn.of(model)
    return said.reply.text if said else ""
