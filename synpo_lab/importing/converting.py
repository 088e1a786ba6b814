"""From rows of a file to records in batches: what a second process can do with a block by itself."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa

from storage import schema
from storage.importers import Block
from synpo_lab.importing.formats import Compared, Example, Said
from synpo_lab.importing.known import Keys
from synpo_lab.importing.look import Tally, read_block
from synpo_lab.importing.plan import Reading
from synpo_lab.metrics import repetition, similarity
from synpo_lab.records import TABLES, EvalResult, Pair, Prompt, Response, Role, Score, content_id

ITERATION = 1  # imported rows are one round; round 0 is for what a run is given before its first
SUITE = "imported"  # which evaluation the annotations of a judge belong to
NO_SAMPLING = "{}"
_64_BITS = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Converted:
    """A block as records. Rows of equal key are the same record (of pairs: the same pair once more)."""

    tally: Tally
    batches: dict[str, pa.RecordBatch]  # by table
    keys: dict[str, Keys]  # of each row


@dataclass(slots=True)
class _Rows:
    """Records of one table as they are made, each with its key."""

    records: list[Any] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)

    def add(self, record: Any, key: int) -> None:
        self.records.append(record)
        self.keys.append(key)


def convert(reading: Reading, block: Block) -> Converted:
    """The block's rows as records of prompts, pairs, responses, scores and evals."""
    tally, rows = Tally(), {table: _Rows() for table in ("prompts", "responses", "scores", "evals", "pairs")}
    for example in read_block(reading, block, tally):
        _add(example, rows)
    filled = {table: one for table, one in rows.items() if one.records}
    return Converted(
        tally,
        {table: schema.to_batch(one.records, TABLES[table]) for table, one in filled.items()},
        {table: np.array(one.keys, np.uint64) for table, one in filled.items()},
    )


def _add(example: Example, rows: dict[str, _Rows]) -> None:
    prompt_id = content_id("prompt", example.prompt)
    source = f"import: {example.source}" if example.source else "import"
    prompt = Prompt(ITERATION, prompt_id, example.prompt, [], None, source, "kept", None)
    rows["prompts"].add(prompt, _key(prompt_id))
    for said in _distinct(example.answers):
        response_id = response_id_of(prompt_id, said)
        role: Role = "eval" if example.compared else "candidate"
        response = Response(ITERATION, response_id, prompt_id, role, said.model, said.text, 0, "given", NO_SAMPLING)
        rows["responses"].add(response, _key(response_id))
        _add_scores(response_id, said, example.scorer, rows["scores"])
    if example.compared is not None:
        _add_comparison(prompt_id, example.compared, example.scorer, rows["evals"])
    if example.chosen is not None and example.rejected is not None:
        pair = _pair(prompt_id, example, example.chosen, example.rejected)
        # What makes a row the same row, whoever is said to have written it; the health report asks the same.
        rows["pairs"].add(pair, _key(content_id("row", prompt_id, pair.messages, pair.chosen, pair.rejected)))


def _add_scores(response_id: str, said: Said, scorer: str, scores: _Rows) -> None:
    total = {} if said.score is None else {"total": said.score}
    for aspect, value in {**said.aspects, **total}.items():
        scores.add(Score(ITERATION, response_id, scorer, aspect, value), _key(response_id) ^ _mark(scorer, aspect))


def _add_comparison(prompt_id: str, compared: Compared, annotator: str, evals: _Rows) -> None:
    a, b, share = compared.a, compared.b, compared.preference
    a_id, b_id = response_id_of(prompt_id, a), response_id_of(prompt_id, b)
    winner: Any = "tie" if share == 0.5 else "a" if share > 0.5 else "b"
    result = EvalResult(
        ITERATION, SUITE, prompt_id, a.model, b.model, a_id, b_id, share, 1 - share, winner, len(a.text), len(b.text),
        annotator,
    )  # fmt: skip
    evals.add(result, _key(content_id("verdict", a_id, b_id, annotator)))


def _pair(prompt_id: str, example: Example, chosen: Said, rejected: Said) -> Pair:
    chosen_id, rejected_id = response_id_of(prompt_id, chosen), response_id_of(prompt_id, rejected)
    scored = chosen.score is not None and rejected.score is not None
    return Pair(
        iteration=ITERATION,
        pair_id=pair_id_of(chosen_id, rejected_id, example.messages, 1),
        prompt_id=prompt_id,
        prompt=example.prompt,
        chosen_id=chosen_id,
        rejected_id=rejected_id,
        chosen=chosen.text,
        rejected=rejected.text,
        chosen_score=chosen.score,
        rejected_score=rejected.score,
        gap=chosen.score - rejected.score if scored else None,  # type: ignore[operator]
        len_chosen=len(chosen.text),
        len_rejected=len(rejected.text),
        repetition=repetition(chosen.text),
        kept=True,
        drop_reason=None,
        similarity=similarity(chosen.text, rejected.text),
        messages=example.messages,
    )


def response_id_of(prompt_id: str, said: Said) -> str:
    return content_id("response", prompt_id, said.model, said.text)


def pair_id_of(chosen_id: str, rejected_id: str, messages: str | None, time: int) -> str:
    """The id of a pair that stands in a file for the first, second, ... time."""
    told = [] if messages is None else [messages]
    return content_id("pair", chosen_id, rejected_id, *told, *([] if time == 1 else [time]))


def _distinct(answers: Iterable[Said]) -> Iterable[Said]:
    return {(said.model, said.text): said for said in reversed(list(answers))}.values()


def _key(content: str) -> int:
    return int(content, 16)


@cache
def _mark(scorer: str, aspect: str) -> int:
    return _key(content_id(scorer, aspect)) & _64_BITS
