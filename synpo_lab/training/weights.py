"""What a training starts from, and what it leaves: a model to be changed, with an adapter or without, and its saving."""

import copy
import json
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

from synpo_lab.config import LoraConfig, TrainerConfig
from synpo_lab.engines.adapters import ADAPTER_CONFIG, Adapter, adapter_of, tokenizer_of
from synpo_lab.errors import MissingExtra, TrainingError
from synpo_lab.models import (
    HUB,
    check_tokenizer,
    load_base,
    load_model,
    on_device,
    reading,
    save_model,
    stored_dtype,
)

Base = str | Path | tuple[Any, Any]  # a model folder, 'hub:OWNER/NAME', or a loaded (model, tokenizer)


@dataclass(frozen=True, slots=True)
class Trainee:
    """A model on its device, its tokenizer, and the dtype in which its weights are to be saved (an adapter: its own)."""

    model: Any
    tokenizer: Any
    stored: torch.dtype | None

    def save(self, out: Path, state: dict[str, Any] | None = None) -> Path:
        """Write the model, or its adapter, to `out`. It leaves the accelerator, which the next stage wants to itself."""
        if state is not None:
            state = {name: tensor.to(self.stored) for name, tensor in state.items()} if self.stored else state
        elif self.stored is None:
            self.model.to("cpu")
        else:
            self.model.to("cpu", self.stored)
        return save_model(self.model, self.tokenizer, out, state)


def load_trainee(base: Base, config: TrainerConfig, device: torch.device, *, trust_remote_code: bool) -> Trainee:
    """A copy of `base` that may be changed, without dropout of its own. `config.lora` decides what of it is trained.

    A base that is an adapter is trained on as an adapter where config.lora asks for one, else merged. Raises ModelError
    for a base that cannot be used, MissingExtra for an absent bitsandbytes, TrainingError for an adapter that fits not.
    """
    dtype = _dtype(base, config, device, trust_remote_code)
    model, tokenizer = _loaded(base, config.lora, dtype, device, trust_remote_code)
    _without_dropout(model)
    if not config.lora.r:
        stored = _stored(base, trust_remote_code)
        return Trainee(model.to(dtype).requires_grad_(True), tokenizer, stored)  # merging an adapter left it frozen
    return Trainee(
        _adapted(model, base, config.lora).eval(), tokenizer, None
    )  # peft hands it over with dropout at work


def _loaded(
    base: Base, lora: LoraConfig, dtype: torch.dtype, device: torch.device, trust_remote_code: bool
) -> tuple[Any, Any]:
    if isinstance(base, tuple):
        return on_device(copy.deepcopy(base[0]), device, "given"), check_tokenizer(base[1], where="the model")
    tokenizer = tokenizer_of(base, trust_remote_code=trust_remote_code)
    name: Any = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}[dtype]
    if lora.r and (_adapter(base) or lora.quantize == "4bit"):
        return _frozen_base(base, lora, dtype, device, trust_remote_code), tokenizer
    return load_model(base, device=str(device), dtype=name, trust_remote_code=trust_remote_code), tokenizer


def _frozen_base(
    base: str | Path, lora: LoraConfig, dtype: torch.dtype, device: torch.device, trust_remote_code: bool
) -> Any:
    """What an adapter stands on, alone, in 4 bits where that is asked for."""
    how = _in_four_bits(device) if lora.quantize == "4bit" else {}
    if _adapter(base):
        model = load_base(Path(base), dtype, trust_remote_code=trust_remote_code, **how)
    else:
        name = str(base).removeprefix(HUB)
        how |= {"dtype": dtype, "trust_remote_code": trust_remote_code}
        model = reading(base, "model", lambda: AutoModelForCausalLM.from_pretrained(name, **how))
    return model.eval() if lora.quantize == "4bit" else on_device(model, device, str(base)).eval()


def _in_four_bits(device: torch.device) -> dict[str, Any]:
    if find_spec("bitsandbytes") is None:
        raise MissingExtra(
            "lora.quantize = 4bit needs the package bitsandbytes, which is not installed",
            hint="pip install bitsandbytes, or set lora.quantize: none (the base then takes four times the memory)",
        )
    from transformers import BitsAndBytesConfig

    compute = torch.bfloat16 if device.type == "cuda" else torch.float32
    four = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=compute
    )
    return {"quantization_config": four, "device_map": {"": device}}


