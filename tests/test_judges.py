"""Agreement of two judges from four counts."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.agreement import agreement
from synpo_lab.judges import concord

COUNTS = st.integers(0, 500)


def test_a_hand_worked_agreement() -> None:
    """60 of 80 agree: share 0.75, kappa 0.5; Wilson with z = 1.96: centre 0.7385, half width 0.0934."""
    found = concord(50, 15, 5, 10)
    assert (found.n, found.agreed, found.share, found.kappa) == (80, 60, 0.75, 0.5)
    assert (found.low, found.high) == pytest.approx((0.6452, 0.8319), abs=1e-4)


def test_nothing_judged_is_not_a_number() -> None:
    found = concord(0, 0, 0, 0)
    assert found.n == found.agreed == 0
    assert all(math.isnan(value) for value in (found.share, found.low, found.high, found.kappa))


@given(COUNTS, COUNTS, COUNTS, COUNTS)
def test_neither_the_order_of_the_judges_nor_of_the_sides_matters(a: int, b: int, c: int, d: int) -> None:
    found = repr(concord(a, b, c, d))
    assert repr(concord(a, c, b, d)) == found
    assert repr(concord(d, c, b, a)) == found


def test_kappa_is_what_cohens_tends_to_when_sides_are_named_at_random() -> None:
    rng = random.Random(0)
    cells = {("c", "c"): 4000, ("c", "r"): 1500, ("r", "c"): 500, ("r", "r"): 200}
    flip = {"c": "r", "r": "c"}
    said = [
        (a, b) if rng.random() < 0.5 else (flip[a], flip[b]) for (a, b), count in cells.items() for _ in range(count)
    ]
    assert concord(*cells.values()).kappa == pytest.approx(agreement(said).kappa, abs=0.01)
