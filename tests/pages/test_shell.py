"""What pages share."""

import time
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from pages import shell
from pages.shell import Lab, fresh, is_alive, line_of, no_runs, nothing_yet, selection, told
from storage.errors import StorageFault
from storage.state import hold_worker_lock
from storage.store import RunStore
from synpo_lab.errors import ConfigError, StorageError
from synpo_lab.jobs.provenance import stored_config
from tests.pages.conftest import RUN
from tests.plausible_run import write_run


def request(**query: str) -> gr.Request:
    return gr.Request(query_params=query)


def test_the_address_names_the_run_and_without_one_it_is_the_newest(tmp_path: Path) -> None:
    write_run(tmp_path, "older", iterations=1, prompts=10, created_at=1_000.0)
    write_run(tmp_path, "newer", iterations=1, prompts=10, created_at=2_000.0)
    lab = Lab(tmp_path)
    chosen = [selection(lab, request(**query)).run_id for query in ({"run": "older"}, {})]
    lab.close()
    assert chosen == ["older", "newer"]


def test_who_asks_for_a_run_that_is_not_there_is_told_and_shown_the_newest(lab: Lab) -> None:
    with pytest.warns(UserWarning, match=f"no run “../&lt;b&gt;”: this is {RUN}"):
        assert selection(lab, request(run="../<b>")).run_id == RUN


def test_an_unknown_run_of_an_empty_home_is_told_too(empty_lab: Lab) -> None:
    with pytest.warns(UserWarning, match="no run “x”: there is none yet"):
        assert selection(empty_lab, request(run="x")).run_id is None


def test_without_an_address_a_run_at_work_goes_before_newer_ones_that_wait_or_have_ended(tmp_path: Path) -> None:
    for place, (run_id, state) in enumerate([("works", "running"), ("waits", "queued"), ("ended", "imported")]):
        made = write_run(tmp_path, run_id, iterations=1, prompts=10, created_at=1_000.0 * place, state=state)
        if state == "running":
            working = made.folder
    lab = Lab(tmp_path)
    with hold_worker_lock(working):
        assert selection(lab, request()).run_id == "works"
    assert selection(lab, request()).run_id == "waits"  # the other's worker is gone
    lab.close()


@pytest.mark.parametrize(
    ("text", "whole"), [("3", 3), ("0", 0), ("-1", None), ("0.5", None), ("nan", None), ("x", None), ("9" * 30, None)]
)
def test_whole_numbers_of_the_address_are_whole_numbers_or_nothing(lab: Lab, text: str, whole: int | None) -> None:
    assert selection(lab, request(n=text)).whole("n") == whole


def test_a_mistake_is_told_with_its_hint_and_without_markup_of_its_own() -> None:
    def fail() -> None:
        raise ConfigError("no config '<b>x</b>'", hint="name another")

    with pytest.raises(gr.Error) as caught:
        told(fail)()
    assert "&lt;b&gt;" in caught.value.message
    assert "name another" in caught.value.message
    assert caught.value.print_exception is False


def test_a_storage_problem_is_told_too() -> None:
    def fail() -> None:
        raise StorageFault("cannot read /x", hint="look at its rights")

    with pytest.raises(gr.Error, match="cannot read /x"):
        told(fail)()


def test_only_what_changed_is_drawn_again() -> None:
    drawn: list[str] = []
    panels: list[Any] = [("a", lambda: drawn.append("first")), ("b", lambda: drawn.append("second"))]
    _, seen = fresh(panels, [])
    fresh([panels[0], ("c", panels[1][1])], seen)
    assert drawn == ["first", "second", "second"]


def test_a_lab_knows_its_runs_and_that_a_toy_is_a_toy(lab: Lab) -> None:
    assert [status.run_id for status in lab.runs()] == [RUN]
    assert lab.run("nobody") is None
    assert lab.is_toy(RUN)
    assert not lab.is_toy(None)
    assert "toy model" in line_of(lab, RUN)
    assert not is_alive(lab.run(RUN))


def test_the_first_run_starts_by_itself_in_an_empty_home_only(counting: Path) -> None:
    lab = Lab(counting)
    run_id = lab.start_first_run()
    assert run_id is not None
    assert run_id.startswith("pocket-")
    assert lab.start_first_run() is None
    assert [status.run_id for status in lab.runs()] == [run_id]
    lab.close()


def test_a_read_only_lab_starts_nothing_and_says_how_it_is_done(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    lab = Lab(tmp_path, read_only=True)
    assert lab.start_first_run() is None
    assert "read-only" in no_runs(lab)
    lab.close()


def test_a_home_that_cannot_be_written_is_a_mistake_with_a_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError) as caught:
        Lab(tmp_path / "file" / "home")
    assert "--home" in caught.value.hint


def test_what_is_missing_says_when_it_comes_or_what_to_do(lab: Lab) -> None:
    finished = lab.run(RUN)
    assert "Resume the run" in nothing_yet(finished, "pairs", "They come later.")


def test_numbers_of_whole_stages_are_asked_for_once_a_stage(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    status = lab.run(RUN)
    assert status is not None
    first = lab.overview(status)
    assert [row.iteration for row in first] == [0, 1, 2]
    assert lab.overview(status) is first


def test_files_of_a_lab_go_with_it(tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    folder = lab.downloads.folder
    assert folder.is_dir()
    lab.close()
    del lab
    deadline = time.monotonic() + 5
    while folder.exists() and time.monotonic() < deadline:
        import gc

        gc.collect()
    assert not folder.exists()


def test_a_run_s_config_is_read_again_only_when_its_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(tmp_path, RUN, iterations=1, prompts=10)
    lab = Lab(tmp_path)
    read: list[object] = []

    def spy(run: RunStore) -> object:
        read.append(run)
        return stored_config(run)

    monkeypatch.setattr(shell, "stored_config", spy)
    first = lab.config(RUN)
    assert lab.config(RUN) == first
    assert len(read) == 1
    path = run.folder / "run.yaml"
    path.write_text(first.model_copy(update={"title": "another"}).to_yaml())
    assert lab.config(RUN).title == "another"
    lab.close()