def _adapted(model: Any, base: Base, lora: LoraConfig) -> Any:
    """`model` with a new adapter, or with the one in `base` when that is an adapter folder. Only it is trained."""
    import peft

    if lora.quantize == "4bit":
        model = peft.prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
    if not isinstance(base, tuple) and (adapter := _adapter(base)):
        return _asking_nobody(_gone_on(model, adapter, lora))
    targets = "all-linear" if lora.targets == ["all-linear"] else lora.targets
    asked = peft.LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets, task_type="CAUSAL_LM"
    )
    try:
        return _asking_nobody(peft.get_peft_model(model, asked))
    except ValueError as error:
        names = sorted({name.rpartition(".")[2] for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)})
        raise TrainingError(
            f"no adapter fits lora.targets = {lora.targets}: {str(error).splitlines()[0]}",
            hint=f"name some of the model's linear layers ({', '.join(names)}), or all-linear",
        ) from None


def _asking_nobody(model: Any) -> Any:
    """peft, saving, would look on the hub whether the base's vocabulary has grown; ours has not."""
    model.save_pretrained = partial(model.save_pretrained, save_embedding_layers=False)
    return model


def _gone_on(model: Any, adapter: Adapter, lora: LoraConfig) -> Any:
    """`model` with the adapter of that folder, to be trained on as `lora` says. Raises TrainingError where it differs."""
    import peft

    _check_it_fits(adapter, lora)
    wanted = _named(model, lora.targets)
    config = peft.PeftConfig.from_pretrained(str(adapter.folder))
    config.lora_dropout = lora.dropout
    held = peft.PeftModel.from_pretrained(model, str(adapter.folder), is_trainable=True, config=config)
    found = {name for name, m in held.get_base_model().named_modules() if isinstance(m, peft.tuners.lora.LoraLayer)}
    if found != wanted:
        layers = sorted({name.rpartition(".")[2] for name in found})
        raise TrainingError(
            f"the adapter {adapter.folder} is on {', '.join(layers)}; training on with lora.targets = {lora.targets} would "
            "need another",
            hint=f"set lora.targets: [{', '.join(layers)}] in every training that starts from it",
        )
    held.peft_config["default"].base_model_name_or_path = adapter.base.removeprefix(HUB)
    return held


def _named(model: Any, targets: list[str]) -> set[str]:
    """The layers that peft takes `targets` to mean."""
    head = model.get_output_embeddings()
    if targets == ["all-linear"]:
        return {name for name, m in model.named_modules() if isinstance(m, torch.nn.Linear | Conv1D) and m is not head}
    return {name for name, _ in model.named_modules() if any(f".{name}".endswith(f".{target}") for target in targets)}


def _check_it_fits(adapter: Adapter, lora: LoraConfig) -> None:
    held = json.loads((adapter.folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
    r, alpha = held.get("r"), held.get("lora_alpha")
    if (r, alpha) != (lora.r, lora.alpha):
        raise TrainingError(
            f"the adapter {adapter.folder} has r = {r} and alpha = {alpha}; training on with lora.r = {lora.r} and "
            f"lora.alpha = {lora.alpha} would need another",
            hint=f"set lora.r: {r} and lora.alpha: {alpha} in every training that starts from it; or, where it is M_{{t-1}}, "
            "start: initial",
        )


def _adapter(base: Base) -> Adapter | None:
    return None if isinstance(base, tuple) else adapter_of(base)


def _dtype(base: Base, config: TrainerConfig, device: torch.device, trust_remote_code: bool) -> torch.dtype:
    if config.dtype != "auto":
        return torch.float32 if config.dtype == "float32" else torch.bfloat16
    if not config.lora.r or device.type != "cuda":
        return torch.float32
    return _stored(base, trust_remote_code)


def _stored(base: Base, trust_remote_code: bool) -> torch.dtype:
    if isinstance(base, tuple):
        dtype: torch.dtype = base[0].dtype
        return dtype
    return stored_dtype(base, trust_remote_code=trust_remote_code)


def _without_dropout(model: torch.nn.Module) -> None:
    """Also where a layer keeps a rate for F.dropout (OPT, BLOOM), or drops whole layers."""
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        for name, value in list(vars(module).items()):
            if isinstance(value, float) and ("dropout" in name or name == "layerdrop"):
                setattr(module, name, 0.0)
