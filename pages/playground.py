"""Playground: ask the models of a run the same thing side by side, and vote blind."""

import os
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import gradio as gr
from markupsafe import Markup

from pages.components import Column, card, empty, facts, joined, pill, problem, table
from pages.shell import QUIET, Lab, Selection, acting, follow, heading, no_runs
from pages.text import count, excerpt, percent, visible
from pages.verdicts import LONGEST_NAME, author_of
from storage.queries.votes import Duel, duels
from synpo_lab.config import SamplingConfig
from synpo_lab.errors import ConfigError, LabError
from synpo_lab.home import storage_errors
from synpo_lab.judges import concord
from synpo_lab.playground import votes
from synpo_lab.playground.client import Playground
from synpo_lab.playground.session import (
    MOST_MODELS,
    MOST_TOKENS,
    Question,
    Said,
    Turn,
    check,
    models_of,
    talks,
    turn,
)

LEAD = (
    "Ask any of the run’s models the same thing, with the same seed, side by side. Or let two of them compete, blind."
)
LETTERS = "ABCD"
LONGEST = 20_000  # characters of an answer shown
MOST_TURNS = 12
ALLOW = "SYNPO_LAB_PLAYGROUND"  # "all": a lab open read-only lets visitors load its models, not only the pocket's
VOTES: dict[votes.Winner, str] = {
    "a": "A is better",
    "b": "B is better",
    "tie": "They are alike",
    "bad": "Both are bad",
}


@dataclass(frozen=True, slots=True)
class Talk:
    """One visitor's conversation. `models` in the order they are shown."""

    run_id: str | None = None
    models: tuple[str, ...] = ()
    turns: tuple[Turn, ...] = ()
    blind: bool = False
    remember: bool = True  # whether policies are told the turns before
    voted: votes.Winner | Literal[""] = ""  # the vote on the last turn
    known: int = 0  # turns, from the first, of which a vote has told who wrote what
    token: int = field(default_factory=lambda: random.getrandbits(60))  # what a cancel names


class Stops:
    """Which visitors want the models to stop."""

    def __init__(self) -> None:
        self._asked: set[int] = set()
        self._lock = threading.Lock()

    def ask(self, token: int) -> None:
        with self._lock:
            self._asked.add(token)

    def forget(self, token: int) -> None:
        with self._lock:
            self._asked.discard(token)

    def asked(self, token: int) -> bool:
        with self._lock:
            return token in self._asked


