"""The single schema: YAML files, command-line `--set`, the launch form and the stored run.yaml are all a `RunConfig`.

One model per stage. Every field says what it does and what it trades. Defaults are the paper's (SynPO, arXiv 2410.06961,
section 3.1 and appendix C; SimPO's from princeton-nlp/SimPO) wherever the paper gives one; the pocket configs in
`synpo_lab/pocket/configs/` set sizes for a laptop. A file may start from a built-in config: `base: pocket`.
"""

import difflib
import re
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from synpo_lab.errors import ConfigError


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SamplingConfig(Section):
    temperature: float = Field(0.7, ge=0, le=5, description="0 is greedy. Higher: more varied answers, more mistakes.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus: sample from the smallest set of tokens with this mass.")
    max_new_tokens: int = Field(
        1024, ge=1, description="Longest answer in tokens. Longer ones are cut and marked 'length'."
    )


class VllmConfig(Section):
    """Settings of the vllm engine."""

    gpu_memory_utilization: float = Field(
        0.9,
        gt=0,
        le=1,
        description="Share of a GPU's memory for weights and cache; a training beside it needs the rest.",
    )
    max_model_len: int | None = Field(
        None,
        ge=8,
        description="Tokens of prompt and answer together. Less: more answers at once. Default: the model's.",
    )
    max_num_seqs: int = Field(256, ge=1, description="Most answers decoded together.")
    tensor_parallel: int = Field(1, ge=1, description="GPUs that share one copy of the weights.")
    data_parallel: int = Field(1, ge=1, description="Copies of the weights, each on GPUs of its own.")
    enforce_eager: bool | None = Field(
        None, description="No compilation: starts sooner, generates slower on a GPU. Default: eager on CPU only."
    )
    prefix_caching: bool = Field(True, description="Read what prompts have in common once.")
    max_lora_rank: int = Field(
        64,
        ge=1,
        le=512,
        description="Adapters up to this rank can be served over one base; larger where the run trains such.",
    )
    cpu_cache_gib: int = Field(2, ge=1, description="Memory for keys and values on a CPU, in GiB.")


