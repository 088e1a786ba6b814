"""Rows found by an index in memory are those that a scan of the parts finds."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from storage import Store, lookup
from storage.database import Database
from synpo_lab.records import Response, Score, Topic

TinyStore = Callable[..., Store]
ANSWERS = "SELECT * FROM responses WHERE run_id = $run_id AND prompt_id = $id ORDER BY response_id"
SCORES = (
    "SELECT * FROM scores WHERE run_id = $run_id AND response_id IN (SELECT unnest($ids)) ORDER BY response_id, aspect"
)


@pytest.fixture
def answers(small_run: list[Any]) -> list[Response]:
    return [record for record in small_run if isinstance(record, Response)]


def held(database: Database) -> list[str]:
    sql = "SELECT table_name AS name FROM duckdb_tables() WHERE schema_name = 'lookup'"
    return [row["name"] for row in database.rows(sql)]


def of_prompt(database: Database, run_id: str, prompt_id: str) -> list[dict[str, Any]]:
    which = {"run_id": run_id, "id": prompt_id}
    found = database.rows_of(run_id, "responses", "prompt_id", [prompt_id], ANSWERS, which)
    assert found == database.rows(ANSWERS, which)
    return found


def test_every_id_finds_its_rows_and_no_run_finds_another_s(
    tiny_store: TinyStore, small_run: list[Any], answers: list[Response]
) -> None:
    tiny_store(small_run, run_id="other")
    database = Database(tiny_store(small_run))
    for prompt_id in {answer.prompt_id for answer in answers}:
        assert of_prompt(database, "run", prompt_id)
    assert of_prompt(database, "other", answers[0].prompt_id)
    assert of_prompt(database, "run", "nobody's; DROP TABLE") == []
    assert len(held(database)) == 2


def test_many_ids_are_found_at_once(tiny_store: TinyStore, small_run: list[Any], answers: list[Response]) -> None:
    database = Database(tiny_store(small_run))
    ids = [answer.response_id for answer in answers[::3]]
    which = {"run_id": "run", "ids": ids}
    found = database.rows_of("run", "scores", "response_id", ids, SCORES, which)
    assert found == database.rows(SCORES, which)
    assert len(found) >= sum(isinstance(record, Score) for record in small_run) // 6


def test_new_parts_are_noticed_and_the_old_index_goes(
    tiny_store: TinyStore, small_run: list[Any], answers: list[Response]
) -> None:
    database, prompt_id = Database(tiny_store(small_run)), answers[0].prompt_id
    before = of_prompt(database, "run", prompt_id)
    database.store.run("run").append([replace(answers[0], response_id="new", iteration=2)])
    assert len(of_prompt(database, "run", prompt_id)) == len(before) + 1
    assert len(held(database)) == 1


def test_replaced_parts_are_not_looked_for(tiny_store: TinyStore, small_run: list[Any]) -> None:
    database = Database(tiny_store(small_run))
    topics = [record for record in small_run if isinstance(record, Topic)]
    sql, which = "SELECT label FROM topics WHERE prompt_id = $id", {"id": topics[0].prompt_id}

    def labels() -> list[str]:
        return [row["label"] for row in database.rows_of("run", "topics", "prompt_id", [which["id"]], sql, which)]

    assert labels() == [topics[0].label]
    database.store.run("run").replace(Topic, [replace(topic, label="another") for topic in topics])
    assert labels() == ["another"]


def test_a_table_that_is_too_large_is_read_from_its_parts(
    tiny_store: TinyStore, small_run: list[Any], answers: list[Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "MOST_ROWS", len(answers) - 1)
    database = Database(tiny_store(small_run))
    assert of_prompt(database, "run", answers[0].prompt_id)
    assert held(database) == []


def test_together_they_stay_within_the_bound(
    tiny_store: TinyStore, small_run: list[Any], answers: list[Response], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "MOST_ROWS", len(answers) * 2)
    for run_id in ("a", "b"):
        tiny_store(small_run, run_id=run_id)
    database = Database(tiny_store(small_run, run_id="c"))
    for run_id in ("a", "b", "c", "a"):
        assert of_prompt(database, run_id, answers[0].prompt_id)
        assert len(held(database)) <= 2


def test_several_threads_find_the_same(tiny_store: TinyStore, small_run: list[Any], answers: list[Response]) -> None:
    database = Database(tiny_store(small_run))
    ids = [answer.prompt_id for answer in answers[:40]]
    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(lambda prompt_id: of_prompt(database, "run", prompt_id), ids))
    assert len(held(database)) == 1


def test_a_run_without_rows_has_none(tiny_store: TinyStore) -> None:
    database = Database(tiny_store())
    for run_id in ("run", "none", "it's"):
        assert of_prompt(database, run_id, "x") == []
    assert held(database) == []
