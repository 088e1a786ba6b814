"""Which pairs are kept. The same rules, in the same order, stand in SQL in storage/; a test holds them together."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import replace

from synpo_lab.config import FilterConfig
from synpo_lab.records import Pair


def drop_reason(pair: Pair, rules: FilterConfig) -> str | None:
    """The first rule that refuses the pair, None if it is kept (SynPO section 2.3: gap > tau, not repetitive)."""
    if pair.gap is None or not pair.gap > rules.min_gap:
        return "gap"
    if (
        rules.min_chosen_score is not None
        and pair.chosen_score is not None
        and pair.chosen_score < rules.min_chosen_score
    ):
        return "chosen score"
    if rules.max_length_ratio is not None and pair.len_chosen > rules.max_length_ratio * pair.len_rejected:
        return "length"
    if pair.repetition > rules.max_repetition:
        return "repetition"
    return None


def filter_pairs(pairs: Iterable[Pair], rules: FilterConfig, *, at_most: int, seed: int) -> list[Pair]:
    """Every pair with its decision; what the rules keep is sampled down to `at_most` (SynPO: 10k an iteration)."""
    decided = [replace(pair, drop_reason=drop_reason(pair, rules)) for pair in pairs]
    kept = sorted(pair.pair_id for pair in decided if pair.drop_reason is None)
    sampled = set(kept if len(kept) <= at_most else random.Random(seed).sample(kept, at_most))
    return [_settled(pair, sampled) for pair in decided]


def _settled(pair: Pair, sampled: set[str]) -> Pair:
    if pair.drop_reason is None and pair.pair_id not in sampled:
        return replace(pair, drop_reason="not sampled")
    return replace(pair, kept=pair.drop_reason is None)


def kept(pairs: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in pairs if pair.kept]
