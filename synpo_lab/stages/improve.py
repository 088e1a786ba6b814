"""The response improver R_t: what it learns from."""

from collections.abc import Iterable, Mapping, Sequence

from synpo_lab.records import Response, Seed
from synpo_lab.templates import Templates


def improver_rows(
    seeds: Sequence[Seed], drafts: Iterable[Response], scores: Mapping[str, float], gold_scores: Mapping[str, float],
    templates: Templates, min_gap: float,
) -> list[tuple[str, str]]:  # fmt: skip
    """(x*, y*_{t-1}) -> y* for every draft that the gold answer beats by more than `min_gap` (SynPO section 2.2).

    `scores` are by response id, `gold_scores` by seed id; what has no score makes no row.
    """
    by_id = {seed.seed_id: seed for seed in seeds}
    rows = []
    for draft in sorted(drafts, key=lambda response: response.response_id):
        seed = by_id[draft.prompt_id]
        if seed.seed_id not in gold_scores or draft.response_id not in scores:
            continue
        if gold_scores[seed.seed_id] - scores[draft.response_id] > min_gap:
            rows.append((templates.ask_to_improve(seed.prompt, draft.text), seed.gold))
    return rows
