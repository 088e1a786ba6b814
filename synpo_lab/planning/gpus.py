"""GPUs by the name people use, from their makers' data sheets: memory, dense bf16 arithmetic, memory bandwidth."""

import subprocess
from dataclasses import dataclass

from synpo_lab.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Gpu:
    name: str
    memory_gib: float
    tflops: float  # dense, bfloat16 (float16 where there is no bfloat16), tera operations per second
    bandwidth: float  # gigabytes per second


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("t4", 15, 65, 320),
        Gpu("rtx-3090", 24, 71, 936),
        Gpu("rtx-4060ti-16gb", 16, 44, 288),
        Gpu("rtx-4090", 24, 165, 1008),
        Gpu("l4", 22, 121, 300),
        Gpu("a10g", 22, 70, 600),
        Gpu("l40s", 45, 362, 864),
        Gpu("a100-40gb", 40, 312, 1555),
        Gpu("a100-80gb", 80, 312, 2039),
        Gpu("h100", 80, 989, 3350),
        Gpu("h200", 140, 989, 4800),
    )
}
_SEEN_AS = {  # parts of the name a driver tells, the longer before those they contain
    "t4": "T4", "rtx-3090": "3090", "rtx-4060ti-16gb": "4060 Ti", "rtx-4090": "4090", "l40s": "L40S", "l4": "L4",
    "a10g": "A10G", "a100-40gb": "A100-SXM4-40GB", "a100-80gb": "A100", "h200": "H200", "h100": "H100",
}  # fmt: skip


def gpu_called(name: str) -> Gpu:
    """The GPU of that name. ConfigError with the names there are."""
    if name.lower() not in GPUS:
        raise ConfigError(f"no GPU {name!r} is known here", hint=f"--gpu is one of {', '.join(GPUS)}")
    return GPUS[name.lower()]


def gpu_here() -> Gpu | None:
    """The first GPU the NVIDIA driver names, if it is one we know. Loads no torch."""
    return gpu_seen_as(driver_says())


def driver_says() -> str:
    """The name that the NVIDIA driver has for the first GPU; "" where there is none."""
    try:
        asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.partition("\n")[0].strip()


def gpu_seen_as(told: str) -> Gpu | None:
    """The GPU behind a driver's name for it."""
    return next((GPUS[name] for name, part in _SEEN_AS.items() if part.lower() in told.lower()), None)


def gpu_to_plan_for() -> tuple[Gpu, bool]:
    """This machine's GPU, or the one papers use where none that we know is here; and whether it is here."""
    here = gpu_here()
    return (here, True) if here else (GPUS["a100-80gb"], False)
