"""How models are trained: SFT, preferences, adapters, several processes."""

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from synpo_lab.config.section import Section


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
        "whichever of the two is faster on the first batch. They differ in rounding only; but a clock decides which is "
        "faster, and a resume may decide otherwise, so only with one that is named are results the same to the last bit.",
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
