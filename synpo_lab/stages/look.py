"""The trainer's eye: how likely a model finds both sides of a pair (SimPO, arXiv 2405.14734, eq. 4)."""

from collections.abc import Iterable, Iterator, Sequence

from synpo_lab.engines.base import Check, Engine, never
from synpo_lab.records import Pair, PairLogp, content_id


def look(
    engine: Engine, pairs: Sequence[Pair], iteration: int, *, beta: float, gamma: float, check: Check = never
) -> Iterator[PairLogp]:
    """Mean log-probs of both sides of each pair under the engine's model, in the order of `pairs`."""
    both = ((pair.prompt, side) for pair in pairs for side in (pair.chosen, pair.rejected))
    found = engine.mean_logps(both, check=check)  # asked once: some engines load a model for it
    for pair, high, low in zip(pairs, found, found, strict=True):
        yield PairLogp(iteration, pair.pair_id, engine.name, high, low, beta, gamma)


def draw(pairs: Iterable[Pair], at_most: int, seed: int) -> list[Pair]:
    """At most that many pairs, the same ones for the same seed, in an order of their own.

    A pair drawn from many is drawn from fewer of them too: what was computed of it serves again.
    """
    return sorted(pairs, key=lambda pair: content_id("eye", seed, pair.pair_id))[:at_most]