class OpenAIConfig(Section):
    """Settings of the openai engine: any server with an OpenAI-compatible /chat/completions."""

    base_url: str = Field(
        "http://127.0.0.1:8000/v1", description="Where the server answers: the address that ends before /chat."
    )
    model: str | None = Field(None, description="M_0's name on the server. Default: the first that /models lists.")
    key_variable: str = Field(
        "OPENAI_API_KEY", description="Environment variable that holds the key; its value is never stored or shown."
    )
    concurrency: int = Field(
        64, ge=1, le=4096, description="Most requests at once. Starts low, rises while all goes well, halves when not."
    )
    timeout_s: float = Field(300, gt=0, description="Seconds until a request without an answer is tried again.")
    attempts: int = Field(8, ge=1, le=100, description="Times a request is tried before it is given up.")
    trained: Literal["transformers", "vllm"] = Field(
        "transformers", description="What generates with G, R_t and M_t, which no server can load: an engine here."
    )

    @field_validator("key_variable")
    @classmethod
    def _a_variable_not_a_key(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", name):  # not repeated: it may be a key
            raise ValueError("name the environment variable that holds the key (like OPENAI_API_KEY), never the key")
        return name

    @field_validator("base_url")
    @classmethod
    def _an_address_without_secrets(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.username or parts.password or parts.query:
            raise ValueError("an address without user, password or query: keys come from the environment")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{url!r} is no http(s) address, for example http://127.0.0.1:8000/v1")
        return url.rstrip("/")


class RayConfig(Section):
    """Settings of the ray engine: the same work on the machines of a Ray cluster."""

    address: str | None = Field(
        None, description="The cluster ('auto', 'ray://host:10001'). Default: one started on this machine."
    )
    workers: int = Field(2, ge=1, description="Engines at work, each with a copy of the weights.")
    each: Literal["transformers", "vllm", "scripted"] = Field("transformers", description="What each worker runs.")
    cpus: float = Field(1, ge=0, description="CPUs reserved per worker.")
    gpus: float = Field(0, ge=0, description="GPUs reserved per worker.")
    batch: int = Field(256, ge=1, description="Requests handed to a worker at a time; a lost worker's are done again.")


class EngineConfig(Section):
    kind: Literal["transformers", "vllm", "openai", "ray", "scripted"] = Field(
        "transformers",
        description="What generates text: transformers or vllm in this process, a server, a Ray cluster, or a script.",
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: bfloat16 on CUDA, else float32."
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="Prompts decoded together (transformers). Halved when memory runs out. Default: what memory holds.",
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads. Default: the physical cores this process may use."
    )
    vllm: VllmConfig = Field(default_factory=VllmConfig, description="For kind vllm.")
    openai: OpenAIConfig = Field(default_factory=OpenAIConfig, description="For kind openai.")
    ray: RayConfig = Field(default_factory=RayConfig, description="For kind ray.")


class LoraConfig(Section):
    """Adapters in the place of full fine-tuning (LoRA, arXiv 2106.09685; QLoRA, arXiv 2305.14314)."""

    r: int = Field(
        0, ge=0, le=512, description="Rank. 0: no adapter, all weights are trained. 16 to 64 fit one small GPU."
    )
    alpha: int = Field(32, ge=1, description="What the adapter adds is scaled by alpha / r.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout on the adapter's input while training.")
    targets: list[str] = Field(
        ["all-linear"],
        min_length=1,
        description="Names of the layers that get one (q_proj, v_proj, ...); all-linear: every one but the head.",
    )
    quantize: Literal["none", "4bit"] = Field(
        "none", description="4bit: the frozen base in 4-bit NormalFloat (QLoRA); needs bitsandbytes."
    )

    @model_validator(mode="after")
    def _only_a_frozen_base_is_quantized(self) -> Self:
        if self.quantize == "4bit" and not self.r:
            raise ValueError("quantize = 4bit freezes the base: set r above 0 to train an adapter over it")
        return self


class TrainerConfig(Section):
    """Optimiser settings common to SFT and preference optimisation."""

    learning_rate: float = Field(
        1e-6, gt=0, description="Peak learning rate; the critical knob of SimPO (too high: gibberish)."
    )
    epochs: float = Field(1.0, gt=0, description="Passes over the data.")
    batch_size: int = Field(32, ge=1, description="Rows (pairs, for preference optimisation) per optimiser step.")
    micro_batch_size: int | None = Field(
        None, ge=1, description="Rows per forward pass; less memory, slower. Default: batch_size."
    )
    warmup_ratio: float = Field(0.1, ge=0, le=1, description="Share of the steps in which the learning rate rises.")
    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="How the learning rate falls after that."
    )
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradient clipping.")
    max_length: int = Field(
        2048,
        ge=8,
        description="Tokens of prompt and answer together. Longer rows lose the start of the prompt, which keeps 7/8 of "
        "this, then the end of the answer.",
    )
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Of the weights while training. auto: float32 (computing in bfloat16 on CUDA); under an adapter on CUDA "
        "as stored. bfloat16: half the memory, but steps below 1/256 of a weight are rounded away.",
    )
    gradient_checkpointing: bool | None = Field(
        None,
        description="Keep few activations, make the others again: much less memory, a third slower. "
        "Default: on CUDA from 0.5 billion parameters on.",
    )
    lora: LoraConfig = Field(default_factory=LoraConfig, description="Train an adapter instead of all weights.")


class SFTConfig(TrainerConfig):
    learning_rate: float = Field(1e-6, gt=0, description="Peak learning rate of supervised fine-tuning.")
    epochs: float = Field(3.0, gt=0, description="Passes over the data.")


# SynPO's grid, and for the others the ranges that the SimPO paper searched (arXiv 2405.14734, table 7).
DEFAULT_BETAS: dict[str, tuple[float, ...]] = {
    "simpo": (2, 4, 6, 8, 10, 12),
    "dpo": (0.01, 0.05, 0.1),
    "ipo": (0.01, 0.1, 0.5, 1),
    "orpo": (0.1, 0.5, 1, 2),
}


