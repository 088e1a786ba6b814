"""A judge that only looks at length: what every other judge must beat."""

from collections.abc import Iterable, Iterator


class LengthScorer:
    """total = characters / (characters + 200): 0 for nothing, towards 1 for very long answers."""

    name = "length"

    def score(self, rows: Iterable[tuple[str, str]]) -> Iterator[dict[str, float]]:
        for _, answer in rows:
            yield {"total": len(answer) / (len(answer) + 200)}
