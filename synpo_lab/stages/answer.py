"""Answers of a model to prompts: drafts, initial answers, rewrites, candidates."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from synpo_lab.config import SamplingConfig
from synpo_lab.engines.base import Check, Completion, Engine, Request, never
from synpo_lab.records import Response, Role, content_id


@dataclass(frozen=True, slots=True)
class Question:
    """One thing a model is to answer. `asked` is what the model reads; for a rewrite it holds the draft too."""

    prompt_id: str
    asked: str
    index: int = 0  # which of several samples


def answer(
    engine: Engine, questions: Iterable[Question], *, role: Role, iteration: int, sampling: SamplingConfig, seed: int,
    done: frozenset[str] | set[str] = frozenset(), check: Check = never,
) -> Iterator[Response]:  # fmt: skip
    """A response to each question whose id is not in `done`, in any order. `check` is the engine's (engines.base)."""
    told = sampling.model_dump_json()[:-1]
    open_questions: dict[str, Question] = {}

    def requests() -> Iterator[Request]:
        for question in questions:
            key = response_id(question, role, engine.name, sampling, seed)
            if key not in done and key not in open_questions:
                open_questions[key] = question
                yield Request(key, question.asked)

    for made in engine.generate(requests(), sampling, seed=seed, check=check):
        question = open_questions.pop(made.key)
        yield Response(
            iteration=iteration,
            response_id=made.key,
            prompt_id=question.prompt_id,
            role=role,
            model=engine.name,
            text=made.text,
            n_tokens=made.n_tokens,
            finish_reason=made.finish_reason,
            sampling=f'{told},"seed":{seed},"index":{question.index}{_why(made)}}}',
        )


def _why(made: Completion) -> str:
    again = ',"again":true' if made.again else ""
    return f',"error":{json.dumps(made.error)}{again}' if made.error else ""


def response_id(question: Question, role: Role, model: str, sampling: SamplingConfig, seed: int) -> str:
    """The request's identity: what was asked of whom and how. The same request gives the same answer."""
    return content_id(
        "response", question.prompt_id, question.asked, question.index, role, model, sampling.model_dump(), seed
    )
