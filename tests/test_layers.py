"""The layers: app.py -> pages -> synpo_lab -> storage, and what each of them never touches."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("app", "pages", "synpo_lab", "storage")  # from top to bottom
NEVER = {
    "storage": {"torch", "transformers", "trl", "gradio"},
    "synpo_lab": {"gradio", "duckdb"},
    "pages": {"torch", "transformers", "trl", "duckdb", "pyarrow"},
    "app": {"torch", "transformers", "trl", "duckdb", "pyarrow"},
}
LIGHT = ("storage", "storage.queries", "storage.sandbox", "synpo_lab.config", "synpo_lab.records", "synpo_lab.errors")
HEAVY = ("torch", "transformers", "trl", "gradio", "datasets")


def modules(layer: str) -> list[Path]:
    if layer == "app":
        return [path for path in [ROOT / "app.py"] if path.exists()]
    return sorted((ROOT / layer).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """The top-level names a module imports, wherever in it, with the line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name.partition(".")[0], node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            yield (node.module or "").partition(".")[0], node.lineno


def offences(layer: str, forbidden: set[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(layer)
        for name, line in imports(path)
        if name in forbidden
    ]


def test_every_layer_has_modules_to_look_at() -> None:
    assert all(modules(layer) for layer in ("synpo_lab", "storage", "pages"))


@pytest.mark.parametrize("layer", LAYERS)
def test_imports_go_one_way(layer: str) -> None:
    assert offences(layer, set(LAYERS[: LAYERS.index(layer)])) == []


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_keeps_to_its_own_tools(layer: str) -> None:
    assert offences(layer, NEVER[layer]) == []


def test_an_upward_import_would_be_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("def f():\n    from pages.lab import Lab\n    import gradio.themes as t\n    import os, torch\n")
    assert list(imports(module)) == [("pages", 2), ("gradio", 3), ("os", 4), ("torch", 4)]


@pytest.mark.parametrize("name", LIGHT)
def test_a_light_module_loads_nothing_heavy(name: str) -> None:
    code = f"import sys, {name}; print(*[heavy for heavy in {HEAVY!r} if heavy in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_worker_of_the_console_needs_duckdb_alone() -> None:
    allowed = set(sys.stdlib_module_names) | {"duckdb"}
    assert {name for name, _ in imports(ROOT / "storage" / "sandbox_worker.py")} <= allowed
