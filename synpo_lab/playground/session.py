"""A conversation with several models of one run at once: who is asked what, in which order, with which seed."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from storage import RunStore
from synpo_lab.config import RunConfig, SamplingConfig
from synpo_lab.errors import ConfigError
from synpo_lab.playground.client import Playground
from synpo_lab.playground.wire import Ask, Model, Reply
from synpo_lab.pocket import resolve_policy
from synpo_lab.records import content_id
from synpo_lab.templates import TEMPLATES

MOST_MODELS = 4
LONGEST = 20_000  # characters of a prompt, a draft or a list of keywords
MOST_TOKENS = 4_096
INITIAL = "M_0"
_NAME = re.compile(r"M_\d+|R_\d+|G")
_ORDER = {"M": 0, "R": 1, "G": 2}


@dataclass(frozen=True, slots=True)
class Question:
    """What a visitor asks: the prompt for policies, with a draft for improvers, keywords for the prompt generator."""

    prompt: str
    draft: str = ""  # what R_t rewrites; "": the answer of M_{t-1} to the prompt
    keywords: tuple[str, ...] = ()
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Said:
    """One model's part of a turn."""

    model: str
    asked: str  # the text the model was given, after the turns before it
    reply: Reply
    response_id: str


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and what the models said to it."""

    question: Question
    said: tuple[Said, ...] = ()

    def of(self, model: str) -> Said | None:
        return next((one for one in self.said if one.model == model), None)


def models_of(run: RunStore) -> list[str]:
    """The models of a run one can talk to: M_0 and every policy, improver and generator whose weights are there."""
    made = (folder.name for folder in run.models.glob("*") if folder.is_dir() and _NAME.fullmatch(folder.name))
    return sorted({INITIAL, *made}, key=lambda name: (_ORDER[name[0]], int(name[2:] or 0)))


def talks(model: str) -> bool:
    """Whether a model answers prompts (M_t), so that it can hold a conversation."""
    return model.startswith("M_")


def check(question: Question, models: Sequence[str]) -> None:
    """Raises ConfigError for what cannot be asked, before any model is loaded."""
    if not models:
        raise ConfigError("no model is chosen", hint="choose one or more of the run's models")
    if len(models) > MOST_MODELS:
        raise ConfigError(f"{len(models)} models are chosen", hint=f"choose at most {MOST_MODELS}")
    if any(name != "G" for name in models) and not question.prompt.strip():
        raise ConfigError("the prompt is empty", hint="write what the models should answer")
    if "G" in models and not question.keywords:
        raise ConfigError(
            "G writes a prompt from keywords, and there are none", hint="give two or three, separated by commas"
        )
    longest = max(len(question.prompt), len(question.draft), sum(map(len, question.keywords)))
    if longest > LONGEST:
        raise ConfigError(f"a text of {longest:,} characters is too long here", hint=f"keep it below {LONGEST:,}")


def turn(
    playground: Playground, run: RunStore, config: RunConfig, models: Sequence[str], question: Question,
    before: Sequence[Turn] = (), given_up: Callable[[], bool] = lambda: False,
) -> Iterator[Turn]:  # fmt: skip
    """The turn as it grows, model by model. Policies remember the turns `before`; improvers and G do not.

    Raises ConfigError for what cannot be asked, EngineError when the playground's process ends.
    """
    check(question, models)
    made = Turn(question)
    for name in models:
        said = _said(playground, run, config, name, made, before, given_up)
        made = replace(made, said=(*made.said, said))
        yield made
        if said.reply.finish_reason == "cancelled":
            return


def _said(
    playground: Playground, run: RunStore, config: RunConfig, name: str, so_far: Turn, before: Sequence[Turn],
    given_up: Callable[[], bool],
) -> Said:  # fmt: skip
    question, templates = so_far.question, TEMPLATES[config.templates]
    history = _history(name, before) if talks(name) else ()
    if name == "G":
        return _ask(playground, run, config, name, question, templates.ask_for_prompt(question.keywords), (),
                    given_up, stop=templates.prompt_end)  # fmt: skip
    if talks(name):
        return _ask(playground, run, config, name, question, question.prompt, history, given_up)
    draft = question.draft
    if not draft:  # what the policy before it says to the same prompt
        writer = f"M_{int(name[2:]) - 1}"
        drafted = so_far.of(writer) or _said(playground, run, config, writer, so_far, (), given_up)
        if drafted.reply.finish_reason in {"error", "cancelled"}:
            return replace(drafted, model=name)
        draft = drafted.reply.text
    return _ask(playground, run, config, name, question, templates.ask_to_improve(question.prompt, draft), (), given_up)


def _history(model: str, before: Sequence[Turn]) -> tuple[tuple[str, str], ...]:
    """What was asked, and what this model itself said to it."""
    own = ((turn.question.prompt, turn.of(model)) for turn in before)
    return tuple((asked, said.reply.text) for asked, said in own if said is not None and said.reply.text)


def _ask(
    playground: Playground, run: RunStore, config: RunConfig, name: str, question: Question, text: str,
    history: tuple[tuple[str, str], ...], given_up: Callable[[], bool], *, stop: str | None = None,
) -> Said:  # fmt: skip
    sampling = question.sampling.model_dump()
    # The key names neither model nor history: on the same prompt and seed all models draw from the same stream.
    key = content_id("playground", question.prompt, question.keywords)
    ask = Ask(0, model_of(run, config, name), text, key, sampling, question.seed, history, stop)
    made = content_id("playground", run.run_id, name, text, history, sampling, question.seed)
    return Said(name, text, playground.ask(ask, given_up), made)


def model_of(run: RunStore, config: RunConfig, name: str) -> Model:
    """What the worker needs to load a model of the run."""
    weights: str | Path = resolve_policy(config.policy) if name == INITIAL else run.models / name
    engine: dict[str, Any] = config.engine.model_dump(mode="json")
    if engine["kind"] not in {"openai", "scripted"}:
        engine |= {"kind": "transformers"}  # one answer at a time: it loads fastest and takes the least memory
    return Model(name, str(weights), engine, config.trust_remote_code, initial=name == INITIAL)
