"""The SQL page's questions are questions the console answers."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage import Store
from storage.examples import example_queries
from storage.sandbox import Console

QUESTIONS = list(example_queries())


def test_every_question_of_the_file_is_offered() -> None:
    text = Path(example_queries.__code__.co_filename).with_suffix(".sql").read_text(encoding="utf-8")
    assert len(QUESTIONS) == len(re.findall(r"^-- .+\?$", text, re.MULTILINE)) >= 8


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("run_id", ["run", None])
def test_the_console_answers_it(
    question: str, run_id: str | None, tiny_store: Callable[..., Store], small_run: list[Any]
) -> None:
    console = Console(tiny_store(small_run), children=1)
    try:
        found = console.query(example_queries(run_id)[question])
    finally:
        console.close()
    # The small run has no events.
    assert found.rows or "stage" in question


def test_a_run_id_with_a_quote_stays_one_value() -> None:
    assert "run_id = 'a''b'" in example_queries("a'b")[QUESTIONS[0]]
