"""One filter: what the recipe keeps, the SQL shows, its YAML says, the page asks and the trainer reads are the same pairs."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.database import Database
from storage.pair_filter import kept_sql
from storage.queries import PairQuery, pairs_page, threshold_counts
from synpo_lab import filters
from synpo_lab.config import FilterConfig, RunConfig, parse
from synpo_lab.errors import TrainingError
from synpo_lab.home import open_store
from synpo_lab.recipes.workshop import Workshop
from synpo_lab.records import Note, Pair
from synpo_lab.run import Run
from synpo_lab.stages.filter_pairs import filter_pairs, pair_filter

CUT = st.none() | st.floats(-0.5, 0.8)
RULES = st.builds(
    FilterConfig, min_gap=CUT, max_gap=st.none() | st.floats(0.3, 1), min_chosen_score=CUT,
    max_length_ratio=st.none() | st.floats(0.5, 3), min_length_ratio=st.none() | st.floats(0.1, 1),
    max_repetition=st.none() | st.floats(0, 1), max_similarity=st.none() | st.floats(0, 1),
    drop_duplicates=st.booleans(),
    verdicts=st.lists(st.sampled_from(["bad", "rejected", "tie"]), unique=True, max_size=2),
    where=st.sampled_from([None, None, "prompt LIKE '%word1%' OR gap > 0.2", "len(chosen) % 3 <> 0", "iteration = 1"]),
)  # fmt: skip


def config_with(rules: FilterConfig, quick: dict[str, str], at_most: int = 10_000) -> RunConfig:
    told: dict[str, Any] = {"filter": rules.model_dump(), "pool": {"pairs_per_iteration": at_most}, **quick}
    return parse(told | {"scorer": {"name": "length"}})


def trained_on(run: Run, config: RunConfig) -> set[str]:
    try:
        return {pair.pair_id for pair in Workshop(config, run).pool(2)}
    except TrainingError:  # it refuses to train on nothing
        return set()


@given(rules=RULES, data=st.data())
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_recipe_sql_yaml_page_and_trainer_keep_the_same_pairs(
    rules: FilterConfig,
    data: st.DataObject,
    quick: dict[str, str],
    small_run: list[Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    pairs = [unscored(record, i) for i, record in enumerate(r for r in small_run if isinstance(r, Pair))]
    said = data.draw(st.lists(st.sampled_from(["bad", "rejected", "tie", "chosen"]), min_size=6, max_size=6))
    notes = [Note(pair.pair_id, verdict, "", "ana", 1.0) for pair, verdict in zip(pairs, said, strict=False)]  # type: ignore[arg-type]
    home, config = tmp_path_factory.mktemp("home"), config_with(rules, quick)
    run = written(home, config, pairs, notes)
    database = Database(open_store(home))
    by_recipe = {pair.pair_id for pair in run.read(Pair) if pair.kept}
    by_sql = {row["pair_id"] for row in database.rows(kept_sql(pair_filter(rules), "r"))}
    again = pair_filter(filters.from_yaml(filters.as_yaml(rules)))
    by_page = {row["pair_id"] for row in pairs_page(database, "r", PairQuery(rules=again), limit=500).rows}
    assert by_recipe == by_sql == by_page == trained_on(run, config)
    assert sum(row.kept for row in threshold_counts(database, "r", again)) == len(by_recipe)
    database.close()


@pytest.mark.parametrize("at_most", [1, 3])
def test_what_is_not_sampled_is_kept_by_the_filter_and_not_read_by_the_trainer(
    at_most: int, quick: dict[str, str], small_run: list[Any], tmp_path: Path
) -> None:
    pairs = [record for record in small_run if isinstance(record, Pair)]
    config = config_with(FilterConfig(min_gap=0.0), quick, at_most)
    run = written(tmp_path, config, pairs, [])
    database = Database(open_store(tmp_path))
    by_sql = {row["pair_id"] for row in database.rows(kept_sql(pair_filter(config.filter), "r"))}
    read = trained_on(run, config)
    assert len(read) == 2 * at_most
    assert by_sql - read == {pair.pair_id for pair in run.read(Pair) if pair.drop_reason == "not sampled"}
    database.close()


def unscored(pair: Pair, place: int) -> Pair:
    """Every fifth pair has no scores, every seventh was seen before."""
    none = {"gap": None, "chosen_score": None, "rejected_score": None} if place % 5 == 0 else {}
    return replace(pair, duplicate=place % 7 == 0, **none)  # type: ignore[arg-type]


def written(home: Path, config: RunConfig, pairs: list[Pair], notes: list[Note]) -> Run:
    """A run whose pairs were decided as the recipe does."""
    store = open_store(home)
    run = Run(store.create_run("r", config.to_yaml(), {}), config)
    for note in notes:
        store.append_note(note)
    for t in (1, 2):
        mine = (pair for pair in pairs if pair.iteration == t)
        at_most = config.pool.pairs_per_iteration
        run.save(filter_pairs(mine, config.filter, at_most=at_most, seed=t, notes=run.notes(Note)))
    return run
