"""What each stage of a run makes or decides."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from synpo_lab.config.engine import EngineConfig, SamplingConfig
from synpo_lab.config.section import Section
from synpo_lab.config.training import SFTConfig


class KeywordsConfig(Section):
    source: str = Field(
        "seeds",
        description="'seeds' (words of the seed prompts), 'pocket', a text file with one paragraph per line, a folder that "
        "`datasets` reads, or hub:OWNER/NAME (streamed).",
    )
    paragraphs: int = Field(
        1_000_000, ge=1, description="Read at most so many texts of the source. The paper: 1M paragraphs of RefinedWeb."
    )
    per_prompt: int = Field(3, ge=1, le=12, description="Keywords per list, the noise included.")
    noise: int = Field(
        1,
        ge=0,
        le=2,
        description="How many of them come from another text. Noise makes G robust, too much makes it wander.",
    )


class PromptsConfig(Section):
    per_iteration: int = Field(36_000, ge=1, description="Keyword lists given to G per iteration, before any filter.")
    target: Literal["prompt_and_solution", "prompt"] = Field(
        "prompt_and_solution", description="What G learns to write. The paper: both; only the prompt is used."
    )
    sampling: SamplingConfig = Field(default_factory=lambda: SamplingConfig(), description="How G writes.")  # noqa: PLW0108
    validator: Literal["format", "pocket"] = Field(
        "format", description="Which prompts are usable: 'format' (parsed, not empty, not huge) or 'pocket'."
    )
    train: SFTConfig = Field(default_factory=SFTConfig, description="Training of G, once, from M_0.")


class ImproverConfig(Section):
    enabled: bool = Field(True, description="Off: the chosen answer is the draft itself (an ablation).")
    start: Literal["initial", "previous"] = Field(
        "initial", description="Train R_t from M_0 (the paper) or from M_{t-1}."
    )
    min_gap: float = Field(0.02, description="Improver rows need score(gold) - score(model's answer) above this.")
    drafts_per_seed: int = Field(
        1,
        ge=1,
        le=64,
        description="Answers sampled per seed for the improver's rows. The paper: 1 of each of 18k seeds.",
    )
    sampling: SamplingConfig = Field(default_factory=SamplingConfig, description="How R_t rewrites.")
    train: SFTConfig = Field(default_factory=SFTConfig, description="Training of R_t, each iteration.")


class JudgeConfig(Section):
    """Settings of the scorers judge and pairwise-judge."""

    engine: EngineConfig = Field(
        default_factory=EngineConfig, description="What the judge is asked with; kind openai asks a server."
    )
    sampling: SamplingConfig = Field(
        default_factory=lambda: SamplingConfig(temperature=0, max_new_tokens=512),
        description="How it answers. Greedy: the same verdict twice.",
    )


class ScorerConfig(Section):
    name: str = Field(
        "rubric",
        description="Which scorer gives the numbers: rubric (the pocket world's), length, reward-model, multi-objective, "
        "pairwise (PairRM), judge, pairwise-judge, implicit, or one registered by entry point.",
    )
    model: str | None = Field(
        None, description="The scorer's model: a folder or hub:OWNER/NAME (a judge behind a server: its name there)."
    )
    revision: str | None = Field(None, description="Commit or tag of a hub model. Stored with every score.")
    reference: str | None = Field(None, description="implicit: the policy whose log-probs are subtracted.")
    trust_remote_code: bool = Field(
        False, description="Let the scorer's repository run its own code. ArmoRM needs none. Off unless you know it."
    )
    aspects: list[str] = Field([], description="multi-objective: names of the objectives. Default: ArmoRM's own 19.")
    batch_size: int = Field(16, ge=1, description="Answers read together. Halved when memory runs out.")
    max_length: int = Field(4096, ge=16, description="Tokens of prompt and answer; longer prompts lose their start.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 on CUDA (float16 before Ampere), else float32."
    )
    judge: JudgeConfig = Field(default_factory=JudgeConfig, description="For judge and pairwise-judge.")

    @model_validator(mode="after")
    def _a_judge_has_one_name(self) -> Self:
        engine = self.judge.engine
        served = engine.openai.model if engine.kind == "openai" and self.name in {"judge", "pairwise-judge"} else None
        if served and self.model and served != self.model:
            raise ValueError(
                f"model = {self.model} and judge.engine.openai.model = {served} are two names for the judge: leave one out"
            )
        return self


class FilterConfig(Section):
    """Which pairs are kept. A rule is off when it is null (false, an empty list); storage/pair_filter.py is what it means."""

    min_gap: float | None = Field(
        0.02,
        description="Keep a pair if score(chosen) - score(rejected) is above this. The paper: 0.02 ArmoRM, 0.20 PairRM.",
    )
    max_gap: float | None = Field(None, description="Drop a pair if the gap is above this: too easy to teach anything.")
    min_chosen_score: float | None = Field(None, description="Drop a pair if the chosen answer scores below this.")
    max_length_ratio: float | None = Field(
        None, gt=0, description="Drop a pair if len(chosen) / len(rejected) is above this."
    )
    min_length_ratio: float | None = Field(
        None, gt=0, description="Drop a pair if len(chosen) / len(rejected) is below this."
    )
    max_repetition: float | None = Field(
        0.5, ge=0, le=1, description="Drop a pair if more than this share of the chosen answer repeats itself."
    )
    max_similarity: float | None = Field(
        None, ge=0, le=1, description="Drop a pair if its sides have more than this share of their words in common."
    )
    drop_duplicates: bool = Field(
        False, description="Drop a pair if an earlier one of the run has the same prompt and the same two answers."
    )
    verdicts: list[Literal["bad", "rejected", "tie"]] = Field(
        [], description="Drop a pair if some reader's latest verdict on it is one of these, when the filter runs."
    )
    where: str | None = Field(
        None, description="Keep a pair only if this SQL condition over the columns of the table pairs is true."
    )

    @field_validator("where")
    @classmethod
    def _where_is_a_condition(cls, where: str | None) -> str | None:
        if where is None or not where.strip():
            return None
        from storage.condition import condition_sql  # loads DuckDB, which only a condition needs
        from storage.errors import StorageFault

        try:
            condition_sql(where)
        except StorageFault as fault:
            raise ValueError(f"{fault.message} ({fault.hint})") from None
        return where.strip()


class PoolConfig(Section):
    mode: Literal["append", "replace"] = Field(
        "append", description="Train on all pairs so far (the paper) or on this iteration's only."
    )
    pairs_per_iteration: int = Field(
        10_000, ge=1, description="Kept pairs are sampled down to this many per iteration."
    )


class PairingConfig(Section):
    rejected: Literal["initial", "draft"] = Field(
        "initial", description="The rejected side: M_0's answer (the paper) or M_{t-1}'s draft."
    )


class SamplesConfig(Section):
    n: int = Field(5, ge=2, description="Answers sampled per prompt; best over worst by the scorer.")


class ValidationConfig(Section):
    share: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Share of the seeds kept for choosing beta only. 0: all seeds also serve there, as in the paper, "
        "where preference optimisation never trains on them. A recipe that trains on seeds needs more than 0.",
    )
    limit: int | None = Field(
        None, ge=1, description="Ask at most so many of them, drawn once. Default: all, for each beta and iteration."
    )
    samples: int = Field(
        1, ge=1, le=64, description="Answers per validation seed. More: less noise in the choice, slower."
    )


class EyeConfig(Section):
    pairs: int = Field(
        1000,
        ge=0,
        description="After each training, mean log-probs of at most so many pairs of the pool under M_0 and M_t are kept for "
        "the Trainer's eye page. 0 turns it off. Two forward passes per pair and model.",
    )
    dropped: int = Field(
        250,
        ge=0,
        description="The same for at most so many of the iteration's pairs that were not trained on: how M_t ranks what it "
        "has not seen.",
    )


class EvaluationConfig(Section):
    suite: str = Field(
        "none", description="'pocket', 'none', or a JSONL/JSON file with a 'prompt' (or 'instruction') per row."
    )
    limit: int | None = Field(None, ge=1, description="Use only the first so many prompts.")
    sampling: SamplingConfig = Field(default_factory=SamplingConfig, description="How both models answer.")


class SourceConfig(Section):
    """Where the rows of an import come from."""

    paths: list[str] = Field(
        [],
        max_length=2,
        description="A file, a folder or hub:OWNER/NAME; or two files of answers: the first rejected, the second chosen.",
    )
    format: str = Field("auto", description="auto, or the name of a format (`synpo-lab import --help` lists them).")
    columns: dict[str, str] = Field(
        {}, description="What is taken from which column where its name does not tell: {prompt: question}."
    )
