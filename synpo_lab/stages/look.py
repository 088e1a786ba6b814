"""The trainer's eye: how likely a model finds both sides of a pair (SimPO, arXiv 2405.14734, eq. 4)."""

from collections.abc import Iterable, Iterator, Sequence

from synpo_lab.engines.base import Engine
from synpo_lab.records import Pair, PairLogp, content_id

TOGETHER = 256  # pairs read between two looks at progress and stop


def look(engine: Engine, pairs: Sequence[Pair], iteration: int, *, beta: float, gamma: float) -> Iterator[PairLogp]:
    """Mean log-probs of both sides of each pair under the engine's model, in the order of `pairs`."""
    for start in range(0, len(pairs), TOGETHER):
        some = pairs[start : start + TOGETHER]
        chosen = engine.mean_logps((pair.prompt, pair.chosen) for pair in some)
        rejected = engine.mean_logps((pair.prompt, pair.rejected) for pair in some)
        for pair, high, low in zip(some, chosen, rejected, strict=True):
            yield PairLogp(iteration, pair.pair_id, engine.name, high, low, beta, gamma)


def draw(pairs: Iterable[Pair], at_most: int, seed: int) -> list[Pair]:
    """At most that many pairs, the same ones for the same seed, in an order of their own.

    A pair drawn from many is drawn from fewer of them too: what was computed of it serves again.
    """
    return sorted(pairs, key=lambda pair: content_id("eye", seed, pair.pair_id))[:at_most]
