"""Hints that a label is wrong: the scores say otherwise, the gap is far out, or the surface of the answers says otherwise."""

import numpy as np

from synpo_lab.health.check import Check, Rows, around_zero, histogram
from synpo_lab.health.facts import Facts, Flags, Floats
from synpo_lab.health.report import CheckResult, Plot

FAR_OUT = 6.0  # robust standard deviations from the median
SURE = 0.9  # probability
FEWEST = 30  # pairs to fit the surface judge on

TIE = Check(
    "tie", "labels", "Both answers have the same score: the label is a coin toss.",
    "Raise the smallest gap of the filter above 0.", 0.0, 0.05,
)  # fmt: skip
DISAGREE = Check(
    "scores disagree", "labels",
    "The rejected answer has the higher score: the label or the scorer is wrong.",
    "Read the widest of them first; drop or swap what you find to be wrong.", 0.01, 0.10,
)  # fmt: skip
OUTLIER = Check(
    "outlier gap", "labels",
    f"The gap lies more than {FAR_OUT:g} robust standard deviations (1.4826 × the median distance from the median) from "
    "the median gap: often a broken answer, sometimes a scorer that broke.",
    "Read them: a handful of extreme rows can steer a margin loss.", 0.005, 0.05,
)  # fmt: skip
SURFACE = Check(
    "surface disagrees", "labels",
    f"A model that only sees how long the answers are and how much of the prompt they repeat is {SURE:.0%} sure that the "
    "other answer is better. It knows nothing of quality: a hint to read first, as in confident learning "
    "(Northcutt et al., arXiv 1911.00068).",
    "Read some: they are either the best pairs you have or the wrong ones.", 0.05, 0.20,
)  # fmt: skip
UNSCORED = "these pairs carry no scores"


def ties(facts: Facts) -> tuple[CheckResult, Rows]:
    known = np.isfinite(facts.gap)
    rows = {int(row): (0.0, "equal scores") for row in np.flatnonzero(known & (facts.gap == 0))}
    return TIE.result(facts, rows, among=known, plot=_gaps(facts, 0.0, 0.0), note=_unscored(known)), rows


def scores_disagree(facts: Facts) -> tuple[CheckResult, Rows]:
    known = np.isfinite(facts.gap)
    rows = {int(row): (float(facts.gap[row]), "gap") for row in np.flatnonzero(known & (facts.gap < 0))}
    plot = _gaps(facts, -np.inf, -1e-300)
    return DISAGREE.result(facts, rows, among=known, plot=plot, note=_unscored(known)), rows


def outlier_gaps(facts: Facts) -> tuple[CheckResult, Rows]:
    known = np.isfinite(facts.gap)
    centre = float(np.median(facts.gap[known])) if known.any() else 0.0
    spread = 1.4826 * float(np.median(np.abs(facts.gap[known] - centre))) if known.any() else 0.0
    if spread == 0:
        why = UNSCORED if not known.any() else "half of all gaps are equal, so there is no spread to measure by"
        return OUTLIER.result(facts, {}, among=np.zeros(len(facts), bool), plot=_gaps(facts, 1, 0), note=why), {}
    distance = (facts.gap - centre) / spread
    rows = {
        int(row): (float(facts.gap[row]), f"{distance[row]:+.1f} robust standard deviations from the median")
        for row in np.flatnonzero(known & (np.abs(distance) > FAR_OUT))
    }
    plot = histogram(distance, "Gaps in robust standard deviations", "(gap − median) / spread")
    return OUTLIER.result(facts, rows, among=known, plot=plot), rows


def surface_disagrees(facts: Facts, coverage: Floats) -> tuple[CheckResult, Rows]:
    """Where a logistic model of two surface differences prefers the rejected side. `coverage` [N]: share of the prompt's
    words in the chosen answer minus the same of the rejected; NaN where the texts were not read.

    Each half of the pairs is judged by a model fitted on the other half.
    """
    known = ~np.isnan(coverage) & ~facts.identical
    if known.sum() < FEWEST:
        why = f"it takes {FEWEST} pairs to fit it"
        return SURFACE.result(facts, {}, among=np.zeros(len(facts), bool), note=why), {}
    chance = _chosen_is_better(_surface(facts, coverage)[known], facts.lot[known] % 2 == 0)
    places = np.flatnonzero(known)
    rows = {
        int(places[i]): (float(1 - chance[i]), "how sure it is of the other answer")
        for i in np.flatnonzero(chance < 1 - SURE)
    }
    plot = histogram(chance, "What the surface says of the chosen side", "probability that it is better",
                     edges=[i / 20 for i in range(21)])  # fmt: skip
    right = float((chance > 0.5).mean())
    note = f"it agrees with {right:.1%} of the labels"
    return SURFACE.result(facts, rows, among=known, plot=plot, note=note), rows


def _surface(facts: Facts, coverage: Floats) -> Floats:
    """[N, 2]: log of the length ratio, difference in the share of the prompt's words."""
    ratio = np.log((facts.len_chosen + 10) / (facts.len_rejected + 10))
    return np.stack([ratio, coverage], axis=1)


def _chosen_is_better(features: Floats, half: Flags) -> Floats:
    """[N]: probability by a Bradley-Terry model of the differences [N, D], cross-fitted over two halves."""
    scaled = features / np.maximum(features.std(axis=0), 1e-9)
    chance = np.full(len(scaled), 0.5)
    for mine in (half, ~half):
        chance[mine] = _sigmoid(scaled[mine] @ _fitted(scaled[~mine]))
    return chance


def _fitted(differences: Floats) -> Floats:
    """Weights [D] that maximise sum log sigmoid(w . difference) - |w|^2 / 2, by Newton's method."""
    weights = np.zeros(differences.shape[1])
    for _ in range(30):
        p = _sigmoid(differences @ weights)
        gradient = differences.T @ (1 - p) - weights
        hessian = (differences.T * (p * (1 - p))) @ differences + np.eye(len(weights))
        step = np.linalg.solve(hessian, gradient)
        weights = weights + np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-8:
            break
    return weights


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def _unscored(known: Flags) -> str:
    if not known.any():
        return UNSCORED
    missing = int((~known).sum())
    return f"{missing:,} pairs have no gap" if missing else ""


def _gaps(facts: Facts, low: float, high: float) -> Plot | None:
    """The histogram of gaps with an edge at 0; the bins from `low` to `high` are marked."""
    gaps = facts.gap[np.isfinite(facts.gap)]
    if not len(gaps):
        return None
    edges = around_zero(gaps)
    below = sum(edge < 0 for edge in edges)
    plot = histogram(gaps, "Gaps", "gap = score(chosen) − score(rejected)", edges=edges)
    assert plot is not None
    zero = below if low <= 0 <= high else None  # ties fall into the first bin from 0 up
    marked = [zero] if zero is not None and low == high else list(range(below)) if low < high else []
    return Plot(plot.title, plot.x, plot.y, plot.labels, plot.heights, marked)
