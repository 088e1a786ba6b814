"""The tabs of the Prompts page, against the same asked of the store directly."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import gradio as gr
import pyarrow.parquet as pq
import pytest

from pages import prompt_diversity, prompt_export, prompt_rows, prompts
from pages.prompt_map import SHAPES, mark_of, prompt_map
from pages.prompt_rows import Asked, asked_of, prompt_text
from pages.prompt_topics import topics_panel, worst_topics
from pages.shell import Lab, Selection
from storage.locks import hold_lock
from storage.queries import prompts_page
from storage.queries.topics import map_points, topic_results, topic_sizes
from synpo_lab.records import Prompt, Topic
from synpo_lab.topics import write_topics
from tests.pages.conftest import RUN
from tests.plausible_run import write_run

HOSTILE = "<script>alert('x')</script>\0\u202e"


@pytest.fixture(scope="module")
def topical_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one finished run whose topics were found."""
    folder = tmp_path_factory.mktemp("topical")
    write_topics(write_run(folder, RUN, iterations=2, prompts=60))
    return folder


@pytest.fixture
def topical(topical_home: Path) -> Iterator[Lab]:
    made = Lab(topical_home)
    yield made
    made.close()


def records(lab: Lab, kind: type) -> list[Any]:
    return list(lab.store.run(RUN).read(kind))


# The table


def test_the_keywords_a_prompt_uses_are_marked_as_whole_words() -> None:
    shown = prompt_text("Name an ice cream, nice ICE creams", ["ice", "ice cream", "plum"])
    assert re.findall("<mark[^>]*>([^<]*)</mark>", shown) == ["ice cream", "ICE"]


@pytest.mark.parametrize("keywords", [[], [""], ["("], [HOSTILE], ["a" * 5000]])
def test_odd_keywords_mark_nothing_and_break_nothing(keywords: list[str]) -> None:
    assert "mark" not in prompt_text("name a plum", keywords)
    assert "<script" not in prompt_text(HOSTILE, keywords)


@pytest.mark.parametrize("shape", prompt_export.SHAPES)
def test_the_prompts_of_the_filters_are_handed_out_all_pages_in_their_order(topical: Lab, shape: str) -> None:
    with gr.Blocks() as app:
        prompt_export.prompt_export(topical, gr.Dropdown(), [])
    download = next(one.fn for one in app.fns.values() if one.fn is not None and one.fn.__name__ == "download")
    asked = Asked(status="all", iteration=1, sort="shortest")
    button, said = download(shape, RUN, *asdict(asked).values())
    shown = prompts_page(topical.database, RUN, **asked.chosen(), limit=10_000)
    assert f"{shown.total} prompts" in said
    assert shown.total > prompt_rows.PAGE_ROWS
    if shape == "Parquet":
        rows = pq.read_table(button.value["path"]).to_pylist()
    elif shape == "JSONL":
        rows = [json.loads(line) for line in Path(button.value["path"]).read_text(encoding="utf-8").splitlines()]
    else:
        with Path(button.value["path"]).open(newline="", encoding="utf-8") as file:
            rows = [{**row, "keywords": json.loads(row["keywords"])} for row in csv.DictReader(file)]
    same = ("prompt_id", "text", "keywords", "status")
    assert [[row[name] for name in same] for row in rows] == [[row[name] for name in same] for row in shown.rows]
    with pytest.raises(gr.Error, match="no prompt"):
        download(shape, RUN, *asdict(Asked(search="nothing has this in it")).values())


def test_each_keyword_opens_the_prompts_written_from_it(topical: Lab) -> None:
    page = Asked(status="kept").page(topical, RUN, 0)
    shown = prompt_rows.rows_table(topical, RUN, page)
    word = page.rows[0]["keywords"][0]
    assert f"keyword={word}" in shown
    found = Asked(status="all", keyword=word).page(topical, RUN, 0)
    assert found.total == sum(word in one.keywords for one in records(topical, Prompt))
    assert all(word in row["keywords"] for row in found.rows)


def test_a_row_says_its_topic_and_novelty_and_leads_to_pair_and_lineage(topical: Lab) -> None:
    page = Asked(sort="newest").page(topical, RUN, 0)
    first, shown = page.rows[0], prompt_rows.rows_table(topical, RUN, page)
    assert f"{first['novelty']:.2f}" in shown
    assert f"topic={first['topic']}" in shown
    assert f"lineage?run={RUN}&amp;prompt={first['prompt_id']}" in shown
    assert f"pairs?run={RUN}&amp;prompt={first['prompt_id']}" in shown


