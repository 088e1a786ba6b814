"""`synpo-lab doctor`: what works on this machine, what is missing, and the line that installs it."""

import os
import platform
import shutil
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer

from synpo_lab.cli.output import AsJson, Home, print_json, print_table

NEEDED = ("gradio", "plotly", "duckdb", "pyarrow", "torch", "transformers", "accelerate", "trl", "datasets", "peft")
GIB = 2**30


def report(home: Home = None, as_json: AsJson = False) -> None:
    """Say what works on this machine, what is missing, and the line that installs it. Code 1 when something is."""
    rows = [*_machine(), *_packages(), *_devices(), *_home(home)]
    print_json(rows) if as_json else print_table(rows, ["what", "found", "hint"])
    if any(not row["ok"] for row in rows):
        raise typer.Exit(1)


def _row(what: str, found: str, *, ok: bool = True, hint: str = "") -> dict[str, Any]:
    return {"what": what, "found": found, "ok": ok, "hint": hint}


def _machine() -> Iterator[dict[str, Any]]:
    import psutil

    memory = psutil.virtual_memory()
    yield _row("python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield _row("processor", f"{psutil.cpu_count(logical=False)} cores, {os.cpu_count()} threads")
    yield _row("memory", f"{memory.available / GIB:.1f} of {memory.total / GIB:.1f} GiB free")


def _packages() -> Iterator[dict[str, Any]]:
    for name in NEEDED:
        here = find_spec(name) is not None
        hint = "" if here else "pip install -c constraints.txt -e ."
        yield _row(name, metadata.version(name) if here else "missing", ok=here, hint=hint)


def _devices() -> Iterator[dict[str, Any]]:
    if find_spec("torch") is None:
        return
    try:
        import torch
    except (ImportError, OSError) as error:
        yield _row("device", f"torch cannot be imported: {error}", ok=False, hint="pip install --force-reinstall torch")
        return
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield _row(f"cuda:{index}", f"{name}, {free / GIB:.0f} of {total / GIB:.0f} GiB free")
    if torch.backends.mps.is_available():
        yield _row("mps", "Apple GPU")
    yield _row("cpu", f"{torch.get_num_threads()} threads by default")


def _home(chosen: Path | None) -> Iterator[dict[str, Any]]:
    from synpo_lab.errors import StorageError
    from synpo_lab.home import open_home

    try:
        home = open_home(chosen)
    except StorageError as error:
        yield _row("lab home", error.message, ok=False, hint=error.hint)
        return
    yield _row("lab home", f"{home}, {shutil.disk_usage(home).free / GIB:.0f} GiB free")
