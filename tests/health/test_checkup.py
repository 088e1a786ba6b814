"""All checks over one store: what is written, and that it is what the report says."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from storage.database import Database
from storage.locks import hold_lock
from storage.queries.health import edit_counts, held_out_prompts
from synpo_lab.errors import DataError, RunError, StorageError
from synpo_lab.health import check_run, pairs_since, stored_report
from synpo_lab.health.edit_table import edit_table, topic_edits
from synpo_lab.health.progress import LOCK, progress
from synpo_lab.health.report import as_json_text, as_markdown, from_json, scope, worst_first
from synpo_lab.home import open_store
from synpo_lab.records import Finding, Pair, Prompt, Response
from tests.health.conftest import a_pair
from tests.plausible_run import write_run

REAL = Path(__file__).parents[3] / "shared" / "data" / "alpaca_eval" / "outputs"
HOSTILE = "<script>alert(1)</script>\0 \u202egnp.exe " + "w" * 50_000


def stored(home: Path, run_id: str = "run") -> list[Finding]:
    return list(open_store(home).run(run_id).read(Finding))


def test_findings_are_written_and_are_as_many_as_the_report_says(tiny_store: Any, small_run: list[Any]) -> None:
    home = tiny_store(small_run).home
    report = check_run(home, "run")
    counted = Counter(finding.kind for finding in stored(home))
    assert {check.name: check.found for check in report.checks if check.found} == {
        kind: n for kind, n in counted.items() if "edit: " not in kind
    }
    assert report.edits == {kind: n for kind, n in counted.items() if "edit: " in kind}
    database = Database(open_store(home))
    pairs = database.rows("SELECT iteration, pair_id FROM pairs")
    assert {(one.iteration, one.pair_id) for one in stored(home)} <= {
        (row["iteration"], row["pair_id"]) for row in pairs
    }
    kept = {check.name: check.found_kept for check in report.checks if check.found}
    told = database.rows(
        "SELECT kind, count(*) FILTER (kept) AS kept FROM findings JOIN pairs USING (run_id, iteration, pair_id) GROUP BY 1"
    )
    assert {row["kind"]: row["kept"] for row in told if row["kind"] in kept} == kept
    database.close()


def test_a_second_check_takes_the_place_of_the_first(tiny_store: Any, small_run: list[Any]) -> None:
    home = tiny_store(small_run).home
    first = (check_run(home, "run"), stored(home))
    second = (check_run(home, "run"), stored(home))
    assert sorted(map(repr, first[1])) == sorted(map(repr, second[1]))
    assert first[0].checks == second[0].checks


def test_every_pair_has_one_edit_and_one_draft_edit(tiny_store: Any, small_run: list[Any]) -> None:
    home = tiny_store(small_run).home
    report = check_run(home, "run")
    for prefix in ("edit: ", "draft edit: "):
        assert sum(n for kind, n in report.edits.items() if kind.startswith(prefix)) == report.pairs


def test_the_report_is_read_back_as_it_was(tiny_store: Any, small_run: list[Any]) -> None:
    store = tiny_store(small_run)
    report = check_run(store.home, "run")
    assert stored_report(store.run("run")) == report
    assert from_json(json.loads(as_json_text(report))) == report
    for check in report.checks:
        assert f"| {check.name} |" in as_markdown(report)


def test_a_report_of_another_version_is_no_report(tiny_store: Any) -> None:
    run = tiny_store([a_pair()]).run("run")
    assert stored_report(run) is None
    run.mark("health", {"checks": [{"name": "old"}]})
    assert stored_report(run) is None


def test_pairs_added_since_are_counted(tiny_store: Any) -> None:
    store = tiny_store([a_pair()])
    report = check_run(store.home, "run")
    database = Database(store)
    assert pairs_since(database, report) == 0
    store.run("run").append([a_pair("another"), a_pair("a third")])
    assert pairs_since(database, report) == 2
    database.close()


def test_a_run_without_pairs_is_checked_and_nothing_can_be_told(tiny_store: Any) -> None:
    home = tiny_store([]).home
    report = check_run(home, "run")
    assert (report.pairs, report.edits, stored(home)) == (0, {}, [])
    assert {check.judgement for check in report.checks} == {"unknown"}
    assert as_markdown(report)


def test_pairs_without_scores_are_checked_for_all_but_scores(tiny_store: Any) -> None:
    report = check_run(tiny_store([a_pair(f"prompt {i}") for i in range(5)]).home, "run")
    unknown = {check.name for check in report.checks if check.judgement == "unknown"}
    assert unknown == {
        "score follows length", "tie", "scores disagree", "outlier gap", "surface disagrees", "evaluation overlap"
    }  # fmt: skip


def test_an_answer_cut_at_the_token_limit_is_truncated_whatever_it_ends_in(tiny_store: Any) -> None:
    pair = a_pair(chosen="A whole sentence.")
    cut = Response(0, pair.chosen_id, pair.prompt_id, "improved", "R_1", pair.chosen, 9, "length", "{}")
    home = tiny_store([pair, cut]).home
    check_run(home, "run")
    (found,) = [one for one in stored(home) if one.kind == "truncated answer"]
    assert (found.pair_id, found.detail) == (pair.pair_id, "chosen: cut at the token limit")


def test_an_empty_answer_is_found_and_told_by_its_side(tiny_store: Any) -> None:
    empty, blank = a_pair("one", rejected=""), a_pair("two", chosen=" \n\t")
    home = tiny_store([empty, blank, a_pair("three")]).home
    check_run(home, "run")
    found = {one.pair_id: one.detail for one in stored(home) if one.kind == "empty answer"}
    assert found == {
        empty.pair_id: "rejected: nothing but white space",
        blank.pair_id: "chosen: nothing but white space",
    }


def test_hostile_texts_are_checked_like_others(tiny_store: Any) -> None:
    pair = a_pair(HOSTILE, HOSTILE, HOSTILE[::-1])
    home = tiny_store([pair]).home
    check_run(home, "run")
    found = {one.kind: one for one in stored(home)}
    assert found["encoding trouble"].detail.startswith("prompt: NUL; chosen: NUL; rejected: NUL")


def test_overlap_with_held_out_prompts_and_with_a_file_is_found(tiny_store: Any, tmp_path: Path) -> None:
    own, named = a_pair("Name a Fruit"), a_pair("Write about kale, please, in ten words or even fewer")
    held = Prompt(0, "h" * 16, "name a fruit!", [], None, "eval:pocket", "held-out", None)
    store = tiny_store([own, named, a_pair("elsewhere"), held])
    database = Database(store)
    assert held_out_prompts(database, "run") == ["name a fruit!"]
    database.close()
    suite = tmp_path / "suite.json"
    suite.write_text(json.dumps([{"instruction": "write about kale please in ten words or even fewer"}]))
    without, with_file = check_run(store.home, "run"), check_run(store.home, "run", [suite])
    assert without.check("evaluation overlap").found == 1
    assert with_file.check("evaluation overlap").found == 2
    assert with_file.evaluation == ["the run's held-out prompts", "suite.json"]
    found = {one.pair_id: one.detail for one in stored(store.home) if one.kind == "evaluation overlap"}
    assert found[own.pair_id] == "the same words as: name a fruit!"
    assert set(found) == {own.pair_id, named.pair_id}


def test_a_sample_of_texts_is_said_and_is_the_same_each_time(tiny_store: Any) -> None:
    pairs = [a_pair(f"prompt {i}", chosen=f"caf\ufffd {i}") for i in range(60)]
    store = tiny_store(pairs)
    reports = [check_run(store.home, "run", most_texts=20) for _ in range(2)]
    first, second = ((report.texts_read, report.check("encoding trouble").looked_at) for report in reports)
    assert first == second == (20, 20)
    assert reports[0].check("encoding trouble").found == 20
    assert reports[0].check("encoding trouble").share == 1.0
    assert reports[0].check("identical sides").looked_at == 60
    assert "read 20 pairs drawn at random" in as_markdown(reports[0])


def test_the_scope_names_the_check_of_numbers_that_needs_texts(tiny_store: Any) -> None:
    pairs = [a_pair(f"name {i} plums", chosen=f"plums {'and ' * i}", rejected="name " * (i % 7)) for i in range(120)]
    report = check_run(tiny_store(pairs).home, "run", most_texts=100)
    fewer = {check.name for check in report.checks if check.looked_at == 100 and check.group != "answers"}
    assert fewer == {"surface disagrees"}
    assert "`surface disagrees` which needs them, read 100 pairs" in scope(report)


def test_similarities_that_were_not_stored_are_counted(tiny_store: Any) -> None:
    from dataclasses import replace

    words = " ".join(f"word{i}" for i in range(50))
    old = replace(a_pair(chosen=words, rejected=f"{words} more"), similarity=None)
    assert check_run(tiny_store([old]).home, "run").check("near-identical sides").found == 1


def test_an_unknown_run_a_bad_file_and_a_check_going_on_are_mistakes(tiny_store: Any, tmp_path: Path) -> None:
    store = tiny_store([a_pair()])
    with pytest.raises(RunError, match="no run 'nobody'"):
        check_run(store.home, "nobody")
    with pytest.raises(DataError):
        check_run(store.home, "run", [tmp_path / "nothing.json"])
    run = store.run("run")
    with hold_lock(run.folder / LOCK, busy="busy"):
        assert progress(run) is not None
        with pytest.raises(StorageError, match="is going on"):
            check_run(store.home, "run")
    assert progress(run) is None
    assert stored_report(run) is None


def test_progress_is_told_while_a_check_goes_on_and_forgotten_after(tiny_store: Any) -> None:
    store = tiny_store([a_pair(f"p{i}") for i in range(3)])
    run, seen = store.run("run"), []
    check_run(store.home, "run", tell=lambda what, done, total: seen.append((what, progress(run))))
    assert [what for what, _ in seen] == ["numbers", "texts", "prompts", "near-duplicates", "writing"]
    assert all(now is not None for _, now in seen)
    assert progress(run) is None


def test_what_needs_attention_comes_first(tiny_store: Any) -> None:
    report = check_run(tiny_store([a_pair(chosen="x", rejected="x"), a_pair("p")]).home, "run")
    order = [check.judgement for check in worst_first(report.checks)]
    assert order == sorted(order, key=["trouble", "look", "fine", "unknown"].index)
    assert order[0] == "trouble"


def test_edits_are_counted_by_round_and_topic(tiny_store: Any, small_run: list[Any]) -> None:
    store = tiny_store(small_run)
    report = check_run(store.home, "run")
    database = Database(store)
    by_iteration = edit_counts(database, "run", "edit: ")
    pairs = Counter(record.iteration for record in small_run if isinstance(record, Pair))
    counted = Counter[int]()
    for row in by_iteration:
        counted[row["iteration"]] += row["pairs"]
    assert counted == pairs
    table = edit_table(by_iteration, "edit: ")
    assert {f"edit: {row.name}": row.pairs for row in table.rows} == {
        kind: n for kind, n in report.edits.items() if kind.startswith("edit: ")
    }
    assert all(sum(row.by_part) == row.pairs for row in table.rows)
    topics = topic_edits(edit_counts(database, "run", "edit: ", by_topic=True), "edit: ")
    assert sum(topic.of for topic in topics) == report.pairs
    assert [topic.of for topic in topics] == sorted((topic.of for topic in topics), reverse=True)
    database.close()


def test_a_run_of_the_pocket_world_is_checked(tmp_path: Path) -> None:
    write_run(tmp_path, "r", iterations=2, prompts=40)
    report = check_run(tmp_path, "r")
    assert report.check("evaluation overlap").judgement != "unknown"
    assert report.check("score follows length").number is not None
    assert sum(n for kind, n in report.edits.items() if kind.startswith("draft edit: ")) == report.pairs


@pytest.mark.skipif(not REAL.is_dir(), reason="the AlpacaEval data is not on this machine")
def test_eight_hundred_real_pairs_are_checked(tiny_store: Any) -> None:
    """Llama 3 8B Instruct before and after SimPO: SimPO's answers are the shorter ones more often than not."""
    before, after = (
        json.loads((REAL / f"{name}.json").read_text())
        for name in ("Meta-Llama-3-8B-Instruct", "Llama-3-Instruct-8B-SimPO")
    )
    pairs = [
        a_pair(one["instruction"], other["output"], one["output"]) for one, other in zip(before, after, strict=True)
    ]
    home = tiny_store(pairs).home
    report = check_run(home, "run", [REAL / "gpt4_1106_preview.json"])
    unequal = [pair for pair in pairs if pair.len_chosen != pair.len_rejected]
    longer = sum(pair.len_chosen > pair.len_rejected for pair in unequal)
    assert report.check("longer is chosen").number == pytest.approx(100 * longer / len(unequal))
    assert report.check("identical sides").found == sum(pair.chosen == pair.rejected for pair in pairs)
    assert report.check("evaluation overlap").found == 805
    assert report.check("encoding trouble").found == 0
    assert report.check("near-duplicate prompt").found == 14  # fourteen recipes of fourteen countries
    assert max(report.edits, key=lambda kind: report.edits[kind]) == "edit: rewritten"
