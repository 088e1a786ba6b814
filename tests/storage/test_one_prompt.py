"""One prompt, against the same picked from the records."""

from collections.abc import Callable
from typing import Any

from storage import Store
from storage.database import Database
from storage.queries.one_prompt import one_prompt, pair_of_prompt
from synpo_lab.records import Pair, Prompt


def test_a_prompt_is_found_with_its_keywords_and_its_pair(
    tiny_store: Callable[..., Store], small_run: list[Any]
) -> None:
    database = Database(tiny_store(small_run))
    for prompt in (record for record in small_run if isinstance(record, Prompt)):
        found = one_prompt(database, "run", prompt.prompt_id)
        assert found is not None
        assert (found["text"], found["keywords"], found["status"]) == (prompt.text, prompt.keywords, prompt.status)
        pairs = [one.pair_id for one in small_run if isinstance(one, Pair) and one.prompt_id == prompt.prompt_id]
        assert pair_of_prompt(database, "run", prompt.prompt_id) == next(iter(pairs), None)
    database.close()


def test_a_prompt_of_another_run_is_not_found(tiny_store: Callable[..., Store], small_run: list[Any]) -> None:
    database = Database(tiny_store(small_run))
    prompt = next(record for record in small_run if isinstance(record, Prompt))
    assert one_prompt(database, "other", prompt.prompt_id) is None
    assert pair_of_prompt(database, "other", prompt.prompt_id) is None
    database.close()
