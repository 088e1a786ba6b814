"""Numbers about texts and comparisons. Pure functions."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ELO_SCALE = 400 / math.log(10)  # Elo points per unit of log-odds


def repetition(text: str, n: int = 3) -> float:
    """Share of the word n-grams of `text` that stand earlier in it too, 0..1; 0 for texts of fewer than n words.

    SynPO (arXiv 2410.06961, section 2.3) drops answers that are "more than 50 % repetition patterns" without saying how
    they are counted; word 3-grams are the usual count (Welleck et al., arXiv 1908.04319, seq-rep-n).
    """
    words = re.findall(r"\w+", text.lower())
    grams = len(words) - n + 1
    return 1 - len(set(zip(*(words[i:] for i in range(n)), strict=False))) / grams if grams > 0 else 0.0


def similarity(one: str, other: str) -> float:
    """Share of their words that two texts have in common, 0..1, counted as often as they occur (Dice's coefficient).

    Whatever stands between white space is a word; case is folded. Two texts without words are equal.
    """
    left, right = Counter(one.lower().split()), Counter(other.lower().split())
    total = left.total() + right.total()
    return 2 * (left & right).total() / total if total else 1.0


def word_variety(texts: Iterable[str], segment: int = 100) -> float | None:
    """How many different words `segment` words in a row of the texts hold, on average; None for fewer words than that.

    Mean segmental type-token ratio (Johnson, 1944) x segment: unlike the share of different words in all of them, it does
    not fall with the number of texts.
    """
    words = [word for text in texts for word in re.findall(r"\w+", text.lower())]
    segments = [words[i : i + segment] for i in range(0, len(words) - segment + 1, segment)]
    return sum(len(set(some)) for some in segments) / len(segments) if segments else None


def win_rate(preferences: Sequence[float]) -> tuple[float, float]:
    """Mean of preferences in 0..1 (win 1, tie 0.5, loss 0) and its standard error; NaN where it is not defined."""
    n = len(preferences)
    if n == 0:
        return math.nan, math.nan
    mean = math.fsum(preferences) / n
    if n == 1:
        return mean, math.nan
    variance = math.fsum((value - mean) ** 2 for value in preferences) / (n - 1)
    return mean, math.sqrt(variance / n)


def length_controlled_win_rate(
    preferences: Sequence[float], len_model: Sequence[int], len_baseline: Sequence[int]
) -> tuple[float, float]:
    """The win rate there would be if both sides wrote equally long answers, 0..1, and its standard error.

    AlpacaEval 2 (arXiv 2404.04475), the formula it calls `length_controlled_minimal`: a logistic regression of the
    preference (0..1) on tanh(length difference in characters / its standard deviation), read off at difference 0.
    Published numbers also use the difficulty of each of the 805 prompts and answers of gamed baselines, which other
    prompt sets have not, and come out lower: for OpenHermes-2.5 16.2 % where this gives 20.7 (raw 10.3). Compare models
    measured the same way. NaN where it is not defined.
    """
    p, difference = np.asarray(preferences, float), np.subtract(len_model, len_baseline).astype(float)
    if len(p) == 0:
        return math.nan, math.nan
    spread = difference.std(ddof=1) if len(p) > 1 else 0.0
    length = np.tanh(difference / spread) if spread > 0 else np.zeros(len(p))
    features = np.stack([np.ones(len(p)), length], axis=1)
    weights, covariance = _logistic_regression(features, p, np.ones(len(p)))
    estimate = float(_sigmoid(weights[0]))
    error = estimate * (1 - estimate) * math.sqrt(covariance[0, 0]) if len(p) > 1 else math.nan
    return estimate, error


def bradley_terry(
    battles: Iterable[tuple[str, str, float, float]], *, anchor: str | None = None, anchored_at: float = 1000.0
) -> dict[str, float]:
    """Elo ratings by name, best first, from (a, b, outcome, weight) rows; outcome 1: a won, 0: b won, 0.5: a tie.

    Maximum likelihood of P(a beats b) = 1 / (1 + 10^((rating b - rating a) / 400)), as in Arena-Hard (arXiv 2406.11939).
    The anchor, or else the mean of all, is put at `anchored_at`. A name that never lost (or never won) has no finite
    maximum: a faint pull to the middle keeps it some thousand points away.
    """
    rows = list(battles)
    names = sorted({name for a, b, _, _ in rows for name in (a, b)})
    place = {name: i for i, name in enumerate(names)}
    features = np.zeros((len(rows), len(names)))
    for row, (a, b, _, _) in zip(features, rows, strict=True):
        row[place[a]] += 1
        row[place[b]] -= 1
    outcome, weight = (np.array([row[i] for row in rows], float) for i in (2, 3))
    strength, _ = _logistic_regression(features, outcome, weight)
    ratings = strength * ELO_SCALE
    if names:
        ratings += anchored_at - (ratings[place[anchor]] if anchor is not None else ratings.mean())
    return dict(sorted(zip(names, ratings.tolist(), strict=True), key=lambda item: -item[1]))


def _logistic_regression(
    features: Floats, targets: Floats, weights: Floats, pull: float = 1e-6
) -> tuple[Floats, Floats]:
    """Coefficients [D] and their robust covariance [D, D]; `features` [N, D], soft `targets` [N] in 0..1.

    Newton's method on the weighted cross-entropy plus pull / 2 x |coefficients|^2, halving steps that overshoot.
    """
    theta = np.zeros(features.shape[1])
    identity = pull * np.eye(len(theta))
    for _ in range(100):
        p = _sigmoid(features @ theta)
        gradient = features.T @ (weights * (p - targets)) + pull * theta
        hessian = (features.T * (weights * p * (1 - p))) @ features + identity
        step = np.linalg.solve(hessian, gradient)
        step *= min(1.0, 4 / max(float(np.abs(step).max(initial=0)), 1e-12))
        theta = theta - step
        if np.abs(step).max(initial=0) < 1e-10:
            break
    scores = features * (weights * (targets - _sigmoid(features @ theta)))[:, None]
    inverse = np.linalg.inv(hessian) if len(theta) else identity
    return theta, inverse @ (scores.T @ scores) @ inverse


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))
