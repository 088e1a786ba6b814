"""What everything speaks. Every stage takes and yields these; the store writes them as they are.

Records are frozen and flat. Their ids are content hashes (`content_id`), so making the same thing twice makes the same
record, and a later record refers to an earlier one by its id. The run a record belongs to is the folder it lies in.
Within an iteration a record is told from another of its type by `key`, or by `identity` where the key repeats.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import ClassVar, Literal

Role = Literal["gold", "initial", "draft", "improved", "candidate", "eval"]
Trainee = Literal["generator", "improver", "policy"]


def content_id(*parts: object) -> str:
    """16 hex digits that depend on nothing but `parts` (JSON-able values, in order)."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Seed:
    """A (prompt, gold answer) row the run is given."""

    key: ClassVar[str] = "seed_id"
    iteration: int  # always 0: seeds are given once
    seed_id: str  # content_id("prompt", prompt), so a seed and an equal prompt share their id
    prompt: str
    gold: str
    split: Literal["train", "validation"]  # validation rows choose beta and are never trained on


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt, synthetic or held out for evaluation, kept or not."""

    key: ClassVar[str] = "prompt_id"
    iteration: int  # the round that made it; 0 for evaluation prompts
    prompt_id: str  # content_id("prompt", text); for a dropped prompt also the keyword list, since texts repeat
    text: str  # what the prompt generator wrote, tags removed
    keywords: list[str]  # the list it was written from, in the order given to the generator
    noise_keyword: str | None  # the member of `keywords` that came from elsewhere; two are joined by ", "
    source: str  # "generator", "seed", "persona", ... or "eval:<suite>"
    status: Literal["kept", "dropped", "held-out"]
    drop_reason: str | None  # malformed, invalid, duplicate, evaluation, seed, unanswered


@dataclass(frozen=True, slots=True)
class Response:
    """One answer of one model to one prompt."""

    key: ClassVar[str] = "response_id"
    iteration: int  # the round that needed it
    response_id: str  # hash of the request (prompt, role, model, sampling), so that a finished request is recognised
    prompt_id: str  # a Prompt or a Seed
    role: Role
    model: str  # "M_0", "M_2", "R_1", "gold"
    text: str
    n_tokens: int  # generated tokens, the end token included
    finish_reason: Literal["stop", "length", "given", "error"]  # error: no answer, text is ""; nothing is made of it
    sampling: str  # JSON: temperature, top_p, max_new_tokens, seed, index, and for an error its reason


@dataclass(frozen=True, slots=True)
class Score:
    """One number a scorer gave a response. `aspect` "total" is the one the filter uses."""

    key: ClassVar[str] = "response_id"
    identity: ClassVar[tuple[str, ...]] = ("response_id", "scorer", "aspect")
    iteration: int
    response_id: str
    scorer: str
    aspect: str
    value: float


@dataclass(frozen=True, slots=True)
class Pair:
    """A preference pair with the filter's decision. All pairs are stored, kept or not."""

    key: ClassVar[str] = "pair_id"
    iteration: int
    pair_id: str  # content_id("pair", chosen_id, rejected_id)
    prompt_id: str
    prompt: str
    chosen_id: str
    rejected_id: str
    chosen: str
    rejected: str
    chosen_score: float | None  # None: nobody scored it (imported data)
    rejected_score: float | None
    gap: float | None  # chosen_score - rejected_score
    len_chosen: int  # characters
    len_rejected: int  # characters
    repetition: float  # 0..1: share of the chosen answer that repeats itself
    kept: bool  # the trainer of this iteration reads it
    drop_reason: str | None  # the first rule that refused it, None when kept
    similarity: float | None = None  # 0..1: share of words the two sides have in common (metrics.similarity)
    duplicate: bool = False  # an earlier pair of the run has the same prompt and the same two answers
    messages: str | None = None  # JSON: the prompt's messages where it is more than one user turn, else None


