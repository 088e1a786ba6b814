"""`synpo-lab doctor`: what works on this machine, what is missing, and the line that installs it."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from synpo_lab.cli.output import AsJson, Home, print_json, print_table
from synpo_lab.planning.gpus import driver_says

INSTALL = "pip install -c constraints.txt -e ."
NEEDED = ("gradio", "plotly", "duckdb", "pyarrow", "torch", "transformers", "accelerate", "datasets", "peft")
EXTRAS = {  # module: (package, what it is for)
    "bitsandbytes": ("bitsandbytes", "lora.quantize: 4bit (QLoRA)"),
    "liger_kernel": ("liger-kernel", "simpo.kernel: liger or fastest"),
    "deepspeed": ("deepspeed", "training.accelerate: zero2"),
    "sentence_transformers": ("sentence-transformers", "topics by a sentence encoder"),
    "trackio": ("trackio", "training.report_to: trackio"),
    "wandb": ("wandb", "training.report_to: wandb"),
    "tensorboard": ("tensorboard", "training.report_to: tensorboard"),
}
EXTRA_OF = {"bitsandbytes": "qlora", "liger-kernel": "liger"}  # those that the project names a range of versions for
GIB = 2**30
IMPORT_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `needed`: the lab does not work without it."""

    part: str
    what: str
    found: str
    ok: bool = True
    hint: str = ""
    needed: bool = False


def report(
    home: Home = None,
    thorough: Annotated[
        bool,
        typer.Option("--thorough", help="Also import each engine and scorer, in processes of their own. Slow, sure."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say what works on this machine, what is missing, and the line that installs it. Code 1 when something needed is."""
    found = [*_machine(), *_devices(), *_packages(), *_engines(), *_scorers(), *_extras(), *_home(home)]
    if thorough:
        found += _imports([*_engine_modules(found), *_scorer_modules()])
    if as_json:
        print_json([asdict(one) for one in found])
    else:
        print_table([_shown(one) for one in found], ["part", "what", "found", "hint"])
    if any(one.needed and not one.ok for one in found):
        raise typer.Exit(1)


def _shown(one: Finding) -> dict[str, str]:
    missing = "! " if one.needed and not one.ok else ""
    return {"part": one.part, "what": one.what, "found": missing + one.found, "hint": one.hint}


def _machine() -> Iterator[Finding]:
    import psutil

    memory = psutil.virtual_memory()
    yield Finding("machine", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Finding("machine", "processor", f"{psutil.cpu_count(logical=False)} cores, {os.cpu_count()} threads")
    yield Finding("machine", "memory", f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free")


def _devices() -> Iterator[Finding]:
    if find_spec("torch") is None:
        return
    try:
        import torch
    except (ImportError, OSError) as error:
        hint = "pip install --force-reinstall -c constraints.txt torch"
        yield Finding("device", "torch", f"cannot be imported: {error}", False, hint, needed=True)
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        with torch.cuda.device(index):
            bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        told = f"{name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free, {'bfloat16' if bf16 else 'no bfloat16'}"
        yield Finding("device", f"cuda:{index}", f"{told}, CUDA {torch.version.cuda}")
    if not torch.cuda.is_available() and (card := driver_says()):
        yield _unused(card, torch.version.cuda)
    if torch.backends.mps.is_available():
        yield Finding("device", "mps", "Apple GPU")
    yield Finding("device", "cpu", f"{torch.get_num_threads()} threads by default")


def _unused(card: str, built_for: str | None) -> Finding:
    """A GPU that the driver knows and torch does not reach, with the next step."""
    told = f"{card} is here, and torch cannot use it"
    if built_for is None:
        hint = "pip install --force-reinstall -c constraints.txt torch"
        return Finding("device", "cuda", f"{told}: it was built without CUDA", False, hint)
    if (hidden := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return Finding(
            "device", "cuda", f"{told}: CUDA_VISIBLE_DEVICES is {hidden!r}", False, "unset CUDA_VISIBLE_DEVICES"
        )
    hint = f"install an NVIDIA driver for CUDA {built_for} or later, or a torch for the driver's CUDA (nvidia-smi names it)"
    return Finding("device", "cuda", f"{told}: it was built for CUDA {built_for}", False, hint)


def _packages() -> Iterator[Finding]:
    for name, range_ in _needed().items():
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            yield Finding("package", name, "missing", False, INSTALL, needed=True)
            continue
        fits = _inside(version, range_)
        found = version if fits else f"{version}, which is not {range_}"
        yield Finding("package", name, found, fits, "" if fits else INSTALL, needed=True)


def _needed() -> dict[str, str]:
    """What the lab depends on, as its own metadata has it: the range of versions by name."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(text) for text in metadata.requires("synpo-lab") or ()]
    except metadata.PackageNotFoundError:  # a checkout that was never installed
        return dict.fromkeys(NEEDED, "")
    wanted = (one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""}))
    return {one.name: str(one.specifier) for one in wanted}


def _inside(version: str, range_: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(range_).contains(version, prereleases=True)


def _engines() -> Iterator[Finding]:
    from synpo_lab.engines import available

    for engine in available():
        found = engine.version if engine.ready else "not installed"
        needed = engine.kind == "transformers"
        yield Finding("engine", engine.kind, found, engine.ready, "" if engine.ready else engine.install, needed)


def _scorers() -> Iterator[Finding]:
    from synpo_lab.scorers import BUILT_IN, GROUP

    for name in BUILT_IN:
        yield Finding("scorer", name, "built in")
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda entry: entry.name):
        from_ = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
        try:
            entry.load()
        except Exception as error:  # of code that is not ours
            told = f"{from_}: cannot be imported: {type(error).__name__}: {error}"
            yield Finding("scorer", entry.name, told, False, "mend or remove that package")
        else:
            yield Finding("scorer", entry.name, from_)


def _extras() -> Iterator[Finding]:
    for module, (package, use) in EXTRAS.items():
        if find_spec(module) is None:
            extra = EXTRA_OF.get(package)
            how = f"pip install -c constraints.txt -e '.[{extra}]'" if extra else f"pip install {package}"
            yield Finding("extra", package, f"not installed; for {use}", False, how)
        else:
            yield Finding("extra", package, f"{metadata.version(package)}; for {use}")


def _engine_modules(found: list[Finding]) -> list[str]:
    return [one.what for one in found if one.part == "engine" and one.ok and find_spec(one.what)]


def _scorer_modules() -> list[str]:
    from synpo_lab.scorers import OF_MODELS

    return sorted({module for module, _ in OF_MODELS.values()})


def _imports(modules: list[str]) -> Iterator[Finding]:
    for module in modules:
        try:
            done = subprocess.run(
                [sys.executable, "-c", f"import {module}"], capture_output=True, text=True, timeout=IMPORT_SECONDS, check=False
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            yield Finding(
                "import", module, f"not done in {IMPORT_SECONDS:.0f} s", False, f'python -c "import {module}"'
            )
            continue
        said = next(iter(done.stderr.strip().splitlines()[-1:]), f"code {done.returncode}")
        if done.returncode:
            yield Finding("import", module, said, False, f'python -c "import {module}" shows the whole story')
        else:
            yield Finding("import", module, "can be imported")


def _home(chosen: Path | None) -> Iterator[Finding]:
    from synpo_lab.errors import StorageError
    from synpo_lab.home import open_home

    try:
        home = open_home(chosen)
    except StorageError as error:
        yield Finding("home", "lab home", error.message, False, error.hint, needed=True)
        return
    yield Finding("home", "lab home", f"{home}, {shutil.disk_usage(home).free / GIB:.0f} GiB free")
