"""A lab home with a run in it, and a Lab that looks into it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from pages.shell import Lab
from tests.plausible_run import write_run

RUN = "pocket-20260101-1200-aaaa"


@pytest.fixture(scope="session", autouse=True)
def event_loops_closed() -> Iterator[None]:
    """Every Blocks makes two event loops where none runs (gradio.utils.safe_get_lock), and closes neither."""
    made: list[asyncio.AbstractEventLoop] = []
    make = asyncio.new_event_loop

    def record() -> asyncio.AbstractEventLoop:
        made.append(make())
        return made[-1]

    asyncio.new_event_loop = record
    yield
    asyncio.new_event_loop = make
    asyncio.set_event_loop(None)
    for loop in made:
        loop.close()


@pytest.fixture(scope="module")
def full_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one finished run of two iterations."""
    folder = tmp_path_factory.mktemp("lab")
    write_run(folder, RUN, iterations=2, prompts=40)
    return folder


@pytest.fixture
def lab(full_home: Path) -> Iterator[Lab]:
    made = Lab(full_home)
    yield made
    made.close()


@pytest.fixture
def empty_lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path / "empty")
    yield made
    made.close()