def build(lab: Lab) -> None:
    playground, stops = Playground(), Stops()
    picker = heading("Playground", LEAD)
    line = gr.HTML()
    nothing = gr.HTML(elem_id="playground-nothing", elem_classes="hide-empty")
    with gr.Column(visible=False) as content:
        with gr.Row(elem_classes="lab-filters"):
            models = gr.Dropdown(
                label="Models", info=f"at most {MOST_MODELS}", choices=[], multiselect=True, elem_id="play-models",
                scale=3, min_width=260, max_choices=MOST_MODELS,
            )  # fmt: skip
            with gr.Column(scale=2, min_width=260):
                blind = gr.Checkbox(label="Blind: who is who stays hidden until you vote", elem_id="play-blind")
                remember = gr.Checkbox(
                    label="A conversation: policies are told the turns before", elem_id="play-remember"
                )
        with gr.Row(elem_classes="lab-filters"):
            temperature = gr.Slider(0, 2, value=0.7, step=0.05, label="Temperature", info="0 is greedy", min_width=140)
            top_p = gr.Slider(0.05, 1, value=1.0, step=0.05, label="Top-p", info="nucleus", min_width=140)
            tokens = gr.Number(
                value=256, precision=0, minimum=1, maximum=MOST_TOKENS, label="At most", info="tokens of an answer",
                min_width=110,
            )  # fmt: skip
            seed = gr.Number(value=0, precision=0, minimum=0, label="Seed", info="the same for all", min_width=110)
        prompt = gr.Textbox(
            label="Prompt", lines=3, max_lines=14, placeholder="what all of them are asked", elem_id="play-prompt"
        )
        with gr.Row(elem_classes="lab-filters"):
            draft = gr.Textbox(
                label="Draft for R", info="what the improver rewrites; empty: the answer of the policy before it",
                lines=2, max_lines=10, visible=False, elem_id="play-draft",
            )  # fmt: skip
            keywords = gr.Textbox(
                label="Keywords for G", info="separated by commas", visible=False, elem_id="play-keywords"
            )
        with gr.Row(elem_classes="lab-pager"):
            ask = gr.Button("Answer", variant="primary", size="md", scale=0, min_width=140, elem_id="play-ask")
            cancel = gr.Button("Cancel", size="md", scale=0, min_width=100, elem_id="play-cancel", interactive=False)
            new = gr.Button("New conversation", size="md", scale=0, min_width=150, elem_id="play-new")
        answers = gr.HTML(elem_id="play-answers")
        with gr.Row(elem_classes="lab-pager", visible=False) as voting:
            buttons = {
                winner: gr.Button(words, size="md", scale=0, min_width=130, elem_id=f"vote-{winner}")
                for winner, words in VOTES.items()
            }
            author = gr.Textbox(
                label="Your name", placeholder="your name", elem_id="vote-author", max_length=LONGEST_NAME, scale=1,
                min_width=110, show_label=False, container=False,
            )  # fmt: skip
        wins = gr.HTML(elem_id="play-wins", elem_classes="hide-empty")
    talk, token = gr.State(Talk()), gr.State(0)
    name = gr.BrowserState("", storage_key="synpo-lab-reader", secret="synpo-lab")
    controls = [prompt, draft, keywords, temperature, top_p, tokens, seed]
    shown = [talk, answers, voting, wins]

    def fill(asked: Selection) -> list[Any]:
        refused = _refused(lab, asked.run_id)
        if asked.run_id is None or refused:
            skipped = [gr.skip()] * (4 + len(shown))
            return [refused or no_runs(lab), gr.Column(visible=False), *skipped]
        names = models_of(lab.store.run(asked.run_id))
        policies = [name for name in names if talks(name)]
        chosen = list(dict.fromkeys([policies[0], policies[-1]]))
        start = Talk(run_id=asked.run_id)
        limit = lab.config(asked.run_id).draft.max_new_tokens
        return [
            "", gr.Column(visible=True), gr.Dropdown(choices=names, value=chosen), min(limit, MOST_TOKENS),
            not lab.is_toy(asked.run_id), start.token,
            *_shown(lab, start),
        ]  # fmt: skip

    def begin(talked: Talk, run_id: str, names: list[str], is_blind: bool, is_chat: bool) -> list[Any]:
        next_talk = replace(_next(talked, run_id, names, is_blind), remember=is_chat)
        return [next_talk, next_talk.token, gr.Button(interactive=False), gr.Button(interactive=True)]

    def answer(talked: Talk, *values: Any) -> Iterator[list[Any]]:  # a generator: `told` cannot wrap one
        yield from _answer(lab, playground, stops, talked, _question(*values))

    def vote(talked: Talk, author: str | None, *, winner: votes.Winner) -> list[Any]:
        return _shown(lab, _voted(lab, talked, winner, author))

    follow(lab, picker, line, lambda run_id: True, fill, [nothing, content, models, tokens, remember, token, *shown])
    started = ask.click(begin, [talk, picker, models, blind, remember], [talk, token, ask, cancel], **QUIET)
    answered = started.then(
        answer, [talk, *controls], shown, api_visibility="private", show_progress="hidden", concurrency_limit=8
    )
    lab.app.load(lambda kept: kept, name, author, **QUIET)
    author.change(lambda typed: typed, author, name, **QUIET)
    answered.then(lambda: (gr.Button(interactive=True), gr.Button(interactive=False)), None, [ask, cancel], **QUIET)
    cancel.click(stops.ask, token, None, **QUIET)
    new.click(lambda run_id: _shown(lab, Talk(run_id=run_id)), picker, shown, **QUIET)
    models.input(_fields, models, [draft, keywords], **QUIET)
    for winner, button in buttons.items():
        button.click(acting(lab, partial(vote, winner=winner)), [talk, author], shown, **QUIET)


def _next(talked: Talk, run_id: str, names: list[str], is_blind: bool) -> Talk:
    """The talk to go on with: a new one where run, models or blindness changed.

    A blind vote has told who is who: what comes after it is blind again in another order, drawn anew.
    """
    order = tuple(random.sample(names, len(names)) if is_blind else names)
    if talked.run_id != run_id or set(talked.models) != set(names) or talked.blind != is_blind:
        return Talk(run_id, order, (), is_blind)
    if is_blind and talked.voted:
        return replace(talked, voted="", models=order, known=len(talked.turns))
    return replace(talked, voted="")


