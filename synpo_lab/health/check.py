"""What a check is, and how the pairs it points at become its answer."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from synpo_lab.health.facts import Facts, Flags, Floats
from synpo_lab.health.report import CheckResult, Judgement, Plot

Rows = Mapping[int, tuple[float | None, str]]  # row of the facts -> the check's number for it, and a word on it


@dataclass(frozen=True, slots=True)
class Check:
    """A check that counts pairs. Judged by the share of pairs it points at."""

    name: str  # the kind of its findings
    group: str
    meaning: str
    advice: str
    look: float  # shares above this are to be looked into
    trouble: float  # shares above this are trouble

    @property
    def threshold(self) -> str:
        return f"look above {100 * self.look:g} %, trouble above {100 * self.trouble:g} % of pairs"

    def judge(self, share: float | None) -> Judgement:
        if share is None:
            return "unknown"
        return "trouble" if share > self.trouble else "look" if share > self.look else "fine"

    def result(
        self, facts: Facts, rows: Rows, *, among: Flags | None = None, plot: Plot | None = None, note: str = ""
    ) -> CheckResult:
        """Its answer when it points at these rows. `among`: the pairs it could look at (all)."""
        seen = np.ones(len(facts), bool) if among is None else among
        base = facts.trained_on & seen
        marked = flags(len(facts), rows)
        share = float((marked & base).sum() / base.sum()) if base.any() else None
        return CheckResult(
            name=self.name, group=self.group, meaning=self.meaning, number=float(len(rows)) if seen.any() else None,
            unit="pairs", share=share, judgement=self.judge(share), threshold=self.threshold, advice=self.advice,
            found=len(rows), found_kept=int((marked & facts.kept).sum()), looked_at=int(seen.sum()), of=len(facts),
            note=note, plot=plot,
        )  # fmt: skip


def flags(n: int, rows: Iterable[int]) -> Flags:
    marked = np.zeros(n, bool)
    marked[np.fromiter(rows, np.int64)] = True
    return marked


def histogram(
    values: Floats, title: str, x: str, y: str = "pairs", *, bins: int = 24, edges: Sequence[float] | None = None
) -> Plot | None:
    """The spread of the finite values; the outermost 1 % at either end fall into the end bins. None without any."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    if edges is None:
        low, high = (float(end) for end in np.quantile(values, (0.01, 0.99)))
        if low == high:
            low, high = low - 0.5, high + 0.5
        edges = [low + (high - low) * i / bins for i in range(bins + 1)]
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), np.asarray(edges))
    return Plot(title, x, y, [f"{edge:,.4g}" for edge in edges], [float(n) for n in counts])


def around_zero(values: Floats, bins: int = 24) -> list[float]:
    """Edges of about so many equal bins over all but the outermost 1 % of the finite values, one of them at 0."""
    values = values[np.isfinite(values)]
    if not len(values):
        return [0.0, 1.0]
    low, high = (float(end) for end in np.quantile(values, (0.01, 0.99)))
    width = max((max(high, 0.0) - min(low, 0.0)) / bins, 1e-9)
    below, above = math.ceil(max(0.0, -low) / width), math.ceil(max(0.0, high) / width)
    return [i * width for i in range(-below, max(above, 1) + 1)]


def bars(title: str, x: str, y: str, heights: Mapping[str, float], marked: Iterable[str] = ()) -> Plot:
    names, wanted = list(heights), set(marked)
    return Plot(
        title, x, y, names, [float(n) for n in heights.values()], [i for i, n in enumerate(names) if n in wanted]
    )


def sizes(title: str, x: str, y: str, found: Iterable[int]) -> Plot:
    """How often each of the numbers 2, 3, 4 and 5 or more stands among `found`."""
    told = dict.fromkeys(("2", "3", "4", "5 or more"), 0.0)
    for size in found:
        told[str(size) if size < 5 else "5 or more"] += 1
    return bars(title, x, y, told)
