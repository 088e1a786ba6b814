"""Length: how much of the preference a judge that only looks at length would explain."""

import numpy as np

from synpo_lab.agreement import Z95, wilson
from synpo_lab.health.check import Check, Rows, around_zero, bars, histogram
from synpo_lab.health.facts import Facts, Floats
from synpo_lab.health.report import CheckResult, Judgement, Plot, finite

MUCH = 2.0  # times as long
FIFTHS = ("most shorter", "shorter", "about equal", "longer", "most longer")

MUCH_LONGER = Check(
    "much longer chosen", "length",
    f"The chosen answer has more than {MUCH:g} times as many characters as the rejected one: the clearest lesson of such "
    "a pair is to write more.",
    "Cap the length ratio in the filter.", 0.2, 0.5,
)  # fmt: skip


def longer_is_chosen(facts: Facts) -> tuple[CheckResult, Rows]:
    """How often the longer answer is the chosen one, among pairs of unequal length, with its 95 % interval (Wilson)."""
    difference = _difference(facts)[facts.trained_on]
    unequal = difference[difference != 0]
    n = len(unequal)
    share = float((unequal > 0).mean()) if n else None
    low, high = wilson(share * n, n) if share is not None else (None, None)
    difference = _difference(facts)
    plot = histogram(difference, "Difference in length", "characters, chosen − rejected", edges=around_zero(difference))
    told = CheckResult(
        name="longer is chosen", group="length",
        meaning="How often the longer of two answers is the chosen one. Reward models and judges favour length "
        "(Singhal et al., arXiv 2310.03716), and a policy trained on such pairs learns to write more.",
        number=None if share is None else 100 * share, unit="% of pairs", share=share,
        judgement=_judged(share, low, high, 0.6, 0.75),
        threshold="50 % is none; look when the 95 % interval lies above 60 % (or below 40 %), trouble above 75 % (or below 25 %)",
        advice="Read what the longer answers add; balance by a length ratio in the filter, or use a length-controlled metric.",
        looked_at=n, of=len(facts), low=None if low is None else 100 * low, high=None if high is None else 100 * high,
        note="" if n else "no two answers differ in length", plot=plot,
    )  # fmt: skip
    return told, {}


def length_only_judge(facts: Facts) -> tuple[CheckResult, Rows]:
    """The share of pairs on which "the longer is better" agrees with the label; a tie counts half."""
    difference = _difference(facts)[facts.trained_on]
    right, equal, wrong = ((difference > 0).sum(), (difference == 0).sum(), (difference < 0).sum())
    n = len(difference)
    accuracy = float((right + 0.5 * equal) / n) if n else None
    low, high = wilson(accuracy * n, n) if accuracy is not None else (None, None)
    told = {"agrees": float(right), "equal length": float(equal), "disagrees": float(wrong)}
    result = CheckResult(
        name="length-only judge", group="length",
        meaning="The accuracy of a judge that prefers the longer answer and reads nothing. A reward model has to beat this.",
        number=None if accuracy is None else 100 * accuracy, unit="% right", share=accuracy,
        judgement=_judged(accuracy, low, high, 0.6, 0.75),
        threshold="look when the 95 % interval lies above 60 % (or below 40 %), trouble above 75 % (or below 25 %)",
        advice="Compare any scorer's accuracy with this one, not with 50 %.",
        looked_at=n, of=len(facts), low=None if low is None else 100 * low, high=None if high is None else 100 * high,
        note="" if n else "there are no pairs",
        plot=bars("A judge that only looks at length", "its verdict", "pairs", told) if n else None,
    )  # fmt: skip
    return result, {}


def score_follows_length(facts: Facts) -> tuple[CheckResult, Rows]:
    """Spearman's rank correlation of the gap with the difference in length, with Fisher's 95 % interval."""
    known = facts.trained_on & np.isfinite(facts.gap)
    gap, difference = facts.gap[known], _difference(facts)[known]
    rho = rank_correlation(gap, difference) if len(gap) > 3 else None
    low, high = _fisher(rho, len(gap)) if rho is not None else (None, None)
    result = CheckResult(
        name="score follows length", group="length",
        meaning="Rank correlation of the gap with the difference in length: 1 when the scorer gives points for length alone, "
        "0 when length tells nothing about the scores.",
        number=rho, unit="Spearman's ρ, −1 to 1", share=None, judgement=_judged_correlation(rho),
        threshold="look above 0.3 either way, trouble above 0.6", of=len(facts), looked_at=len(gap), low=low, high=high,
        advice="Score a few padded answers yourself; a scorer that likes them will be gamed.",
        note="" if rho is not None else "too few scored pairs, or nothing varies",
        plot=_mean_gap_by_length(gap, difference) if rho is not None else None,
    )  # fmt: skip
    return result, {}


def much_longer_chosen(facts: Facts) -> tuple[CheckResult, Rows]:
    ratio = facts.len_chosen / np.maximum(facts.len_rejected, 1)
    rows = {int(row): (float(ratio[row]), "times as long") for row in np.flatnonzero(ratio > MUCH)}
    doublings = np.log2(np.clip(ratio, 2**-10, 2**10))
    plot = histogram(doublings, "Length ratio", "doublings, log₂(chosen / rejected)", edges=around_zero(doublings))
    return MUCH_LONGER.result(facts, rows, plot=plot), rows


def rank_correlation(one: Floats, other: Floats) -> float | None:
    """Spearman's ρ with ties at their mean rank; None where one of the two does not vary."""
    left, right = _ranks(one), _ranks(other)
    if left.std() == 0 or right.std() == 0:
        return None
    return finite(float(np.corrcoef(left, right)[0, 1]))


def _ranks(values: Floats) -> Floats:
    _, group, times = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(times)
    return np.asarray((last - (times - 1) / 2)[group], float)


def _difference(facts: Facts) -> Floats:
    return np.asarray(facts.len_chosen - facts.len_rejected, float)


def _fisher(rho: float, n: int) -> tuple[float, float]:
    """Fisher's z, with Spearman's variance 1.06 / (n - 3) (Fieller et al., 1957)."""
    if abs(rho) >= 1:
        return rho, rho
    z, half = np.arctanh(rho), Z95 * np.sqrt(1.06 / (n - 3))
    return float(np.tanh(z - half)), float(np.tanh(z + half))


def _judged(share: float | None, low: float | None, high: float | None, look: float, trouble: float) -> Judgement:
    if share is None or low is None or high is None:
        return "unknown"
    sure = max(low, 1 - high)  # how far from a half the interval begins, on either side
    return "trouble" if sure > trouble else "look" if sure > look else "fine"


def _judged_correlation(rho: float | None) -> Judgement:
    if rho is None:
        return "unknown"
    return "trouble" if abs(rho) > 0.6 else "look" if abs(rho) > 0.3 else "fine"


def _mean_gap_by_length(gap: Floats, difference: Floats) -> Plot:
    order = np.argsort(difference, kind="stable")
    means = [float(gap[part].mean()) if len(part) else 0.0 for part in np.array_split(order, len(FIFTHS))]
    return bars("Mean gap by length", "fifths of pairs, by length of chosen − rejected", "mean gap, score",
                dict(zip(FIFTHS, means, strict=True)))  # fmt: skip