def test_all_is_a_keyword_like_another(tmp_path: Path) -> None:
    write_run(tmp_path, RUN, iterations=1, prompts=10)
    lab = Lab(tmp_path)
    lab.store.run(RUN).append([Prompt(1, "p", "tell us all", ["all", "plum"], None, "generator", "kept", None)])
    asked = asked_of(Selection(RUN, {"keyword": "all"}))
    assert [row["text"] for row in asked.page(lab, RUN, 0).rows] == ["tell us all"]
    box = prompt_rows.filter_updates(lab, RUN, asked)[4]
    assert (box.value, ("all (1)", "all") in box.choices) == ("all", True)
    assert prompt_rows.chosen_address(RUN, asked)["keyword"] == "all"
    assert Asked().page(lab, RUN, 0).total == 1 + sum(
        one.status == "kept" for one in lab.store.run(RUN).read(Prompt) if one.prompt_id != "p"
    )
    lab.close()


def test_iteration_zero_is_an_iteration() -> None:
    assert asked_of(Selection("r", {"iteration": "0"})) == Asked(iteration=0)
    assert asked_of(Selection("r", {"iteration": "none"})) == Asked()


def test_whoever_asks_for_a_keyword_or_a_topic_gets_its_prompts_of_every_status() -> None:
    assert asked_of(Selection("r", {"keyword": "plum"})) == Asked(status="all", keyword="plum")
    assert asked_of(Selection("r", {"topic": "3"})) == Asked(status="all", topic=3)
    assert asked_of(Selection("r", {"topic": "3", "status": "kept"})) == Asked(topic=3)
    assert asked_of(Selection("r", {"status": "nonsense", "sort": "?", "topic": "x"})) == Asked(
        topic="all", status="kept"
    )


def test_the_address_says_what_was_chosen_and_nothing_else() -> None:
    assert prompt_rows.chosen_address("r", Asked()) == {}
    assert prompt_rows.chosen_address("r", Asked(keyword="plum", topic=2)) == {"keyword": "plum", "topic": 2}


def test_a_choice_of_the_address_that_the_run_has_not_stays_visible(topical: Lab) -> None:
    updates = prompt_rows.filter_updates(topical, RUN, Asked(keyword="nowhere", topic=99))
    assert "nowhere" in updates[4].choices[-1]
    assert updates[4].value == "nowhere"
    assert updates[3].value == 99


# Topics


def test_every_topic_is_listed_with_its_numbers(topical: Lab) -> None:
    shown = topics_panel(topical, RUN)
    for size in topic_sizes(topical.database, RUN):
        assert f"{size.topic} · {size.label}" in shown
    latest = [row for row in topic_results(topical.database, RUN) if row.iteration == 2]
    assert shown.count("its prompts →") == len(latest)
    assert "What M<sub>2</sub> got worse at" in shown


def test_the_overview_tells_the_largest_falls_first(topical: Lab) -> None:
    shown = worst_topics(topical, RUN)
    latest = [row for row in topic_results(topical.database, RUN) if row.iteration == 2]
    assert shown.index(latest[0].label) < shown.index(latest[1].label)
    assert "tab=topics" in shown
    assert shown.count("<tr>") == 1 + 3


def test_before_topics_were_found_there_is_nothing_to_tell(lab: Lab) -> None:
    assert topics_panel(lab, RUN) == worst_topics(lab, RUN) == worst_topics(lab, None) == ""
    assert "Find topics" in prompts._topics(lab, RUN)
    assert "No map yet" in prompts._map(lab, RUN, "all")
    assert "no topics yet" in prompts._found(lab, RUN)[0]


def test_topics_that_were_found_are_told(topical: Lab) -> None:
    told, button, timer, word = prompts._found(topical, RUN)
    assert f"of {len(records(topical, Topic)):,} prompts and seeds" in told
    assert re.search(r"found in \d+ s</p>", told)
    assert (button.value, button.interactive, timer.active) == ("Find topics again", True, False)
    assert not word.startswith(prompts.WORKING)


def test_topics_that_are_being_found_are_waited_for(topical: Lab) -> None:
    with hold_lock(topical.store.run(RUN).folder / "topics.lock", busy="busy"):
        told, button, timer, word = prompts._found(topical, RUN)
    assert "finding topics" in told
    assert (button.interactive, timer.active) == (False, True)
    assert word.startswith(prompts.WORKING)


