"""What a policy itself thinks of an answer: its mean log-prob per token, minus a reference's.

With a policy trained by SimPO and no reference this is its reward but for beta (arXiv 2405.14734, eq. 4); against M_0 it is
what training changed, DPO's implicit reward per token (arXiv 2305.18290, eq. 5).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from synpo_lab.config import EngineConfig, ScorerConfig
from synpo_lab.engines import open_engine
from synpo_lab.engines.base import Check, Engine, never
from synpo_lab.errors import LabError
from synpo_lab.scorers.base import Aspects
from synpo_lab.scorers.identity import identity
from synpo_lab.scorers.revision import at_revision

CHUNK = 4096


class ImplicitReward:
    """total = mean log-prob under scorer.model, minus that under scorer.reference if one is named, in nats per token."""

    def __init__(self, config: ScorerConfig) -> None:
        self._config = config
        self._engines: dict[str, Engine] = {}  # of the policy and of the reference
        self.check: Check = never
        self.name = identity(config)
        if config.reference:
            other = identity(config.model_copy(update={"model": config.reference, "revision": None}))
            self.name += f" minus {other.removeprefix(f'{config.name}:')}"

    def score(self, rows: Iterable[tuple[str, str]]) -> Iterator[Aspects]:
        config, waiting = self._config, iter(rows)
        while chunk := list(islice(waiting, CHUNK)):
            policy = self._logps("policy", chunk)
            reference = self._logps("reference", chunk) if config.reference else [0.0] * len(chunk)
            for mine, theirs in zip(policy, reference, strict=True):
                yield {"total": mine - theirs, "policy": mine} | ({"reference": theirs} if config.reference else {})

    def close(self) -> None:
        """Give the engines' memory back."""
        while self._engines:
            self._engines.popitem()[1].close()

    def _logps(self, role: str, rows: Sequence[tuple[str, str]]) -> list[float]:
        if role not in self._engines:
            self._engines[role] = self._opened(role)
        return list(self._engines[role].mean_logps(rows, check=self.check))

    def _opened(self, role: str) -> Engine:
        """Over the weights that are held already where it stands on the same; else beside them if memory allows."""
        config = self._config
        place = config.reference if role == "reference" and config.reference else at_revision(config)
        for held in self._engines.values():
            if (other := held.beside("scorer", place)) is not None:
                return other
        try:
            return self._open(place)
        except LabError:
            if not self._engines:
                raise
        self.close()  # both do not fit at once: one after the other
        return self._open(place)

    def _open(self, place: str) -> Engine:
        config = self._config
        engine = EngineConfig(device=config.device, dtype=config.dtype, batch_size=config.batch_size)
        return open_engine("scorer", place, engine, trust_remote_code=config.trust_remote_code)
