"""Contamination: which prompts of the pairs overlap a set of evaluation prompts?

Two signs. Exact: the same words, case and punctuation aside. Containment: at least 70 % of the evaluation prompt's word
8-grams stand in the prompt, the rule of PaLM (Chowdhery et al., arXiv 2204.02311, section 8). An evaluation prompt of 5 to 7
words, which has no 8-gram, is contained where all of it stands in the prompt; a shorter one ("Who made Berlin") stands in
many a prompt by chance and is found as the whole prompt alone. A paraphrase gets through.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from synpo_lab.health.check import Check, Rows, histogram
from synpo_lab.health.facts import Facts
from synpo_lab.health.report import CheckResult
from synpo_lab.health.words import words

NGRAM = 8
SHORTEST = 5  # words of an evaluation prompt that is looked for inside of others
CONTAINED = 0.7

OVERLAP = Check(
    "evaluation overlap", "evaluation",
    f"The prompt is, or contains {CONTAINED:.0%} of the word {NGRAM}-grams of, an evaluation prompt (of one of "
    f"{SHORTEST} to {NGRAM - 1} words: all of it; shorter ones are found as a whole alone): the evaluation then measures memory.",
    "Drop them before training, or leave those prompts out of the evaluation.", 0.0, 0.01,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Overlap:
    containment: float  # 0 to 1: share of the evaluation prompt's n-grams; 1 for the same words
    evaluation_prompt: str
    exact: bool


class EvaluationSet:
    """Evaluation prompts, made ready to be looked up."""

    def __init__(self, prompts: Iterable[str]) -> None:
        self._texts: list[str] = []
        self._exact: dict[str, int] = {}
        self._grams: dict[str, list[int]] = {}
        self._sizes: list[int] = []
        self._widths: set[int] = set()  # of the n-grams that are looked up
        for text in prompts:
            self._add(text)

    def __len__(self) -> int:
        return len(self._texts)

    def _add(self, text: str) -> None:
        found = words(text)
        if not found or " ".join(found) in self._exact:
            return
        place = len(self._texts)
        self._exact[" ".join(found)] = place
        width = NGRAM if len(found) >= NGRAM else len(found)
        grams = _grams(found, width) if width >= SHORTEST else set()
        if grams:
            self._widths.add(width)
        for gram in grams:
            self._grams.setdefault(gram, []).append(place)
        self._texts.append(text)
        self._sizes.append(len(grams))

    def nearest(self, prompt: str) -> Overlap | None:
        """The evaluation prompt it overlaps most; None when it shares no n-gram with any and is none."""
        found = words(prompt)
        if (same := self._exact.get(" ".join(found))) is not None:
            return Overlap(1.0, self._texts[same], True)
        shared = Counter(
            place for width in self._widths for gram in _grams(found, width) for place in self._grams.get(gram, ())
        )
        if not shared:
            return None
        best = max(shared, key=lambda place: (shared[place] / self._sizes[place], -place))
        return Overlap(shared[best] / self._sizes[best], self._texts[best], False)


def evaluation_overlap(
    facts: Facts, overlaps: dict[int, Overlap], evaluation: EvaluationSet
) -> tuple[CheckResult, Rows]:
    """The pairs whose prompt overlaps. `overlaps`: by prompt key, as far as any n-gram is shared."""
    if not len(evaluation):
        why = "there are no evaluation prompts: name a file of them (--eval FILE), or evaluate the run"
        return OVERLAP.result(facts, {}, among=np.zeros(len(facts), bool), note=why), {}
    shared = np.flatnonzero(np.isin(facts.prompt_key, np.fromiter(overlaps, np.int64)))
    rows: dict[int, tuple[float | None, str]] = {}
    for row in shared:
        overlap = overlaps[int(facts.prompt_key[row])]
        if overlap.containment >= CONTAINED:
            how = "the same words as" if overlap.exact else f"{overlap.containment:.0%} of the word sequences of"
            rows[int(row)] = (overlap.containment, f"{how}: {overlap.evaluation_prompt[:200]}")
    containment = np.zeros(len(facts))
    containment[shared] = [overlaps[int(facts.prompt_key[row])].containment for row in shared]
    plot = histogram(containment, "Containment of the nearest evaluation prompt", "share of its word sequences, 0 to 1",
                     edges=[i / 10 for i in range(11)]) if len(facts) else None  # fmt: skip
    return OVERLAP.result(facts, rows, plot=plot, note=f"against {len(evaluation):,} evaluation prompts"), rows


def _grams(found: list[str], width: int) -> set[str]:
    return {" ".join(found[i : i + width]) for i in range(len(found) - width + 1)}
