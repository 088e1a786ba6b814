"""A lab open read-only: whoever calls whichever handler, by its button or straight from the queue, changes nothing."""

import asyncio
import hashlib
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from pages import export_panel
from pages.lab import build
from tests.pages.conftest import RUN
from tests.pages.test_data import PAIRS, imported
from tests.plausible_run import write_run

ACTING = Counter(  # handler: how many events run it
    {
        "start_run": 2,  # of the overview, and of the launch form
        "plan_told": 1,  # reads what its YAML names
        "start_it": 1,
        "stop_it": 1,
        "delete_it": 1,
        "save": 1,
        "fork": 1,
        "begin": 1,  # a health check
        "start": 1,  # topics
        "start_asking": 1,
        "upload": 2,  # of the pairs page, and of the filter
        "guarded": 6,  # stop, resume, four votes: handlers bound to what they do
    }
)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a run that has stopped and an imported data set."""
    folder = tmp_path_factory.mktemp("read-only")
    imported(folder, "data", PAIRS)
    write_run(folder / "home", RUN, iterations=2, prompts=20, state="stopped")
    return folder / "home"


@pytest.fixture
def app(home: Path) -> Iterator[gr.Blocks]:
    made = build(home, read_only=True)
    yield made
    made.lab.close()


def contents(home: Path) -> dict[str, str]:
    """Every file and folder of a home, and what is in it."""
    return {
        str(path.relative_to(home)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        for path in sorted(home.rglob("*"))
    }


def asked(component: Any, given: dict[str, Any]) -> Any:
    """What the browser sends for a component: what is given for it, else what it begins with."""
    value = given.get(component.elem_id, getattr(component, "value", None))
    return "" if value is None and isinstance(component, gr.Textbox | gr.Code) else value


def call(app: gr.Blocks, one: Any, given: dict[str, Any]) -> None:
    """Run a handler as the queue does, whether its button is there or not."""
    values, request = [asked(component, given) for component in one.inputs], gr.Request(query_params={"run": RUN})
    asyncio.run(app.call_function(one, values, requests=request, in_event_listener=True))


def given(home: Path) -> dict[str, Any]:
    return {
        "run-picker": RUN,
        "data-path": str(home.parent / "data.jsonl"),
        "data-upload": [str(home.parent / "data.jsonl")],
        "data-name": "another",
        "data-which": "data",
        "filter-name": "mine",
        "fork-at": 1,
        "pairs-hub": "me/pairs",
        "filter-hub": "me/pairs",
        "sql-editor": "SELECT 1",
        "verdict-author": "ann",
    }


class OnlyToLook(subprocess.Popen):  # type: ignore[type-arg]
    """Starts the processes that answer SQL and talk in the playground, and no other."""

    def __init__(self, command: list[str], **how: Any) -> None:
        if not any("sandbox_worker" in part or "playground" in part for part in command):
            raise WentToWork(f"started {command}")
        super().__init__(command, **how)


class WentToWork(Exception):
    """A handler did more than look."""


def send(*_: Any, **__: Any) -> None:
    raise WentToWork("sent something to the Hub")


@pytest.fixture(autouse=True)
def watched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", OnlyToLook)
    monkeypatch.setattr(export_panel, "publish", send)


def test_no_handler_of_a_read_only_lab_changes_its_home_starts_a_process_or_sends_anything(
    app: gr.Blocks, home: Path
) -> None:
    before, refused = contents(home), Counter[str]()
    for one in app.fns.values():
        if one.fn is None:
            continue
        try:
            call(app, one, given(home))
        except gr.Error as error:
            refused[one.name] += "open read-only" in error.message
        assert contents(home) == before, one.name
    assert +refused == ACTING


@pytest.mark.parametrize("name", ["start_run", "start_it", "delete_it", "save", "fork", "begin", "start", "upload"])
def test_the_same_call_goes_to_work_in_a_lab_that_is_not_read_only(home: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(home, tmp_path / "home")
    app = build(tmp_path / "home")
    before = contents(tmp_path / "home")
    worked = False
    for one in (one for one in app.fns.values() if one.name == name):
        try:
            with suppress(gr.Error):  # "save" is also the name of handlers that hand out a file
                call(app, one, given(home))
        except WentToWork:
            worked = True
    assert worked or contents(tmp_path / "home") != before
    app.lab.close()


def test_a_space_is_for_looking_unless_its_owner_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for settings in (
        {},
        {"SPACE_ID": "me/lab"},
        {"SYSTEM": "spaces"},
        {"SPACE_ID": "me/lab", "SYNPO_LAB_WRITABLE": "1"},
    ):
        with monkeypatch.context() as patch:
            for name in ("SPACE_ID", "SYSTEM", "SYNPO_LAB_WRITABLE"):
                patch.delenv(name, raising=False)
            for name, value in settings.items():
                patch.setenv(name, value)
            lab = build(tmp_path).lab
            seen.append(lab.read_only)
            lab.close()
    assert seen == [False, True, True, False]
