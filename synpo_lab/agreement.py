"""How often readers agree with the scorer, with the label, and with each other. Pure functions."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

from synpo_lab.records import content_id

VERDICTS = ("chosen", "rejected", "tie", "bad")
DECIDED = ("chosen", "rejected")
Z95 = 1.959963984540054  # the normal distribution's 97.5 % point


@dataclass(frozen=True, slots=True)
class Verdict:
    """One reader's latest verdict on a pair, with what the scorer made of it."""

    pair_id: str
    author: str
    verdict: str  # one of VERDICTS
    gap: float | None  # score(chosen) - score(rejected); None: nobody scored it

    @property
    def scorer(self) -> str:
        """What the scorer prefers: "chosen", "rejected", "tie", or "" where it gave no numbers."""
        if self.gap is None or math.isnan(self.gap):
            return ""
        return "tie" if self.gap == 0 else "chosen" if self.gap > 0 else "rejected"


@dataclass(frozen=True, slots=True)
class Agreement:
    """`agreed` of `n` judgements are the same; `low` and `high` bound the share (Wilson, 95 %); NaN where n is 0.

    `kappa` is Cohen's: 1 full agreement, 0 what chance alone would give; NaN where it is not defined.
    """

    n: int
    agreed: int
    share: float
    low: float
    high: float
    kappa: float


@dataclass(frozen=True, slots=True)
class ReaderAgreement:
    """One reader against the scorer (over pairs both decided) and against the label (over pairs the reader decided)."""

    author: str
    scorer: Agreement
    label: Agreement


@dataclass(frozen=True, slots=True)
class TwoReaders:
    """Two readers against each other, over the pairs both gave a verdict (ties and bad ones count as such)."""

    one: str
    other: str
    agreement: Agreement


def first_side(pair_id: str) -> str:
    """Which side of a pair blind reading shows first: "chosen" or "rejected", as the id has it, half of them each."""
    return "chosen" if int(content_id("blind", pair_id), 16) % 2 else "rejected"


def wilson(successes: float, n: int, z: float = Z95) -> tuple[float, float]:
    """The score interval of a share, 0..1 (Wilson 1927, JASA 22: 209-212); NaN where n is 0. A tie may be half a success.

    Holds near 0 and 1 too, where the normal approximation has no width left.
    """
    if n == 0:
        return math.nan, math.nan
    share, spread = successes / n, z * z / n
    centre = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / n + spread / (4 * n))
    # The ends meet the share exactly at 0 and 1; rounding must not put them past it.
    return max(0.0, min(share, (centre - half) / (1 + spread))), min(1.0, max(share, (centre + half) / (1 + spread)))


def cohens_kappa(pairs: Sequence[tuple[str, str]]) -> float:
    """(p_o - p_e) / (1 - p_e) of two raters' categories (Cohen 1960, eq. 1); NaN without pairs or when p_e is 1."""
    n = len(pairs)
    if n == 0:
        return math.nan
    one, other = Counter(a for a, _ in pairs), Counter(b for _, b in pairs)
    observed = sum(a == b for a, b in pairs) / n
    by_chance = sum(one[category] * other[category] for category in one) / n**2
    return (observed - by_chance) / (1 - by_chance) if by_chance < 1 else math.nan


def agreement(pairs: Sequence[tuple[str, str]]) -> Agreement:
    """Of judgements by two raters on the same things."""
    n, agreed = len(pairs), sum(a == b for a, b in pairs)
    low, high = wilson(agreed, n)
    return Agreement(n, agreed, agreed / n if n else math.nan, low, high, cohens_kappa(pairs))


def by_reader(verdicts: Iterable[Verdict]) -> list[ReaderAgreement]:
    """Each reader against scorer and label, the busiest first.

    The label always says "chosen", which would leave nothing to chance and kappa at 0. So for kappa the sides are named
    first and second, as blind reading shows them (`first_side`).
    """
    rows = list(verdicts)
    busiest = sorted(Counter(row.author for row in rows).items(), key=lambda item: (-item[1], item[0]))
    return [_reader(author, [row for row in rows if row.author == author]) for author, _ in busiest]


def scorer_by_verdict(verdicts: Iterable[Verdict]) -> dict[str, dict[str, int]]:
    """Readers' verdict -> what the scorer prefers ("" where it gave no score) -> judgements. Kinds not given are left out."""
    rows = list(verdicts)
    counts = {verdict: Counter(row.scorer for row in rows if row.verdict == verdict) for verdict in VERDICTS}
    return {verdict: dict(found) for verdict, found in counts.items() if found}


def between_readers(verdicts: Iterable[Verdict]) -> list[TwoReaders]:
    """Every two readers with pairs in common against each other, most pairs in common first."""
    said: dict[str, dict[str, str]] = {}
    for row in verdicts:
        said.setdefault(row.author, {})[row.pair_id] = _side(row.pair_id, row.verdict)
    found = [TwoReaders(a, b, _common(said[a], said[b])) for a, b in combinations(sorted(said), 2)]
    return sorted((two for two in found if two.agreement.n), key=lambda two: -two.agreement.n)


def _reader(author: str, rows: list[Verdict]) -> ReaderAgreement:
    decided = [row for row in rows if row.verdict in DECIDED]
    both = [row for row in decided if row.scorer in DECIDED]
    return ReaderAgreement(
        author=author,
        scorer=agreement([(_side(row.pair_id, row.verdict), _side(row.pair_id, row.scorer)) for row in both]),
        label=agreement([(_side(row.pair_id, row.verdict), _side(row.pair_id, "chosen")) for row in decided]),
    )


def _side(pair_id: str, judged: str) -> str:
    if judged not in DECIDED:
        return judged
    return "first" if judged == first_side(pair_id) else "second"


def _common(one: dict[str, str], other: dict[str, str]) -> Agreement:
    return agreement([(one[pair_id], other[pair_id]) for pair_id in sorted(one.keys() & other.keys())])