def _refused(lab: Lab, run_id: str | None) -> Markup | None:
    """Why this lab lets nobody talk to the run's models."""
    status = lab.run(run_id)
    if status is None or run_id is None:
        return None
    if status.state == "imported":
        return empty(
            "A data set has no models", "Pick a run above: its policies, improvers and prompt generator talk here."
        )
    if lab.read_only and os.environ.get(ALLOW) != "all" and not lab.is_toy(run_id):
        return empty(
            "Not in a lab open read-only",
            f"Here only the pocket model may be loaded. Whoever runs this lab can allow all with {ALLOW}=all.",
        )
    return None


def _fields(names: list[str]) -> list[Any]:
    """Draft and keywords are asked for where a model wants them."""
    return [gr.Textbox(visible=any(name[0] == letter for name in names)) for letter in "RG"]


def _question(
    prompt: str | None,
    draft: str | None,
    keywords: str | None,
    temperature: float,
    top_p: float,
    tokens: float | None,
    seed: float | None,
) -> Question:
    words = tuple(word.strip() for word in (keywords or "").split(",") if word.strip())
    most = min(max(int(tokens or 1), 1), MOST_TOKENS)
    how = SamplingConfig(temperature=temperature, top_p=top_p, max_new_tokens=most)
    return Question(prompt or "", draft or "", words, how, max(int(seed or 0), 0))


def _answer(lab: Lab, playground: Playground, stops: Stops, talked: Talk, question: Question) -> Iterator[list[Any]]:
    """The answers as they come. What goes wrong is told in their place, and nothing said before is lost."""
    last, cold = talked, playground.pid is None
    try:
        for last in _growing(lab, playground, stops, talked, question):
            loading = cold and last.turns == talked.turns
            yield [last, _talked(last, waiting=question, loading=loading), gr.Row(visible=False), gr.skip()]
    except LabError as error:
        yield [last, _talked(last) + problem(error.message, error.hint), gr.Row(visible=False), gr.skip()]
        return
    yield _shown(lab, last)


def _growing(lab: Lab, playground: Playground, stops: Stops, talked: Talk, question: Question) -> Iterator[Talk]:
    """The talk as the models answer."""
    if talked.run_id is None or _refused(lab, talked.run_id) is not None:
        raise ConfigError("this lab lets nobody talk to the models of that run", hint="pick another run")
    check(question, talked.models)
    with storage_errors():
        run, config = lab.store.run(talked.run_id), lab.config(talked.run_id)
    stops.forget(talked.token)
    before = talked.turns[-MOST_TURNS:]
    told_of = before if talked.remember else ()
    known = max(0, talked.known - len(talked.turns) + len(before))
    yield talked
    for grown in turn(playground, run, config, talked.models, question, told_of, lambda: stops.asked(talked.token)):
        yield replace(talked, turns=(*before, grown), voted="", known=known)


def _voted(lab: Lab, talked: Talk, winner: votes.Winner, author: str | None = None) -> Talk:
    """The talk with the vote on its last turn, which is kept in the lab home."""
    sides = _sides(talked)
    if sides is None or talked.voted or talked.run_id is None:
        return talked
    vote = votes.vote_on(
        talked.turns[-1], *sides, winner, run_id=talked.run_id, blind=talked.blind, author=author_of(author),
        at=time.time(), before=list(talked.turns[:-1]) if talked.remember else [],
    )  # fmt: skip
    votes.cast(lab.store, vote)
    return replace(talked, voted=winner)


def _sides(talked: Talk) -> tuple[Said, Said] | None:
    """The two answers of the last turn that can be voted on."""
    if len(talked.models) != 2 or not all(map(talks, talked.models)) or not talked.turns:
        return None
    sides = [talked.turns[-1].of(name) for name in talked.models]
    if any(said is None or said.reply.finish_reason not in {"stop", "length"} for said in sides):
        return None
    return sides[0], sides[1]  # type: ignore[return-value]


def _shown(lab: Lab, talked: Talk) -> list[Any]:
    can_vote = _sides(talked) is not None and not talked.voted and not lab.read_only
    return [talked, _talked(talked), gr.Row(visible=can_vote), _wins(lab, talked.run_id)]


