"""The pairs page's address says a selection and nothing gets lost on the way there and back."""

from urllib.parse import parse_qs, urlparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pages.pair_address import Asked, asked_of, pairs_address, pairs_link, written
from storage.queries import PAIR_SORTS, PairFilter, PairQuery
from storage.queries.eye_conditions import EYE_CONDITIONS
from storage.queries.pair_query import VERDICTS

WORDS = st.text(min_size=1) | st.just("all")
CHOICES = WORDS.filter(lambda word: word != "all")
GAPS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
IDS = st.lists(st.text("0123456789abcdef", min_size=1), unique=True).map(tuple)
QUERIES = st.builds(
    PairQuery,
    iteration=st.none() | st.integers(0, 999),
    kept=st.none() | st.booleans(),
    drop_reason=st.none() | CHOICES,
    min_gap=GAPS,
    max_gap=GAPS,
    search=st.none() | WORDS,
    finding=st.none() | CHOICES,
    topic=st.none() | st.integers(-1, 999),
    verdict=st.none() | st.sampled_from(list(VERDICTS)),
    eye=st.none() | st.sampled_from(list(EYE_CONDITIONS)),
    rules=st.none() | st.builds(PairFilter, min_gap=st.floats(-2, 2), max_repetition=st.floats(0, 1)),
    ids=st.none() | IDS,
)


@given(QUERIES, st.sampled_from(list(PAIR_SORTS)))
def test_a_query_comes_back_from_the_address_as_it_was(query: PairQuery, sort: str) -> None:
    assert asked_of(written(query, sort)) == Asked(query, sort)


@given(QUERIES.filter(lambda query: "\ud800" not in repr(query)))
def test_a_link_carries_the_query_through_the_encoding(query: PairQuery) -> None:
    parsed = parse_qs(urlparse(pairs_address("a run", query, pair="p")).query, keep_blank_values=True)
    values = {name: found[0] for name, found in parsed.items()}
    assert (values.pop("run"), values.pop("pair")) == ("a run", "p")
    assert asked_of(values).query == query


def test_an_empty_address_asks_for_all_pairs() -> None:
    assert asked_of({}) == asked_of({"kept": "all", "iteration": "all", "search": ""}) == Asked()
    assert asked_of({"search": "all"}).query.search == "all"
    assert pairs_address("r") == "./pairs?run=r"


@pytest.mark.parametrize(
    "values",
    [
        {"iteration": "one"},
        {"iteration": "9" * 30},
        {"kept": "perhaps"},
        {"verdict": "good"},
        {"eye": "' OR 1=1"},
        {"min_gap": "nan"},
        {"rules": "{"},
        {"rules": '{"min_gap": "wide"}'},
        {"rules": '{"nothing": 1}'},
        {"rules": "[" * 10_000},
        {"sort": "gap; DROP TABLE pairs"},
    ],
)
def test_what_makes_no_sense_is_told_and_passed_over(values: dict[str, str]) -> None:
    asked = asked_of(values)
    (name,) = values
    assert asked == Asked(faults=(f"{name}={values[name][:80]}",))


def test_a_link_s_label_is_text() -> None:
    assert pairs_link("<b>", "r", PairQuery(kept=False)) == '<a href="./pairs?run=r&amp;kept=dropped">&lt;b&gt;</a>'