class SimPOConfig(TrainerConfig):
    learning_rate: float = Field(
        6e-7, gt=0, description="Peak learning rate. SimPO: 3e-7 Mistral-base, 6e-7 Llama-3-base."
    )
    batch_size: int = Field(128, ge=1, description="Pairs per optimiser step.")
    kind: Literal["simpo", "dpo", "ipo", "orpo"] = Field(
        "simpo",
        description="The preference loss. simpo and orpo need no reference; dpo and ipo compare with the model they start "
        "from.",
    )
    loss: Literal["sigmoid", "hinge"] = Field(
        "sigmoid", description="simpo: -log sigmoid(beta z), or max(0, 1 - beta z), which takes no smoothed labels."
    )
    betas: list[float] = Field(
        list(DEFAULT_BETAS["simpo"]),
        min_length=1,
        description="Grid: one training each, the best on seed validation is kept. "
        "Defaults: simpo 2 to 12, dpo 0.01 to 0.1, ipo (its tau) 0.01 to 1, orpo (its lambda) 0.1 to 2.",
    )
    gamma: float = Field(
        1.6, ge=0, description="simpo: target margin in reward units: z = mean logp gap - gamma / beta."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=0.5, description="simpo (sigmoid) and dpo: share of labels taken to be flipped."
    )
    sft_weight: float = Field(
        0.0,
        ge=0,
        description="Adds this x token cross-entropy on the chosen answer. Keeps likelihood up. orpo has its own.",
    )
    start: Literal["initial", "previous"] = Field(
        "initial", description="Train M_t from M_0 (the paper) or from M_{t-1}."
    )
    race: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="After this share of the steps each beta is validated, and those clearly worse (2 standard errors of "
        "the paired difference) are stopped. 0: all are trained to the end.",
    )

    kernel: Literal["lab", "liger", "fastest"] = Field(
        "lab",
        description="simpo: who computes the loss from the hidden states: the lab, Liger kernel (a package of its own), or "
        "whichever of the two is faster on the first batch. They differ in rounding only.",
    )

    @model_validator(mode="before")
    @classmethod
    def _a_kind_has_its_betas(cls, data: Any) -> Any:
        kind = data.get("kind") if isinstance(data, dict) and "betas" not in data else None
        return {**data, "betas": list(DEFAULT_BETAS[kind])} if isinstance(kind, str) and kind in DEFAULT_BETAS else data

    @model_validator(mode="after")
    def _labels_are_smoothed_where_that_is_defined(self) -> Self:
        takes = self.kind == "dpo" or (self.kind == "simpo" and self.loss == "sigmoid")
        if self.label_smoothing and not takes:
            what = "simpo with loss = hinge" if self.kind == "simpo" else self.kind
            raise ValueError(f"label_smoothing = {self.label_smoothing:g} has no meaning for {what}: set it to 0")
        return self

    @model_validator(mode="after")
    def _liger_computes_one_loss(self) -> Self:
        if self.kernel != "lab" and (self.kind, self.loss, self.sft_weight) != ("simpo", "sigmoid", 0):
            raise ValueError(f"kernel = {self.kernel} is for kind simpo with loss sigmoid and sft_weight 0 only")
        return self

    @model_validator(mode="after")
    def _orpo_has_one_sft_term(self) -> Self:
        if self.kind == "orpo" and self.sft_weight:
            raise ValueError("orpo has its own cross-entropy on the chosen answer (weight 1): set sft_weight to 0")
        return self

    @field_validator("betas")
    @classmethod
    def _betas_are_positive_and_told_apart(cls, betas: list[float]) -> list[float]:
        if min(betas) <= 0:
            raise ValueError(f"a beta is above 0, not {min(betas):g}")
        if len({f"{beta:g}" for beta in betas}) < len(betas):  # a model folder is named by its beta's six digits
            raise ValueError("two betas are the same to six digits")
        return betas