def test_topics_asked_for_before_the_page_knows_its_run_are_those_of_the_address(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(prompts, "find_topics", lambda home, run_id: begun.append(run_id))
    with lab.app:
        prompts.build(lab)
    (start,) = (one.fn for one in lab.app.fns.values() if one.fn is not None and one.name == "start")
    start(None, RUN)
    start("picked", RUN)
    assert begun == [RUN, "picked"]


def test_why_no_topics_were_found_is_told(lab: Lab) -> None:
    log = lab.store.run(RUN).folder / "topics.log"
    log.write_text("error: x is no model folder\nhint: name another\n")
    assert "x is no model folder" in prompts._found(lab, RUN)[0]
    log.write_text("Traceback (most recent call last):\n  ...\nMemoryError: <b>\n")
    assert "MemoryError: &lt;b&gt;" in prompts._found(lab, RUN)[0]
    log.unlink()
    assert "no topics yet" in prompts._found(lab, RUN)[0]


# The map


def test_every_prompt_is_a_link_at_its_place(topical: Lab) -> None:
    shown = prompts._map(topical, RUN, "all")
    rows = records(topical, Topic)
    assert shown.count("<use href=") == len(rows) + len(topic_sizes(topical.database, RUN))
    for row in rows[::20]:
        x, y = 40 + 920 * (row.x + 1) / 2, 40 + 920 * (1 - row.y) / 2
        assert re.search(rf'prompt={row.prompt_id}"[^>]*><use[^>]* x="{x:.0f}" y="{y:.0f}"', shown)


def test_a_round_of_the_map_shows_that_round_alone(topical: Lab) -> None:
    shown = prompts._map(topical, RUN, 1)
    wanted = {row.prompt_id for row in records(topical, Topic) if row.iteration == 1}
    assert set(re.findall(r"prompt=(\w{16})", shown)) == wanted


def test_neighbouring_topics_differ_in_colour_and_shape_and_no_two_of_many_are_drawn_alike() -> None:
    assert mark_of(0).colour != mark_of(1).colour
    assert mark_of(0).shape != mark_of(1).shape
    assert len({mark_of(topic) for topic in range(42)}) == 42
    assert {mark_of(topic).shape for topic in range(42)} == set(SHAPES)


def test_names_on_the_map_do_not_cover_one_another(topical: Lab) -> None:
    points = map_points(topical.database, RUN)
    shown = prompt_map(RUN, points, topic_sizes(topical.database, RUN), len(points))
    names = [
        (float(x), float(y), text) for x, y, text in re.findall(r'class="name" x="(\d+)" y="(\d+)">([^<]*)<', shown)
    ]
    assert len(names) == len({point.topic for point in points})
    for i, (x, y, text) in enumerate(names):
        for x2, y2, text2 in names[:i]:
            assert abs(x - x2) >= 5 * (len(text) + len(text2)) - 1 or abs(y - y2) >= 23


def test_a_hostile_prompt_is_text_on_the_map() -> None:
    from storage.queries.topics import MapPoint, TopicSize

    point = MapPoint('"><script>', 1, "written", 0, HOSTILE, 0.0, 0.0, HOSTILE)
    shown = prompt_map("r", [point], [TopicSize(0, HOSTILE, 1, 0, 0, None, None)], 1)
    assert "<script" not in shown
    assert "␀" in shown


# Diversity


def test_the_diversity_tab_draws_drift_and_three_spreads(topical: Lab) -> None:
    table, *plots, closest = prompt_diversity.drawn(topical, RUN)
    assert table.count("<tr>") == 1 + 2
    assert [plot.visible for plot in plots] == [True] * 4
    assert "Closest to the evaluation set" in closest
    for plot in (plot.value for plot in plots):
        layout = plot.layout if hasattr(plot, "layout") else None
        assert layout is None or (layout.title.text and layout.xaxis.title.text and layout.yaxis.title.text)


def test_the_spread_of_a_group_adds_up_to_all_of_it(topical: Lab) -> None:
    found = prompt_diversity.spread(topical.database, RUN, "similarity")
    figure = prompt_diversity.spread_chart(found, RUN)
    assert {line.name for line in figure.data} == {"seeds", "evaluation", "round 1", "round 2"}
    assert all(sum(line.y) == pytest.approx(1) for line in figure.data)
    assert len({line.line.dash for line in figure.data}) == 4


def test_without_topics_drift_still_counts_words_and_duplicates(lab: Lab) -> None:
    table, drift, *spreads, closest = prompt_diversity.drawn(lab, RUN)
    assert "distinct-1" in table
    assert drift.visible
    assert not any(plot.visible for plot in spreads)
    assert closest == ""


def test_without_prompts_the_tab_says_so(empty_lab: Lab) -> None:
    assert "No prompts yet" in prompt_diversity.drawn(empty_lab, None)[0]


def test_the_links_of_a_row_do_not_break_before_their_arrow() -> None:
    told = prompt_rows._links("run", {"status": "kept", "prompt_id": "p"})
    assert re.findall(">([^<]+)</a>", told) == ["pair\u00a0→", "lineage\u00a0→"]
