from synpo_lab.health.sides import identical_sides, near_identical_sides
from tests.health.conftest import FactsOf, a_pair, ids

WORDS = " ".join(f"word{i}" for i in range(40))


def test_only_pairs_whose_sides_are_the_same_text_are_identical(facts_of: FactsOf) -> None:
    same, near, far = a_pair(chosen="A plum.", rejected="A plum."), a_pair(chosen="A plum. "), a_pair(chosen="Kale")
    facts = facts_of([same, near, far])
    result, rows = identical_sides(facts)
    assert ids(facts, rows) == {same.pair_id}
    assert (result.found, result.share, result.judgement) == (1, 1 / 3, "trouble")


def test_near_identical_sides_differ_in_a_word_of_forty_but_not_in_half(facts_of: FactsOf) -> None:
    near, far = a_pair(chosen=WORDS, rejected=f"{WORDS} more"), a_pair(chosen=WORDS, rejected=WORDS[: len(WORDS) // 2])
    facts = facts_of([near, far, a_pair(chosen=WORDS, rejected=WORDS)])
    result, rows = near_identical_sides(facts)
    assert ids(facts, rows) == {near.pair_id}
    assert result.plot is not None
    assert sum(result.plot.heights) == 3


def test_no_pairs_are_judged_as_what_cannot_be_told(facts_of: FactsOf) -> None:
    facts = facts_of([])
    for check in (identical_sides, near_identical_sides):
        result, rows = check(facts)
        assert (result.number, result.share, result.judgement, rows, result.plot) == (None, None, "unknown", {}, None)


def test_shares_are_of_kept_pairs(facts_of: FactsOf) -> None:
    dropped = a_pair(chosen="A plum.", rejected="A plum.", kept=False)
    result, rows = identical_sides(facts_of([dropped, a_pair()]))
    assert (result.found, result.found_kept, result.share, result.judgement) == (1, 0, 0.0, "fine")
    assert len(rows) == 1