def _talked(talked: Talk, waiting: Question | None = None, *, loading: bool = False) -> Markup:
    """The conversation, a row a turn, a column a model. `loading`: no model is in memory yet."""
    told_turns = [_turn(talked, place, one) for place, one in enumerate(talked.turns)]
    if waiting is not None:
        at_work = talked.turns[-1] if talked.turns and talked.turns[-1].question is waiting else None
        missing = [name for name in talked.models if at_work is None or at_work.of(name) is None]
        names = [_title(talked, name, hide=talked.blind) for name in missing[:1]]
        if missing:
            work = "is being loaded, then it answers: the first question takes longer" if loading else "is answering"
            note = Markup("<p class='lab-line'>{} {} …</p>").format(joined(names), work)
            asked = _asked(waiting) if at_work is None else Markup("")
            told_turns.append(asked + note)
    return joined(told_turns)


def _turn(talked: Talk, place: int, one: Turn) -> Markup:
    hide = talked.blind and place >= talked.known and not (talked.voted and place == len(talked.turns) - 1)
    columns = joined(_side(said, _title(talked, said.model, hide=hide, letter=place >= talked.known), hide)
                     for said in one.said)  # fmt: skip
    voted = ""
    if talked.voted and place == len(talked.turns) - 1:
        voted = Markup("<p class='lab-line'><b>{}</b> {}</p>").format(VOTES[talked.voted], _revealed(talked))
    asked = _asked(one.question)
    return Markup('<section class="lab-round">{}<div class="lab-sides n{}">{}</div>{}</section>').format(
        asked, len(one.said), columns, voted
    )


def _revealed(talked: Talk) -> str:
    return ", ".join(f"{LETTERS[place]} was {name}" for place, name in enumerate(talked.models)) if talked.blind else ""


def _asked(question: Question) -> Markup:
    text = question.prompt or ", ".join(question.keywords)
    return Markup('<p class="lab-prompt" dir="auto">{}</p>').format(visible(excerpt(text, LONGEST)))


def _title(talked: Talk, model: str, *, hide: bool, letter: bool = True) -> str:
    """`letter`: whether the answer was given in the order that holds now."""
    if not letter:
        return model
    place = talked.models.index(model) if model in talked.models else 0
    return f"Answer {LETTERS[place]}" if hide else f"{LETTERS[place]} · {model}"


def _side(said: Said, title: str, hide: bool) -> Markup:
    reply = said.reply
    if reply.finish_reason == "error":
        body: object = problem(reply.error, reply.hint)
    elif reply.finish_reason == "cancelled":
        body = Markup("<p class='lab-none'>cancelled</p>")
    else:
        body = visible(excerpt(reply.text, LONGEST)) or Markup("<p class='lab-none'>the model said nothing</p>")
    tag = pill("cut", "dropped", "it reached the longest allowed answer") if reply.finish_reason == "length" else ""
    return Markup(
        '<article class="lab-side"><header><b>{}</b>{}</header>'
        '<div class="lab-text" dir="auto" tabindex="0">{}</div>{}</article>'
    ).format(title, tag, body, "" if hide else _details(said))


def _details(said: Said) -> Markup:
    reply = said.reply
    speed = f"{reply.n_tokens / reply.seconds:,.0f}/s" if reply.seconds > 0 and reply.n_tokens else ""
    numbers = facts([("tokens", count(reply.n_tokens)), ("speed", speed), ("took", f"{reply.seconds:.1f} s")])
    return Markup(
        '<details class="lab-asked"><summary>What was sent</summary><pre dir="auto">{}</pre>{}</details>'
    ).format(visible(excerpt(said.asked, LONGEST)), numbers)


def _wins(lab: Lab, run_id: str | None) -> Markup:
    found = duels(lab.database, run_id or "")
    if not found:
        return Markup("")
    columns = [
        Column("models", lambda row: f"{row.one} against {row.other}"),
        Column("first won", lambda row: count(row.one_won), True),
        Column("second won", lambda row: count(row.other_won), True),
        Column("second preferred", _preferred, True, "of the votes that chose one, with the 95 % Wilson interval"),
        Column("alike", lambda row: count(row.ties), True),
        Column("both bad", lambda row: count(row.bad), True),
        Column("blind", lambda row: count(row.blind), True, "of all these votes"),
    ]
    return card("Votes so far", table(columns, found), note="each is kept in the lab home, as a verdict too")


def _preferred(row: Duel) -> str:
    found = concord(row.other_won, row.one_won, 0, 0)
    return f"{percent(found.share)} ({percent(found.low)} to {percent(found.high)})" if found.n else ""
