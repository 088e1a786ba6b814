"""The app as a whole: what it is made of, and what it must not be."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pages import lab as lab_module
from pages.lab import build
from pages.shell import PAGES, Lab
from synpo_lab.errors import ConfigError

ROOT = Path(__file__).parents[2]


def page_of_each_component(config: dict[str, Any]) -> dict[int, str]:
    return {number: path for path, page in config["page"].items() for number in page["components"]}


def test_the_pages_are_there_and_building_twice_works(tmp_path: Path) -> None:
    for _ in range(2):
        app = build(tmp_path)
        assert [path for path, *_ in app.pages] == list(PAGES)
        app.lab.close()


def test_no_event_names_a_component_of_another_page(tmp_path: Path) -> None:
    app = build(tmp_path)
    home = page_of_each_component(app.config)
    crossing = []
    for path, page in app.config["page"].items():
        events = [event for event in app.config["dependencies"] if event["id"] in page["dependencies"]]
        for event in events:
            named = [*event["inputs"], *event["outputs"], *(target for target, _ in event["targets"] if target in home)]
            crossing += [(path, event["api_name"]) for number in named if home[number] != path]
    assert crossing == []
    assert len(app.config["dependencies"]) == sum(len(page["dependencies"]) for page in app.config["page"].values())
    app.lab.close()


def test_no_plumbing_is_offered_as_an_api(tmp_path: Path) -> None:
    app = build(tmp_path)
    assert {event["api_visibility"] for event in app.config["dependencies"]} == {"private"}
    assert app.analytics_enabled is False
    app.lab.close()


def test_starting_the_app_loads_no_torch(tmp_path: Path) -> None:
    code = "import app, sys; print([name for name in ('torch', 'transformers', 'trl') if name in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"SYNPO_LAB_HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert found.stdout.strip() == "[]"


def refuse(**_: Any) -> None:
    raise OSError("Cannot find empty port in range: 7860-7860")


def test_a_taken_port_is_told_with_another_to_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = Shown(Lab(tmp_path))
    monkeypatch.setattr(shown, "launch", refuse)
    with pytest.raises(ConfigError, match=r"cannot listen on 127\.0\.0\.1:7860") as caught:
        lab_module.show(shown)
    assert "--port 7861" in caught.value.hint
    shown.lab.close()


class Shown:
    """An app that is not served: remembers how it would have been."""

    def __init__(self, lab: Any) -> None:
        self.lab = lab
        self.asked: dict[str, Any] = {}

    def launch(self, **asked: Any) -> None:
        self.asked = asked

    def block_thread(self) -> None:
        """Would wait for Ctrl-C."""


def test_the_demo_listens_to_this_machine_and_starts_a_run_unless_told_otherwise(
    counting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRADIO_SERVER_NAME", raising=False)
    monkeypatch.delenv("GRADIO_SERVER_PORT", raising=False)
    shown = Shown(Lab(counting))
    lab_module.open_demo(shown)
    assert (shown.asked["server_name"], shown.asked["server_port"]) == ("127.0.0.1", 7860)
    assert shown.asked["share"] is False
    assert shown.asked["max_file_size"] is None
    assert len(shown.lab.runs()) == 1
    monkeypatch.setenv("GRADIO_SERVER_NAME", "0.0.0.0")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "7999")
    lab_module.open_demo(shown)
    assert (shown.asked["server_name"], shown.asked["server_port"]) == ("0.0.0.0", 7999)
    assert len(shown.lab.runs()) == 1
    shown.lab.close()


def test_a_space_starts_the_run_that_its_visitors_can_only_look_at(
    counting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPACE_ID", "me/lab")
    shown = Shown(build(counting).lab)
    assert shown.lab.read_only
    lab_module.open_demo(shown)
    assert [status.state for status in shown.lab.runs()] in (["queued"], ["running"], ["finished"])
    assert shown.asked["max_file_size"] == "100mb"
    assert shown.lab.app.delete_cache == (60, 600)
    shown.lab.close()


def test_serving_starts_no_run_and_a_taken_port_ends_the_demo_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = Shown(Lab(tmp_path))
    lab_module.show(shown)
    assert shown.lab.runs() == []
    monkeypatch.setattr(shown, "launch", refuse)
    with pytest.raises(SystemExit) as caught:
        lab_module.open_demo(shown)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: cannot listen on 127.0.0.1:7860")
    assert "hint:" in said
    assert shown.lab.runs() == []
    shown.lab.close()


def test_nothing_is_loaded_from_elsewhere() -> None:
    """Fonts ship with gradio, and neither our style nor our script names another host."""
    for name in ("theme.css", "head.html"):
        text = (ROOT / "pages" / name).read_text(encoding="utf-8")
        assert "//" not in text.replace("  // ", "  ").replace("; // ", " "), name
    from pages.theme import instrument

    assert [font for font in instrument()._font_css if font and "http" in font] == []
    assert instrument()._stylesheets == []
