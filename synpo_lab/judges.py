"""How far two judges of preference pairs agree, from how often each prefers which side. Pure."""

import math
from dataclasses import dataclass

from synpo_lab.agreement import wilson


@dataclass(frozen=True, slots=True)
class Concord:
    """`agreed` of `n` pairs that both judges decided; `low` and `high` bound the share (Wilson, 95 %); NaN where n is 0.

    `kappa` is chance-corrected with the sides named at random, so that a judge who always prefers the chosen side is not
    called uninformative: chance is then one half, and kappa = 2 share - 1 (Bennett's S; Cohen's kappa tends to it).
    """

    n: int
    agreed: int
    share: float
    low: float
    high: float
    kappa: float


def concord(both: int, first: int, second: int, neither: int) -> Concord:
    """Of the four cells of two judges: both prefer the chosen side, only the first does, only the second, neither."""
    n, agreed = both + first + second + neither, both + neither
    low, high = wilson(agreed, n)
    share = agreed / n if n else math.nan
    return Concord(n, agreed, share, low, high, 2 * share - 1)
