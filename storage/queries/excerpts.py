"""Rows of the pairs table, looked up by where they lie.

Sorting a million pairs reads a few numbers of each; their texts are forty times as much. So a page is found first, by
`part` and `place`, and only then are its texts read.
"""

from collections.abc import Sequence

from storage.database import Database
from storage.queries.page import Row

_EXCERPTS = """
SELECT part, place, iteration, pair_id, prompt_id, left(prompt, $excerpt) AS prompt, left(chosen, $excerpt) AS chosen,
    left(rejected, $excerpt) AS rejected, chosen_score, rejected_score, gap, repetition, similarity, len_chosen,
    len_rejected, kept, drop_reason
FROM parts.pairs
WHERE list_contains($parts, part) AND list_contains($places, part || ':' || place)
"""


def excerpts(database: Database, places: Sequence[Row], excerpt: int) -> list[Row]:
    """The pairs that lie at these places (`part` and `place`), in that order, texts cut to `excerpt` characters."""
    if not places:
        return []
    found = database.rows(
        _EXCERPTS,
        {
            "parts": sorted({place["part"] for place in places}),
            "places": [f"{place['part']}:{place['place']}" for place in places],
            "excerpt": excerpt,
        },
    )
    by_place = {(row.pop("part"), row.pop("place")): row for row in found}
    return [by_place[place["part"], place["place"]] for place in places if (place["part"], place["place"]) in by_place]
