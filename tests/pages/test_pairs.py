"""The pairs page: one pair, a list of them, verdicts; against the same asked of the store directly."""

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from pages import pairs, prompt_rows
from pages.answers import columns_of
from pages.pair_address import Asked, Modes, asked_of
from pages.pair_filters import FILTERS, asked_by, chips_html, filter_updates
from pages.run_words import words_of_run
from pages.shell import Lab, selection
from pages.verdicts import LONGEST_NOTE, agreement_html, give
from storage import StorageFault
from storage.export.notes import export_notes
from storage.queries import PAIR_SORTS, PairQuery, pair_at, pairs_page, prompts_page
from storage.queries.pairs import neighbours, pair
from storage.queries.telling import telling_pairs
from storage.state import set_state
from synpo_lab.agreement import first_side
from synpo_lab.errors import LabError
from synpo_lab.home import open_home, open_store
from synpo_lab.records import Finding, Note, Pair, PairLogp, Prompt, Topic, content_id
from synpo_lab.rendered import chat_format
from tests.pages.conftest import RUN
from tests.plausible_run import write_run

HOSTILE = "<script>alert('x')</script>\0 \u202egnp.exe " + "long " * 2000


@pytest.fixture
def hostile_lab(tmp_path: Path) -> Iterator[Lab]:
    """A run whose only pair has texts made to break a page, imported: it has no responses."""
    store = open_store(open_home(tmp_path))
    run = store.create_run("hostile", "title: <b>x</b>\n", {"recipe": "import", "title": "<b>x</b>", "created_at": 1.0})
    prompt_id = content_id("prompt", HOSTILE)
    run.append([Prompt(1, prompt_id, HOSTILE, ["<i>k</i>"], "<i>k</i>", "generator", "kept", None)])
    messages = json.dumps([{"role": "<u>", "content": HOSTILE}, {"role": "user", "content": "b"}, {"no": 1}, 7])
    run.append([
        Pair(1, "p" * 16, prompt_id, HOSTILE, "c", "r", HOSTILE, "fine", 1.0, 0.5, 0.5, 9, 4, 0.0, True, None, 0.1,
             True, messages),
        Finding(1, "<i>kind</i>", "p" * 16, 1.0, HOSTILE),
        Topic(1, prompt_id, 3, "<i>label</i>", 0.0, 0.0, None, None),
    ])  # fmt: skip
    set_state(run.folder, "imported")
    store.append_note(Note("p" * 16, "bad", HOSTILE, "<b>ana</b>", 1.0))
    made = Lab(tmp_path)
    yield made
    made.close()


