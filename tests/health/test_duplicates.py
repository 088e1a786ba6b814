from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.health.duplicates import conflicting_labels, exact_duplicates
from synpo_lab.health.facts import Facts
from tests.health.conftest import FactsOf, a_pair, ids


def test_every_occurrence_of_a_row_but_one_is_a_duplicate(facts_of: FactsOf) -> None:
    same = [a_pair(number=i) for i in range(3)]
    facts = facts_of([*same, a_pair(prompt="Name a tool."), a_pair(chosen="A plum. ")])
    result, rows = exact_duplicates(facts)
    assert len(rows) == 2
    assert ids(facts, rows) < {pair.pair_id for pair in same}
    (first,) = {pair.pair_id for pair in same} - ids(facts, rows)
    assert {detail for _, detail in rows.values()} == {f"same as {first}"}
    assert {value for value, _ in rows.values()} == {3.0}
    assert result.plot is not None
    assert dict(zip(result.plot.labels, result.plot.heights, strict=True)) == {"2": 0, "3": 1, "4": 0, "5 or more": 0}


def test_two_pairs_that_prefer_the_opposite_conflict_and_name_each_other(facts_of: FactsOf) -> None:
    one, other = a_pair(), a_pair(chosen="A trumpet.", rejected="A plum.")
    elsewhere = a_pair(prompt="Name a tool.", chosen="A trumpet.", rejected="A plum.")
    facts = facts_of([one, other, elsewhere, a_pair(prompt="p", chosen="x", rejected="x")])
    result, rows = conflicting_labels(facts)
    assert ids(facts, rows) == {one.pair_id, other.pair_id}
    told = {facts.id_of(row): detail for row, (_, detail) in rows.items()}
    assert told == {
        one.pair_id: f"the other way round in {other.pair_id}",
        other.pair_id: f"the other way round in {one.pair_id}",
    }
    assert result.found == 2


def test_no_pairs_hold_no_duplicates(facts_of: FactsOf) -> None:
    facts = facts_of([])
    assert exact_duplicates(facts)[1] == conflicting_labels(facts)[1] == {}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_duplicates_and_conflicts_are_those_that_comparing_all_with_all_finds(sides: list[tuple[int, int]]) -> None:
    facts = facts_with_keys(sides)
    again = {i for i, side in enumerate(sides) if side in sides[:i]}
    against = {i for i, (a, b) in enumerate(sides) if a != b and (b, a) in sides}
    assert set(exact_duplicates(facts)[1]) == again
    assert set(conflicting_labels(facts)[1]) == against


def facts_with_keys(sides: list[tuple[int, int]]) -> Facts:
    import numpy as np

    n = len(sides)
    nothing, no = np.zeros(n), np.zeros(n, bool)
    chosen, rejected = (np.array([side[i] for side in sides], np.int64) for i in (0, 1))
    return Facts(
        iteration=np.zeros(n, np.int64), pair_id=[str(i) for i in range(n)], kept=~no, len_chosen=nothing,
        len_rejected=nothing, chosen_score=nothing, rejected_score=nothing, gap=nothing, similarity=nothing,
        identical=chosen == rejected, empty_chosen=no, empty_rejected=no, cut_chosen=no, cut_rejected=no,
        prompt_key=np.zeros(n, np.int64), row_key=10 * chosen + rejected, swapped_key=10 * rejected + chosen,
        lot=np.arange(n),
    )  # fmt: skip