@dataclass(frozen=True, slots=True)
class TrainStep:
    """One logged optimiser step."""

    key: ClassVar[str] = "step"
    identity: ClassVar[tuple[str, ...]] = ("trainee", "variant", "step")
    iteration: int
    trainee: Trainee
    variant: str  # which run of a grid: "beta=4", or "" where there is no grid
    step: int
    loss: float
    lr: float
    grad_norm: float | None
    reward_margin: float | None  # beta x (mean logp chosen - mean logp rejected), batch mean
    reward_accuracy: float | None  # share of pairs with reward chosen > reward rejected
    logp_chosen: float | None  # nats per token
    logp_rejected: float | None  # nats per token
    tokens_per_s: float | None


@dataclass(frozen=True, slots=True)
class EvalResult:
    """One prompt of one comparison: the policy under test against its opponent."""

    key: ClassVar[str] = "prompt_id"
    identity: ClassVar[tuple[str, ...]] = (
        "suite",
        "prompt_id",
        "model_a",
        "model_b",
        "response_a",
        "response_b",
        "annotator",
    )
    iteration: int
    suite: str  # "pocket", "validation", ...
    prompt_id: str
    model_a: str  # under test
    model_b: str  # its opponent, M_0 unless said
    response_a: str  # response_id
    response_b: str  # response_id
    score_a: float
    score_b: float
    winner: Literal["a", "b", "tie"]
    len_a: int  # characters
    len_b: int  # characters
    annotator: str = ""  # who judged, in imported annotations; "" for the run's scorer


@dataclass(frozen=True, slots=True)
class PairLogp:
    """What a policy thinks of a pair: the trainer's eye. Mean log-probs are per response token, the end token included."""

    key: ClassVar[str] = "pair_id"
    identity: ClassVar[tuple[str, ...]] = ("pair_id", "model")
    iteration: int  # the round whose policy is asked; that round's dropped pairs are among them
    pair_id: str
    model: str  # "M_0", or the policy M_t of that round
    logp_chosen: float  # nats per token
    logp_rejected: float  # nats per token
    beta: float  # of the training that made M_t: reward = beta x mean log-prob (SimPO, eq. 4)
    gamma: float  # target margin in reward units


@dataclass(frozen=True, slots=True)
class Topic:
    """Where a prompt stands among the prompts of its run. Derived: made again as a whole."""

    key: ClassVar[str] = "prompt_id"
    iteration: int  # the prompt's
    prompt_id: str
    topic: int  # number of its cluster
    label: str  # the words that tell this cluster from the others (c-TF-IDF)
    x: float  # place on the map
    y: float
    novelty: float | None  # 1 - cosine similarity to the nearest seed; None without seeds
    overlap: float | None  # cosine similarity to the nearest evaluation prompt; None without any
    similarity: float | None = None  # mean cosine similarity to the others of its round (SynPO, figure 5)
    nearest_seed: str | None = None  # seed_id
    nearest_evaluation: str | None = None  # prompt_id
    kind: Literal["written", "seed", "evaluation"] = "written"  # written: by the generator, or imported


@dataclass(frozen=True, slots=True)
class Finding:
    """One row that a health check points at. Derived: made again as a whole."""

    key: ClassVar[str] = "pair_id"
    identity: ClassVar[tuple[str, ...]] = ("kind", "pair_id")
    iteration: int  # the pair's
    kind: str  # "identical sides", "near-duplicate", ...
    pair_id: str
    value: float | None  # the check's number for this pair, in its own unit
    detail: str  # in words: the other pair's id, the word found, ...


@dataclass(frozen=True, slots=True)
class Event:
    """A line of the run's log. Progress events carry done and total."""

    at: float  # seconds since 1970, UTC
    stage: str
    iteration: int | None
    done: int | None
    total: int | None
    message: str
    level: Literal["info", "warning", "error"] = "info"


@dataclass(frozen=True, slots=True)
class Note:
    """A reader's verdict on a pair."""

    key: ClassVar[str] = "pair_id"
    pair_id: str
    verdict: Literal["chosen", "rejected", "tie", "bad", ""]
    text: str
    author: str
    at: float  # seconds since 1970, UTC


TABLES: dict[str, type] = {
    "seeds": Seed,
    "prompts": Prompt,
    "responses": Response,
    "scores": Score,
    "pairs": Pair,
    "train_steps": TrainStep,
    "evals": EvalResult,
    "pair_logps": PairLogp,
    "topics": Topic,
    "findings": Finding,
}
