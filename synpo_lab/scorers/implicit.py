"""What a policy itself thinks of an answer: its mean log-prob per token, minus a reference's.

With a policy trained by SimPO and no reference this is its reward but for beta (arXiv 2405.14734, eq. 4); against M_0 it is
what training changed, DPO's implicit reward per token (arXiv 2305.18290, eq. 5).
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from synpo_lab.config import EngineConfig, ScorerConfig
from synpo_lab.engines import open_engine
from synpo_lab.scorers.base import Aspects
from synpo_lab.scorers.identity import identity
from synpo_lab.scorers.revision import at_revision

CHUNK = 4096


class ImplicitReward:
    """total = mean log-prob under scorer.model, minus that under scorer.reference if one is named, in nats per token."""

    def __init__(self, config: ScorerConfig) -> None:
        self._config = config
        self.name = identity(config)
        if config.reference:
            other = identity(config.model_copy(update={"model": config.reference, "revision": None}))
            self.name += f" minus {other.removeprefix(f'{config.name}:')}"

    def score(self, rows: Iterable[tuple[str, str]]) -> Iterator[Aspects]:
        waiting = iter(rows)
        while chunk := list(islice(waiting, CHUNK)):
            policy = self._logps(at_revision(self._config), chunk)
            reference = self._logps(self._config.reference, chunk) if self._config.reference else [0.0] * len(chunk)
            for mine, theirs in zip(policy, reference, strict=True):
                yield {"total": mine - theirs, "policy": mine} | (
                    {"reference": theirs} if self._config.reference else {}
                )

    def _logps(self, model: str, rows: Sequence[tuple[str, str]]) -> list[float]:
        config = self._config
        engine = open_engine(
            "scorer", model, EngineConfig(device=config.device, dtype=config.dtype, batch_size=config.batch_size),
            trust_remote_code=config.trust_remote_code,
        )  # fmt: skip
        try:
            return list(engine.mean_logps(rows))
        finally:
            engine.close()
