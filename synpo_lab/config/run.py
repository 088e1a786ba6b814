"""A whole run: its sections, and what they must not say of one another."""

from typing import Literal, Self

from pydantic import Field, model_validator

from synpo_lab.config.engine import EngineConfig, SamplingConfig
from synpo_lab.config.section import Section
from synpo_lab.config.stages import (
    EvaluationConfig,
    EyeConfig,
    FilterConfig,
    ImproverConfig,
    KeywordsConfig,
    PairingConfig,
    PoolConfig,
    PromptsConfig,
    SamplesConfig,
    ScorerConfig,
    SourceConfig,
    ValidationConfig,
)
from synpo_lab.config.training import SFTConfig, SimPOConfig, TrainerConfig, TrainingConfig
from synpo_lab.yaml_text import to_yaml

_OF_AN_IMPORT = {"recipe", "title", "policy", "seeds", "iterations", "filter", "source"}


class RunConfig(Section):
    """Everything a run is. The same file runs it again."""

    recipe: Literal["synpo", "seed-sft", "seed-simpo", "sampling-ranking", "import"] = Field(
        "synpo", description="The method; import makes a data set of `source` and uses no model."
    )
    title: str = Field("", description="A name for people.")
    seed: int = Field(0, ge=0, description="Every random choice follows from it.")
    policy: str = Field("pocket", description="M_0: 'pocket', a local model folder, or 'hub:OWNER/NAME'.")
    seeds: str = Field(
        "pocket",
        description="Seed rows: 'pocket', a JSONL file with 'prompt' and 'gold', a folder that `datasets` reads, or "
        "hub:OWNER/NAME, with :SPLIT behind it where that is not train.",
    )
    seeds_limit: int | None = Field(None, ge=1, description="Use only the first so many seeds.")
    iterations: int = Field(4, ge=1, le=100, description="Rounds.")
    templates: Literal["paper", "pocket"] = Field("paper", description="Which instruction texts G and R_t are given.")
    chat_template: str = Field(
        "",
        description="For a policy without a chat template: 'plain', or a Jinja file. Default: the policy's own.",
    )
    trust_remote_code: bool = Field(
        False, description="Let the model folder run its own code. Off unless you know the folder."
    )
    engine: EngineConfig = Field(default_factory=EngineConfig, description="Generation.")
    keywords: KeywordsConfig = Field(default_factory=KeywordsConfig, description="Where keyword lists come from.")
    prompts: PromptsConfig = Field(default_factory=PromptsConfig, description="Synthetic prompts.")
    draft: SamplingConfig = Field(default_factory=SamplingConfig, description="How M_0 and M_{t-1} answer.")
    improver: ImproverConfig = Field(default_factory=ImproverConfig, description="R_t.")
    pairing: PairingConfig = Field(default_factory=PairingConfig, description="Which answers make a pair.")
    samples: SamplesConfig = Field(default_factory=SamplesConfig, description="Sampling-Ranking only.")
    scorer: ScorerConfig = Field(default_factory=ScorerConfig, description="Who gives the numbers.")
    filter: FilterConfig = Field(default_factory=FilterConfig, description="Which pairs are kept.")
    pool: PoolConfig = Field(default_factory=PoolConfig, description="What an iteration trains on.")
    sft: SFTConfig = Field(default_factory=SFTConfig, description="The seed-sft recipe's training.")
    simpo: SimPOConfig = Field(default_factory=SimPOConfig, description="Preference optimisation.")
    training: TrainingConfig = Field(default_factory=TrainingConfig, description="How trainings are executed.")
    validation: ValidationConfig = Field(default_factory=ValidationConfig, description="Choice of beta.")
    evaluation: EvaluationConfig = Field(default_factory=EvaluationConfig, description="Win rate against M_0.")
    source: SourceConfig = Field(default_factory=SourceConfig, description="The import recipe only: the files.")
    eye: EyeConfig = Field(default_factory=EyeConfig, description="Which pairs the trained policy is asked about.")

    @model_validator(mode="after")
    def _noise_leaves_a_keyword(self) -> Self:
        if self.keywords.noise >= self.keywords.per_prompt:
            raise ValueError(
                f"keywords.noise = {self.keywords.noise} leaves no real keyword of {self.keywords.per_prompt}"
            )
        return self

    @model_validator(mode="after")
    def _a_pair_has_two_sides(self) -> Self:
        if not self.improver.enabled and self.pairing.rejected == "draft":
            raise ValueError("improver.enabled = false and pairing.rejected = draft pair the draft with itself")
        return self

    @model_validator(mode="after")
    def _answers_leave_room_for_their_prompts(self) -> Self:
        sides = {"draft.max_new_tokens": self.draft.max_new_tokens}
        if self.recipe == "synpo" and self.improver.enabled:
            sides["improver.sampling.max_new_tokens"] = self.improver.sampling.max_new_tokens
        name, longest = max(sides.items(), key=lambda side: side[1])
        if self.recipe in ("synpo", "seed-simpo", "sampling-ranking") and longest >= self.simpo.max_length:
            raise ValueError(
                f"simpo.max_length = {self.simpo.max_length} has no room for a prompt beside an answer of "
                f"{name} = {longest}"
            )
        return self

    @model_validator(mode="after")
    def _batches_can_be_divided(self) -> Self:
        processes = self.training.processes
        for name, section in self.trainings.items():
            step = (section.micro_batch_size or 1) * processes
            if section.batch_size % step:
                micro = f"{name}.micro_batch_size = {section.micro_batch_size}" if section.micro_batch_size else ""
                among = f"training.processes = {processes}" if processes > 1 else ""
                by = " x ".join(filter(None, (micro, among)))
                raise ValueError(f"{by} does not divide {name}.batch_size = {section.batch_size}")
        return self

    @model_validator(mode="after")
    def _an_adapter_that_is_trained_on_keeps_its_rank(self) -> Self:
        own, policys = self.improver.train.lora, self.simpo.lora
        goes_on = self.recipe == "synpo" and self.improver.enabled and self.improver.start == "previous"
        if goes_on and self.iterations > 1 and own.r and policys.r and (own.r, own.alpha) != (policys.r, policys.alpha):
            raise ValueError(
                f"improver.start = previous trains the adapter of M_(t-1) on: improver.train.lora has r = {own.r} and "
                f"alpha = {own.alpha}, simpo.lora r = {policys.r} and alpha = {policys.alpha}; give both the same"
            )
        return self

    @model_validator(mode="after")
    def _beta_is_not_chosen_on_training_rows(self) -> Self:
        if self.recipe == "seed-simpo" and len(self.simpo.betas) > 1 and self.validation.share == 0:
            raise ValueError("seed-simpo trains on all seeds when validation.share = 0: none is left to choose beta")
        return self

    @property
    def trainings(self) -> dict[str, TrainerConfig]:
        """The sections of the trainings that the recipe makes."""
        every = {
            "prompts.train": (self.prompts.train, {"synpo", "sampling-ranking"}),
            "improver.train": (self.improver.train, {"synpo"} if self.improver.enabled else set[str]()),
            "sft": (self.sft, {"seed-sft"}),
            "simpo": (self.simpo, {"synpo", "sampling-ranking", "seed-simpo"}),
        }
        return {name: section for name, (section, recipes) in every.items() if self.recipe in recipes}

    @property
    def largest_lora(self) -> int:
        """The largest rank of the adapters that its trainings make, 0 when they make none."""
        return max((section.lora.r for section in self.trainings.values()), default=0)

    def to_yaml(self) -> str:
        said = self.model_dump(mode="json", include=_OF_AN_IMPORT if self.recipe == "import" else None)
        return to_yaml(said)
