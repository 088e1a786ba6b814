"""Rows of the pairs table, looked up by where they lie.

Sorting a million pairs reads a few numbers of each; their texts are forty times as much. So a page is found first, by
`part` and `place`, and only then are its texts read.
"""

from collections.abc import Sequence
from typing import Any

from storage import sources
from storage.catalogue import public_views
from storage.database import Database
from storage.queries.page import Row

_EXCERPTS = """
SELECT part, place, iteration, pair_id, prompt_id, left(prompt, $excerpt) AS prompt, left(chosen, $excerpt) AS chosen,
    left(rejected, $excerpt) AS rejected, chosen_score, rejected_score, gap, repetition, similarity, len_chosen,
    len_rejected, kept, drop_reason
FROM ({source})
"""


def excerpts(database: Database, places: Sequence[Row], excerpt: int) -> list[Row]:
    """The pairs that lie at these places (`part` and `place`), in that order, texts cut to `excerpt` characters."""
    found = _at(database, _EXCERPTS, places, excerpt=excerpt)
    return [found[place["part"], place["place"]] for place in places if (place["part"], place["place"]) in found]


def whole_pair(database: Database, place: Row) -> Row | None:
    """The columns of the view `pairs` of the one that lies at this place, texts whole."""
    source = sources.rows_at(database.store, "pairs", {place["part"]: [place["place"]]})
    return database.row(public_views()["pairs"].over(source))


def _at(database: Database, sql: str, places: Sequence[Row], **parameters: Any) -> dict[tuple[str, int], Row]:
    """Rows by their place. Each part is read by itself: of one file a row is found without reading those before it."""
    if not places:
        return {}
    by_part: dict[str, list[int]] = {}
    for place in places:
        by_part.setdefault(place["part"], []).append(place["place"])
    source = sources.rows_at(database.store, "pairs", by_part)
    rows = database.rows(sql.replace("{source}", source), parameters)
    return {(row.pop("part"), row.pop("place")): row for row in rows}