class TrainingConfig(Section):
    """How every training of the run is executed; what it computes does not depend on it."""

    processes: int = Field(
        1, ge=1, le=1024, description="Processes, one per GPU, started by accelerate; they share each optimiser step."
    )
    accelerate: str = Field(
        "",
        description="fsdp, zero2, or a file of `accelerate config`: shards the model over the processes. "
        "Default: each holds a whole copy (DDP).",
    )
    checkpoint_minutes: float = Field(
        10, ge=0, description="Between two checkpoints inside a training: what a crash repeats at most."
    )
    report_to: Literal["none", "tensorboard", "trackio", "wandb"] = Field(
        "none", description="Also log steps there (a package of its own; wandb leaves this machine). Off unless asked."
    )


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
        "auto", description="auto: bfloat16 on CUDA, else float32."
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
        return yaml.safe_dump(said, sort_keys=False, allow_unicode=True)


def load(source: str | Path, overrides: list[str] | None = None) -> RunConfig:
    """The config named `source` (a built-in name or a YAML file) with `key.path=value` overrides applied.

    Raises ConfigError naming every wrong key at once.
    """
    data = _read(source)
    for override in overrides or []:
        _apply(data, override)
    return parse(data, where=str(source))


def parse(data: dict[str, Any], *, where: str = "config") -> RunConfig:
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        lines = [_explain(item) for item in error.errors()]
        noun = "problem" if len(lines) == 1 else "problems"
        raise ConfigError(
            f"{where}: {len(lines)} {noun}\n  " + "\n  ".join(lines),
            hint="`synpo-lab config --schema` prints every key with its meaning and default",
        ) from None


def builtin_names() -> list[str]:
    return sorted(path.stem for path in _builtin_folder().glob("*.yaml"))


def _builtin_folder() -> Path:
    return Path(__file__).parent / "pocket" / "configs"


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.suffix not in {".yaml", ".yml"} and str(source) in builtin_names():
        path = _builtin_folder() / f"{source}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"no config {str(source)!r}: not a file, and not one of {', '.join(builtin_names())}",
            hint="give a YAML file or a built-in name, for example `synpo-lab run pocket`",
        )
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}", hint="compare with `synpo-lab config pocket`") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path} holds no mapping of keys to values", hint="an empty config is written `{}`")
    base = data.pop("base", None)
    return data if base is None else _merged(_read_base(base, path), data)


def _read_base(base: Any, path: Path) -> dict[str, Any]:
    if base not in builtin_names() or base == path.stem:
        raise ConfigError(
            f"{path}: base {base!r} is not a built-in config", hint=f"one of {', '.join(builtin_names())}"
        )
    return _read(base)


def _merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """`under` with the values of `over`; sections are merged key by key."""
    merged = dict(under)
    for key, value in over.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {override!r} is not key=value", hint="for example --set filter.min_gap=0.3")
    node = data
    *path, last = key.split(".")
    for name in path:
        child = node.setdefault(name, {})
        if not isinstance(child, dict):
            raise ConfigError(
                f"--set {override!r}: {name!r} is a value, not a section", hint="see `synpo-lab config --schema`"
            )
        node = child
    try:
        node[last] = yaml.safe_load(text)
    except yaml.YAMLError:
        node[last] = text


def _explain(item: Any) -> str:
    path = [str(part) for part in item["loc"]]
    key = ".".join(path) or "config"
    if item["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _keys_at(path[:-1]), n=1, cutoff=0.5)
        return f"{key}: unknown key" + (f" (did you mean {near[0]!r}?)" if near else "")
    if item["type"] == "value_error":  # ours: it says all there is to say
        return f"{key}: {item['ctx']['error']}"
    return f"{key}: {item['msg']} (got {item.get('input')!r})"


def _keys_at(path: list[str]) -> list[str]:
    model: type[BaseModel] = RunConfig
    for name in path:
        field = model.model_fields.get(name)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            return []
        model = field.annotation
    return list(model.model_fields)
