"""A LoRA adapter of random weights over a tiny model, as training writes it."""

from pathlib import Path
from typing import Any

import torch

from synpo_lab.models import load_model


def save_adapter(base: Path, folder: Path, *, seed: int = 1, rank: int = 8, **more: Any) -> Path:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    config = LoraConfig(r=rank, lora_alpha=4 * rank, target_modules=["q_proj", "v_proj", "gate_proj"], **more)
    adapted = get_peft_model(load_model(base, device="cpu"), config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.3)
    adapted.save_pretrained(str(folder))
    return folder
