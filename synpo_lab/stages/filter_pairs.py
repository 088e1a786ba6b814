"""Which pairs are kept. What the rules mean stands in storage/pair_filter.py, once, for the trainer and for every page."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

from storage.pair_filter import NOT_SAMPLED, PairFilter, drop_reasons
from synpo_lab.config import FilterConfig
from synpo_lab.home import storage_errors
from synpo_lab.records import Note, Pair


def pair_filter(rules: FilterConfig) -> PairFilter:
    """The config section as the storage layer takes it."""
    return PairFilter(**rules.model_dump())


def filter_pairs(
    pairs: Iterable[Pair], rules: FilterConfig, *, at_most: int, seed: int, notes: Sequence[Note] = ()
) -> list[Pair]:
    """Every pair with its decision (SynPO section 2.3: gap > tau, not repetitive).

    What the rules keep is sampled down to `at_most` (SynPO: 10k an iteration). `notes` are readers' verdicts, oldest
    first; they count only for `rules.verdicts`.
    """
    undecided = list(pairs)
    with storage_errors():
        reasons = drop_reasons(undecided, pair_filter(rules), notes)
    kept = sorted(pair.pair_id for pair, reason in zip(undecided, reasons, strict=True) if reason is None)
    sampled = set(kept if len(kept) <= at_most else random.Random(seed).sample(kept, at_most))
    return [_settled(pair, reason, sampled) for pair, reason in zip(undecided, reasons, strict=True)]


def _settled(pair: Pair, reason: str | None, sampled: set[str]) -> Pair:
    if reason is None and pair.pair_id not in sampled:
        reason = NOT_SAMPLED
    return replace(pair, kept=reason is None, drop_reason=reason)