@pytest.fixture
def own_lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab of a finished run that a test may write notes into."""
    write_run(tmp_path, RUN, iterations=1, prompts=30)
    made = Lab(tmp_path)
    yield made
    made.close()


def all_pairs(lab: Lab) -> list[Pair]:
    return list(lab.store.run(RUN).read(Pair))


def wanted(asked: Asked | None = None, author: str = "", seen: str = "", **modes: Any) -> pairs._Wanted:
    return pairs._Wanted(author, seen, Modes(**modes), asked or Asked())


def shown(lab: Lab, pair_id: str | None, asked: Asked | None = None, run_id: str = RUN, **more: Any) -> list[Any]:
    return pairs._show(lab, run_id, pair_id, wanted(asked, **more))


def first_of(lab: Lab) -> Any:
    found = pair_at(lab.database, RUN, PairQuery())
    assert found is not None
    return found


# One pair


def test_a_pair_shows_draft_initial_and_improved_with_scores_by_aspect(lab: Lab) -> None:
    first = first_of(lab)
    page, place, current, before, after, *_ = shown(lab, first.pair["pair_id"])
    assert list(re.findall(r"<header><b>(\w+)</b>", page)) == ["draft", "initial", "improved"]
    for aspect in ("correct", "complete", "polite", "well_formed"):
        assert page.count(f"<dt>{aspect}</dt>") == 3
    assert f"gap +{first.pair['gap']:.3f}" in page
    assert f"{first.pair['len_chosen']:,} characters" in page
    assert f"1 of {len(all_pairs(lab))}" in place
    assert (current, before) == (first.pair["pair_id"], None)
    assert after is not None


def test_two_sides_leave_the_draft_out_and_swapping_turns_them(lab: Lab) -> None:
    first = first_of(lab).pair["pair_id"]
    roles = {
        swap: re.findall(r"<header><b>(\w+)</b>", shown(lab, first, sides="two", swap=swap)[0])
        for swap in (False, True)
    }
    assert roles == {False: ["initial", "improved"], True: ["improved", "initial"]}
    assert 'data-first="chosen"' in shown(lab, first, swap=True)[0]


def test_next_and_previous_walk_through_all_pairs_of_a_filter(lab: Lab) -> None:
    asked = Asked(PairQuery(iteration=1, kept=True), "gap-up")
    expected = [row["pair_id"] for row in pairs_page(lab.database, RUN, asked.query, sort=asked.sort, limit=1000).rows]
    walked, pair_id = [], shown(lab, None, asked)[2]
    while pair_id is not None:
        walked.append(pair_id)
        pair_id = shown(lab, pair_id, asked)[4]
    assert walked == expected
    assert shown(lab, expected[-1], asked)[3] == expected[-2]


def test_a_pair_that_matches_no_longer_says_so_and_what_is_next(own_lab: Lab) -> None:
    asked = Asked(PairQuery(verdict="none"))
    ids = [row["pair_id"] for row in pairs_page(own_lab.database, RUN, PairQuery(), limit=1000).rows]
    total = len(ids)

    def place_after_verdict(pair_id: str) -> str:
        made = pairs._vote(own_lab, RUN, pair_id, "tie", "", wanted(asked, author="ana"))
        return re.sub("<.*?>", "", made[2])

    assert f"not among the {total - 1} · next is 1 ·" in place_after_verdict(ids[0])
    assert f"not among the {total - 2} · next is 2 ·" in place_after_verdict(ids[2])
    assert f"not among the {total - 3} · all of them come before it ·" in place_after_verdict(ids[-1])
    assert f"1 of {total - 3} ·" in shown(own_lab, ids[1], asked)[1]
    for pair_id in ids:
        place = place_after_verdict(pair_id)
    assert "not among what is asked for · nothing is left ·" in place


def test_a_list_is_shown_whose_pair_comes_after_all_that_match(own_lab: Lab) -> None:
    ids = [row["pair_id"] for row in pairs_page(own_lab.database, RUN, PairQuery(), limit=1000).rows]
    for named, place in ((ids[:20], "1 to 20 of 20"), (ids[:1], "1 to 1 of 1")):
        assert place in shown(own_lab, ids[-1], Asked(PairQuery(ids=tuple(named))), view="list")[1]
    assert "Nothing matches" in shown(own_lab, ids[-1], Asked(PairQuery(ids=())), view="list")[0]


def test_the_twenty_that_tell_most_are_walked_and_say_why(lab: Lab) -> None:
    picks = telling_pairs(lab.database, RUN, PairQuery())
    page, place, current, _, after, *_ = shown(lab, None, Asked(sort="telling"))
    assert (current, after) == (picks[0].pair_id, picks[1].pair_id)
    assert "1 of 20" in place
    assert "near the cut: gap" in page
    listed = shown(lab, None, Asked(sort="telling"), view="list")[0]
    assert re.findall(r'data-pair="(\w+)"', listed)[::2] == [pick.pair_id for pick in picks]
    assert "disagree" in listed


def test_differences_are_marked_between_the_sides_that_are_asked_for(lab: Lab) -> None:
    first = first_of(lab)
    texts = {"draft": "a b c", "initial": "a x c", "improved": "a y c"}
    found = replace(first, answers=[replace(answer, text=texts[answer.role]) for answer in first.answers])
    columns = {name: columns_of(found, lab.config(RUN), name, 10_000) for name in ("rejected", "draft", "")}
    marked = {
        name: {side.role for side in made if re.search("<(ins|del)>", side.text)} for name, made in columns.items()
    }
    assert marked == {"rejected": {"initial", "improved"}, "draft": {"draft", "improved"}, "": set()}


def test_the_request_is_shown_as_the_model_read_it_with_how_it_was_sampled(lab: Lab) -> None:
    first = first_of(lab)
    draft, improved = first.answer("draft"), first.answer("improved")
    chat = chat_format(lab.store.run(RUN).models, "pocket")
    made = {column.role: column for column in columns_of(first, lab.config(RUN), "", 10_000, chat)}
    asked = first.pair["prompt"]
    assert f"<s><user>question: {asked} answer: {draft.text} better answer:<bot>" in made["improved"].details.unescape()
    assert f"<s><user>{asked}<bot>" in made["initial"].details.unescape()
    for name, value in {**improved.sampling, "model": improved.model}.items():
        assert re.search(rf"<dt>{name}</dt><dd>{value}</dd>", made["improved"].details)
    without = {column.role: column for column in columns_of(first, lab.config(RUN), "", 10_000)}
    assert f"answer: {draft.text} better answer:" in without["improved"].details.unescape()


def test_margin_findings_and_topic_of_a_pair_are_told_and_lead_to_their_like(own_lab: Lab) -> None:
    run = own_lab.store.run(RUN)
    logp = next(logp for logp in run.read(PairLogp) if logp.model == "M_1")
    one = next(pair for pair in all_pairs(own_lab) if pair.pair_id == logp.pair_id)
    run.replace(Topic, [Topic(1, one.prompt_id, 4, "fruit", 0, 0, None, None)])
    run.append([Finding(1, "much longer", one.pair_id, 2.0, "twice")])
    margin = logp.beta * (logp.logp_chosen - logp.logp_rejected)
    page = shown(own_lab, one.pair_id)[0]
    assert f"margin {margin:+.2f} of {logp.gamma:.2f}".replace("-", "−") in page
    assert f"pairs?run={RUN}&amp;finding=much+longer" in page
    assert f"pairs?run={RUN}&amp;topic=4" in page


def test_a_hostile_pair_is_shown_as_text(hostile_lab: Lab) -> None:
    for modes in ({}, {"markdown": True}, {"blind": True}, {"diff": "off"}, {"view": "list"}):
        out = shown(hostile_lab, "p" * 16, run_id="hostile", **modes)
        page = out[0] + out[8]
        assert "<script" not in page
        assert not re.search("<(b>ana|i>k|i>l|u>)", page)
        assert "␀" in page
        assert "⟨U+202E⟩" in page
    assert shown(hostile_lab, "p" * 16, run_id="hostile")[0].count("<article") == 2
    assert "<script" not in prompt_rows.rows_table(
        hostile_lab, "hostile", prompts_page(hostile_lab.database, "hostile")
    )


def test_a_conversation_is_shown_turn_by_turn(hostile_lab: Lab) -> None:
    page = shown(hostile_lab, "p" * 16, run_id="hostile")[0]
    assert re.findall(r'class="lab-turn"><b>(.*?)</b>', page) == ["&lt;u&gt;", "user"]


def test_a_very_long_answer_is_cut_and_says_so(tmp_path: Path) -> None:
    store = open_store(open_home(tmp_path))
    run = store.create_run("long", "title: x\n", {"recipe": "import", "created_at": 1.0})
    run.append([Pair(1, "p", "q", "?", "c", "r", "x" * 500_000, "y", None, None, None, 500_000, 1, 0.0, True, None)])
    made = Lab(tmp_path)
    page = shown(made, "p", run_id="long")[0]
    assert "[500,000 characters in all]" in page
    assert len(page) < 200_000
    assert "not scored" in page
    made.close()


def test_an_imported_pair_offers_no_draft_and_its_sides_are_chosen_and_rejected(lab: Lab, hostile_lab: Lab) -> None:
    for made, run_id, diffs, drafted in ((lab, RUN, 3, True), (hostile_lab, "hostile", 2, False)):
        _, diff, sides, *_ = pairs._mode_values(Modes(diff="draft"), words_of_run(made, run_id))
        assert (len(diff.choices), sides.visible) == (diffs, drafted)
        assert diff.value == ("draft" if drafted else "rejected")
    first = first_of(lab)
    for role in ("candidate", "eval"):
        found = replace(first, answers=[replace(one, role=role) for one in first.answers if one.role != "draft"])
        assert [side.role for side in columns_of(found, lab.config(RUN), "", 100)] == ["rejected", "chosen"]


def test_that_an_order_by_gap_says_nothing_of_pairs_without_scores_is_told(lab: Lab, home: Path) -> None:
    run = open_store(home).create_run("set", "recipe: import\n", {"recipe": "import", "created_at": 1.0})
    run.append([Pair(1, "q" * 16, "p", "?", "c", "r", "yes", "no", None, None, None, 3, 2, 0.0, True, None, 0.0)])
    set_state(run.folder, "imported")
    unscored = Lab(home)
    for view in ("pair", "list"):
        assert "sort=length-change" in shown(unscored, None, run_id="set", view=view)[1]
        assert "says nothing" not in shown(unscored, None, Asked(sort="similarity"), run_id="set", view=view)[1]
        assert "says nothing" not in shown(lab, None, view=view)[1]
    unscored.close()


def test_an_unknown_pair_and_a_filter_without_pairs_say_what_to_do(lab: Lab, hostile_lab: Lab) -> None:
    assert "no pair nobody" in shown(lab, "nobody")[0]
    assert "No pair passes these filters" in shown(lab, None, Asked(PairQuery(min_gap=99.0)))[0]
    write_run(hostile_lab.home, RUN, iterations=1, prompts=20)
    assert "Run hostile has it" in shown(hostile_lab, "p" * 16)[0]


def test_a_pair_s_id_alone_or_its_prompt_s_opens_its_run(hostile_lab: Lab) -> None:
    write_run(hostile_lab.home, RUN, iterations=1, prompts=20, created_at=2_000_000_000.0)

    class Request:
        def __init__(self, **query: str) -> None:
            self.query_params = query

    opened = [
        selection(hostile_lab, Request(**query)).run_id  # type: ignore[arg-type]
        for query in ({}, {"pair": "p" * 16}, {"prompt": content_id("prompt", HOSTILE)}, {"pair": "x"})
    ]
    assert opened == [RUN, "hostile", "hostile", RUN]


def test_a_run_whose_config_cannot_be_read_still_shows_its_pairs(own_lab: Lab) -> None:
    (own_lab.store.run(RUN).folder / "run.yaml").write_text("iterations: none\n")
    assert shown(own_lab, None)[0].count("<article") == 3


# The list


def test_the_list_shows_a_screen_of_rows_in_order_and_turns_over(lab: Lab) -> None:
    expected = [row["pair_id"] for row in pairs_page(lab.database, RUN, PairQuery(), limit=100).rows]
    table, place, _, before, after, *_ = shown(lab, expected[3], view="list")
    assert re.findall(r'data-pair="(\w+)"', table)[::2] == expected[:20]
    assert f"1 to 20 of {len(expected)}" in place
    assert (before, after) == (None, expected[20])
    table, place, _, before, after, *_ = shown(lab, expected[25], view="list")
    assert re.findall(r'data-pair="(\w+)"', table)[::2] == expected[20:40]
    assert "21 to 40" in place
    assert (before, after) == (expected[0], expected[40])
    assert re.findall(r'data-pair="(\w+)" aria-current', table) == [expected[25]] * 2
    blind = shown(lab, expected[3], view="list", blind=True, markdown=True)[0]
    assert f"pair={expected[0]}&amp;markdown=1&amp;blind=1" in blind  # a row opens its pair as it is read now


def test_a_long_text_in_the_list_ends_with_an_ellipsis_and_claims_no_length(hostile_lab: Lab) -> None:
    listed = shown(hostile_lab, "p" * 16, run_id="hostile", view="list")[0]
    assert " …</span>" in listed
    assert "in all" not in listed


# Blind reading


def test_blind_reading_hides_what_tells_the_sides_until_a_verdict(own_lab: Lab) -> None:
    for one in all_pairs(own_lab)[:12]:
        out = shown(own_lab, one.pair_id, blind=True)
        page = out[0]
        texts = re.findall(r'<div class="lab-text" dir="auto">(.*?)</div>', page)
        plain = [re.sub("<[^>]+>", "", text) for text in texts]
        order = [one.chosen, one.rejected] if first_side(one.pair_id) == "chosen" else [one.rejected, one.chosen]
        assert plain == order
        for told in (
            "improved",
            "initial",
            "draft",
            "rejected",
            "chosen",
            "gap",
            "M_0",
            "R_1",
            "kept",
            "dropped",
            "meter",
        ):
            assert told not in page
        buttons = [button["value"] for button in map(pairs_config, out[10:12])]
        assert buttons == ["1 · answer 1 is better", "2 · answer 2 is better"]
        assert not {"rejected", "gap", "chosen"} & set(
            re.findall(r"\w+", shown(own_lab, one.pair_id, blind=True, view="list")[0])
        )
        give(own_lab, one.pair_id, "tie", "", "ana")
        assert "improved" not in shown(own_lab, one.pair_id, blind=True, author="bo")[0]
        assert "improved" in shown(own_lab, one.pair_id, blind=True, author="ana")[0]


def pairs_config(button: Any) -> dict[str, Any]:
    """What an update of a component sends."""
    return button if isinstance(button, dict) else button.constructor_args | {"value": button.value}


def test_a_blind_verdict_is_stored_for_the_side_it_was_given_to(own_lab: Lab) -> None:
    for one in all_pairs(own_lab)[:8]:
        for which, place in (("first", 0), ("second", 1)):
            pairs._vote(own_lab, RUN, one.pair_id, which, "", wanted(author="ana", blind=True))
            found = pair(own_lab.database, RUN, one.pair_id)
            assert found is not None
            sides = ["chosen", "rejected"] if first_side(one.pair_id) == "chosen" else ["rejected", "chosen"]
            assert found.notes[0]["verdict"] == sides[place]


# Verdicts


def verdict_of(lab: Lab, pair_id: str) -> list[tuple[str, str, str]]:
    found = pair(lab.database, RUN, pair_id)
    assert found is not None
    return [(note["author"], note["verdict"], note["text"]) for note in found.notes]


def test_a_verdict_is_stored_shown_changed_and_taken_back(own_lab: Lab) -> None:
    one = all_pairs(own_lab)[0].pair_id

    def vote(which: str, text: str = "") -> list[Any]:
        return pairs._vote(own_lab, RUN, one, which, text, wanted(author=" ana "))

    out = vote("second", "clearer <b>")
    assert verdict_of(own_lab, one) == [("ana", "chosen", "clearer <b>")]
    assert "<b>ana</b>: the chosen answer is better" in out[1]
    assert "clearer &lt;b&gt;" in out[1]
    assert out[-1] == "clearer <b>"
    assert [pairs_config(button)["variant"] for button in out[11:15]] == [
        "secondary",
        "primary",
        "secondary",
        "secondary",
    ]
    vote("bad", "clearer")
    vote("note", "longer")
    assert verdict_of(own_lab, one) == [("ana", "bad", "longer")]
    vote("")
    assert verdict_of(own_lab, one) == [("ana", "", "")]
    assert [note.verdict for note in own_lab.store.notes(Note)] == ["chosen", "bad", "bad", ""]
    assert shown(own_lab, None, Asked(PairQuery(verdict="any")))[2] is None


def test_words_without_a_verdict_are_shown_as_that_and_nothing_at_all_as_taken_back(own_lab: Lab) -> None:
    one = all_pairs(own_lab)[0].pair_id
    give(own_lab, one, "", "look at this", "ana")
    page = shown(own_lab, one)[0]
    assert "<b>ana</b>: <q dir='auto'>look at this</q>" in page
    assert "taken back" not in page
    give(own_lab, one, "tie", "look at this", "ana")
    assert "<b>ana</b>: a tie · <q dir='auto'>look at this</q>" in shown(own_lab, one)[0]
    give(own_lab, one, "", "", "ana")
    assert "<b>ana</b>: verdict taken back" in shown(own_lab, one)[0]


def test_a_note_being_written_outlives_every_mode_and_is_stored_when_its_pair_is_left(own_lab: Lab) -> None:
    one, other = (pair.pair_id for pair in all_pairs(own_lab)[:2])

    def answered(pair_id: str, text: str | None, **modes: Any) -> list[Any]:
        asked = wanted(author="ana", **modes)
        return pairs._leaving(own_lab, one, text, asked, pairs._show(own_lab, RUN, pair_id, asked))

    for modes in ({"markdown": True}, {"swap": True}, {"blind": True}, {"diff": "off"}, {"sides": "two"}):
        assert answered(one, "half a", **modes)[-2:] == [gr.skip(), gr.skip()]  # which note, and its text
    assert verdict_of(own_lab, one) == []
    give(own_lab, one, "tie", "before", "ana")
    for text in (None, " ", "before"):
        answered(other, text)
    assert len(own_lab.store.notes(Note)) == 1
    assert answered(other, " half a note ")[-2:] == [other, ""]
    assert verdict_of(own_lab, one) == [("ana", "tie", "half a note")]
    answered(one, "a list is another view", view="list")
    assert verdict_of(own_lab, one) == [("ana", "tie", "a list is another view")]


def test_a_note_too_long_is_refused_with_its_length(own_lab: Lab) -> None:
    with pytest.raises(LabError, match="5,001"):
        give(own_lab, "p", "tie", "x" * (LONGEST_NOTE + 1), "ana")


def test_a_read_only_lab_uncovers_a_blind_pair_and_stores_nothing(
    own_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    shut, said = Lab(own_lab.home, read_only=True), []
    monkeypatch.setattr(pairs.gr, "Info", said.append)
    one = all_pairs(own_lab)[0].pair_id
    out = pairs._vote(shut, RUN, one, "first", "", wanted(blind=True))
    assert (out[0], verdict_of(shut, one)) == (one, [])
    assert "improved" in out[1]
    assert "not stored" in said[0]
    pairs._leaving(shut, one, "a note", wanted(), pairs._show(shut, RUN, None, wanted(Asked(PairQuery(iteration=9)))))
    assert "your note is not stored" in said[1]
    with pytest.raises(StorageFault, match="read-only"):
        give(shut, one, "tie", "", "")
    shut.close()


def test_the_panel_tells_agreement_with_the_scorer_and_between_readers(own_lab: Lab) -> None:
    assert "No verdicts yet" in agreement_html(own_lab, RUN, "ana")
    scored = [one for one in all_pairs(own_lab) if one.gap and one.gap > 0][:4]
    for one, verdict in zip(scored, ("chosen", "chosen", "chosen", "rejected"), strict=True):
        give(own_lab, one.pair_id, verdict, "", "ana")
    give(own_lab, scored[0].pair_id, "chosen", "", "<i>bo</i>")
    html = agreement_html(own_lab, RUN, "ana")
    assert "<b>ana</b> (you)" in html
    assert "75.0%" in html
    assert "30.1% to 95.4%" in html  # Wilson for 3 of 4
    assert "&lt;i&gt;bo&lt;/i&gt; and ana" in html


def test_verdicts_and_notes_are_saved_with_their_pairs(own_lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(StorageFault, match="no verdict"):
        export_notes(own_lab.database, RUN, tmp_path / "n.csv", "csv")
    one, other = all_pairs(own_lab)[:2]
    give(own_lab, one.pair_id, "tie", "=1+1", "ana")
    give(own_lab, other.pair_id, "bad", "", "bo")
    lines = export_notes(own_lab.database, RUN, tmp_path / "n.jsonl", "jsonl").read_text().splitlines()
    rows = {row["pair_id"]: row for row in map(json.loads, lines)}
    assert (rows[one.pair_id]["verdict"], rows[one.pair_id]["author"], rows[one.pair_id]["note"]) == (
        "tie",
        "ana",
        "=1+1",
    )
    assert rows[other.pair_id]["chosen"] == other.chosen
    assert rows[one.pair_id]["noted_at"].endswith("Z")
    with export_notes(own_lab.database, RUN, tmp_path / "n.csv", "csv").open(newline="") as file:
        assert {row["note"] for row in csv.DictReader(file)} == {"'=1+1", ""}


# The address and the widgets


@pytest.mark.parametrize(
    "address",
    [
        {},
        {"iteration": "2", "kept": "dropped", "sort": "margin-up", "search": "flute"},
        {"verdict": "none", "eye": "ranked wrongly", "policy": "1", "min_gap": "0.1", "max_gap": "0.5"},
        {"reason": "no such reason", "finding": "a <kind>", "topic": "77"},
        {"rules": '{"min_gap":0.3}', "ids": "a,b", "sort": "given"},
    ],
)
def test_the_widgets_say_what_the_address_asks(lab: Lab, address: dict[str, str]) -> None:
    asked = asked_of(address)
    values = [value if not hasattr(value, "choices") else value.value for value in filter_updates(lab, RUN, asked)]
    for name, update in zip(FILTERS, filter_updates(lab, RUN, asked), strict=True):
        if hasattr(update, "choices"):
            assert update.value in [choice[1] for choice in update.choices], name
    assert asked_by(values) == asked
    assert set(PAIR_SORTS) >= {asked.sort}


def test_the_permalink_says_everything(lab: Lab) -> None:
    asked = asked_of({"iteration": "1", "kept": "kept", "sort": "gap-up", "rules": '{"min_gap":0.3}'})
    out = shown(lab, None, asked, blind=True, markdown=True, swap=True, diff="off", sides="two")
    here = json.loads(out[7])
    assert asked_of({name: value for name, value in here.items() if value}) == asked
    said = {
        "run": RUN,
        "blind": "1",
        "markdown": "1",
        "swap": "1",
        "diff": "off",
        "sides": "two",
        "prompt": None,
        "view": None,
    }
    assert {name: here[name] for name in said} == said
    assert here["pair"] == out[2]
    link = re.search(r'<a href="(.*?)" id="permalink"', out[1])
    assert link is not None
    assert f"pair={out[2]}" in link[1]
    assert "blind=1" in link[1]


def test_rules_ids_and_policy_are_named_and_can_be_let_go_of() -> None:
    asked = asked_of({"rules": '{"min_gap":0.3}', "ids": "a,b", "eye": "satisfied", "policy": "2", "topic": "x<"})
    html = chips_html("r", asked)
    assert "min gap 0.3" in html
    assert "named pairs: 2" in html
    assert "in the eyes of: M_2" in html
    assert "topic=x&lt;: that makes no sense" in html
    without_ids = re.findall(r'href="(.*?)"', html)[1]
    assert "ids=" not in without_ids
    assert "rules=" in without_ids


def test_a_pair_stands_among_its_neighbours(lab: Lab) -> None:
    third = pair_at(lab.database, RUN, PairQuery(), position=2)
    assert third is not None
    assert neighbours(lab.database, RUN, third.pair["pair_id"], PairQuery()) is not None
    assert "3 of " in shown(lab, third.pair["pair_id"])[1]
