"""Files to fetch do not pile up."""

import gc
import os
import time
from pathlib import Path

import pytest

from pages.downloads import Downloads
from pages.export_panel import SHAPES, written
from pages.shell import Lab
from storage.queries import PairQuery
from synpo_lab.errors import StorageError
from tests.pages.conftest import RUN


@pytest.fixture(autouse=True)
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    return tmp_path / "served"


def handed_out(downloads: Downloads, name: str, size: int = 10, age: float = 0.0) -> Path:
    path = downloads.path(name)
    path.write_bytes(b"x" * size)
    for one in (path, path.parent):
        os.utime(one, (time.time() - age, time.time() - age))
    return path


def test_a_file_is_served_from_where_it_is_made_and_goes_after_ten_minutes(served: Path) -> None:
    downloads = Downloads()
    old, young = handed_out(downloads, "a.csv", age=601), handed_out(downloads, "a.csv", age=500)
    assert old.is_relative_to(served)  # gradio copies what lies elsewhere
    assert old.parent != young.parent
    latest = downloads.path("b.csv")
    assert [path.exists() for path in (old.parent, young, latest.parent)] == [False, True, True]


def test_a_file_that_is_still_being_written_stays() -> None:
    downloads = Downloads()
    long_since = downloads.path("slow.jsonl")
    with long_since.open("wb") as file:
        os.utime(long_since.parent, (0, 0))
        file.write(b"x")
        file.flush()
        downloads.path("other.csv")
        assert long_since.exists()


def test_what_waits_to_be_fetched_is_bounded_and_others_are_asked_to_wait() -> None:
    now = time.time()
    downloads = Downloads(most=1_000_000, clock=lambda: now)
    handed_out(downloads, "big.jsonl", size=1_200_000)
    with pytest.raises(StorageError, match="downloads wait") as fault:
        downloads.path("more.jsonl")
    assert "minutes" in fault.value.hint
    now += 601
    assert downloads.path("more.jsonl").parent.is_dir()


def test_the_folder_goes_with_what_made_it() -> None:
    downloads = Downloads()
    folder = downloads.folder
    handed_out(downloads, "a.csv")
    del downloads
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize("format", SHAPES.values())
def test_an_export_leaves_one_file(lab: Lab, format: str) -> None:
    path, _ = written(lab, RUN, PairQuery(), format, chat=False)
    assert list(path.parent.iterdir()) == [path]
