"""The map of prompts: near means alike. Drawn as SVG, so that each prompt and each topic is a link."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot
from statistics import median

from markupsafe import Markup

from pages.charts import SERIES
from pages.components import address, card, joined
from pages.prompt_rows import topic_name
from pages.text import count, one_line
from storage.queries.topics import MapPoint, TopicSize

SIZE = 1000  # of the drawing, in its own units
MARGIN = 40
LETTER, LINE = 10, 24  # width of a letter of a name, and height of its line
LONGEST_NAME = 40  # characters
# Told apart without colour too: a topic has a colour and a shape.
SHAPES = {
    "circle": "M-7 0a7 7 0 1 0 14 0a7 7 0 1 0-14 0z",
    "square": "M-6-6h12v12h-12z",
    "diamond": "M0-9L9 0L0 9L-9 0z",
    "triangle": "M0-8L8 6L-8 6z",
    "cross": "M-8-3h5v-5h6v5h5v6h-5v5h-6v-5h-5z",
    "down": "M0 8L8-6L-8-6z",
    "star": "M0-10L3-3L10-3L4 2L6 9L0 5L-6 9L-4 2L-10-3L-3-3z",
}
ROUNDS = {"written": "round {}", "seed": "seed", "evaluation": "evaluation prompt"}


@dataclass(frozen=True, slots=True)
class Mark:
    """How a topic is drawn."""

    colour: str
    shape: str


def mark_of(topic: int) -> Mark:
    """Colours take turns fastest; with each turn of theirs the shape changes."""
    shapes = list(SHAPES)
    return Mark(SERIES[topic % len(SERIES)], shapes[(2 * (topic // len(SERIES)) + topic) % len(shapes)])


def prompt_map(run_id: str, points: Sequence[MapPoint], topics: Sequence[TopicSize], total: int) -> Markup:
    """The drawing with its key. A click on a point opens that prompt's lineage, on a topic its prompts."""
    shown = "all" if len(points) >= total else "an even sample of"
    note = f"{shown} {count(len(points))} prompts; hollow: seeds and evaluation prompts. A click opens a prompt or a topic."
    drawing = Markup(
        '<svg class="lab-map" viewBox="0 0 1000 1000" role="img" aria-label="map of the prompts">{}{}{}{}</svg>'
    ).format(_SHAPES, _FRAME, _points(run_id, points), _names(run_id, points))
    body = Markup('<div class="lab-map-and-key">{}{}</div>').format(drawing, _key(run_id, topics))
    return card("Map of the prompts", body, note=note, css="map")


_SHAPES = Markup("<defs>{}</defs>").format(
    joined(Markup('<path id="map-{}" d="{}"/>').format(name, path) for name, path in SHAPES.items())
)
_FRAME = Markup(
    '<rect class="frame" x="1" y="1" width="998" height="998" rx="8"/>'
    '<text class="axis" x="500" y="990">first direction of the map (no unit: near means alike)</text>'
    '<text class="axis" transform="translate(18 500) rotate(-90)">second direction of the map</text>'
)


def _points(run_id: str, points: Sequence[MapPoint]) -> Markup:
    return joined(_point(run_id, point) for point in points)


def _point(run_id: str, point: MapPoint) -> Markup:
    # Out of the tab order: the prompts are in the table for the keyboard, and the topics are in the key.
    mark = mark_of(point.topic)
    hollow = "" if point.kind == "written" else "hollow"
    where = ROUNDS[point.kind].format(point.iteration)
    return Markup(
        '<a href="{}" tabindex="-1"><use href="#map-{}" x="{:.0f}" y="{:.0f}" style="--c:{}" class="{}"/>'
        "<title>{}\n{} · {}</title></a>"
    ).format(
        address("lineage", run=run_id, prompt=point.prompt_id), mark.shape, _across(point.x), _across(-point.y),
        mark.colour, hollow, one_line(point.text), topic_name(point.topic, point.label), where,
    )  # fmt: skip


def _names(run_id: str, points: Sequence[MapPoint]) -> Markup:
    """Each topic's words over the middle of its prompts, moved down where they would cover others."""
    by_topic: dict[int, list[MapPoint]] = {}
    for point in points:
        by_topic.setdefault(point.topic, []).append(point)
    taken: list[Place] = []
    for of_topic in sorted(by_topic.values(), key=len, reverse=True):
        taken.append(_free_place(_middle(of_topic), taken))
    return joined(_name(run_id, place) for place in taken)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a topic's words stand, in the units of the drawing."""

    topic: int
    words: str
    x: float
    y: float

    def covers(self, other: "Place") -> bool:
        together = LETTER * (len(self.words) + len(other.words)) / 2
        return abs(self.x - other.x) < together and abs(self.y - other.y) < LINE


def _middle(points: Sequence[MapPoint]) -> Place:
    """At the prompt that lies nearest to the middle of all: a topic in two places has nothing between them."""
    x = median(point.x for point in points)
    y = median(point.y for point in points)
    nearest = min(points, key=lambda point: (hypot(point.x - x, point.y - y), point.prompt_id))
    words = one_line(nearest.label if len(nearest.label) <= LONGEST_NAME else f"{nearest.label[:LONGEST_NAME]}…")
    return Place(nearest.topic, words, _across(nearest.x), _across(-nearest.y))


def _free_place(wanted: Place, taken: Sequence[Place]) -> Place:
    half = LETTER * len(wanted.words) / 2
    place = replace(wanted, x=min(max(wanted.x, half), SIZE - half))
    while any(place.covers(other) for other in taken):
        place = replace(place, y=place.y + LINE)
    return place


def _name(run_id: str, place: Place) -> Markup:
    return Markup('<a href="{}" tabindex="-1"><text class="name" x="{:.0f}" y="{:.0f}">{}</text></a>').format(
        address("prompts", run=run_id, topic=place.topic), place.x, place.y, place.words
    )


def _key(run_id: str, topics: Sequence[TopicSize]) -> Markup:
    rows = joined(
        Markup(
            '<li><a href="{}"><svg viewBox="-11 -11 22 22" aria-hidden="true"><use href="#map-{}" style="--c:{}"/></svg>'
            "<span>{}</span><b>{}</b></a></li>"
        ).format(
            address("prompts", run=run_id, topic=topic.topic), mark_of(topic.topic).shape, mark_of(topic.topic).colour,
            topic_name(topic.topic, topic.label), count(topic.prompts),
        )
        for topic in topics
    )  # fmt: skip
    return Markup('<ol class="lab-key" aria-label="topics and their number of prompts">{}</ol>').format(rows)


def _across(place: float) -> float:
    """From -1 to 1 to the units of the drawing."""
    return MARGIN + (SIZE - 2 * MARGIN) * (place + 1) / 2
