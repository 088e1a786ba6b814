"""What leaves the lab is what is in it, in the shape the other tool reads."""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from storage import Database, StorageFault, Store, export
from storage.export.card import COLUMNS, Facts, dataset_card
from storage.queries import PairFilter, PairQuery
from synpo_lab.config import FilterConfig
from synpo_lab.records import EvalResult, Pair, Prompt, Response
from tests.reference_filter import drop_reason

TinyStore = Callable[..., Store]
ODD = 'a "quoted", text\nof two lines\twith \x00 NUL, 🦉, \u2028 and \\'


@pytest.fixture
def pairs(small_run: list[Any]) -> list[Pair]:
    found = [record for record in small_run if isinstance(record, Pair)]
    return [replace(found[0], chosen=ODD, kept=True, drop_reason=None), *found[1:]]


@pytest.fixture
def database(tiny_store: TinyStore, pairs: list[Pair]) -> Iterator[Database]:
    opened = Database(tiny_store(pairs))
    yield opened
    opened.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def by_id(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["pair_id"]: row for row in rows}


def test_trl_rows_hold_the_kept_pairs_and_load_as_a_dataset(
    database: Database, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = [pair for pair in pairs if pair.kept]
    report = export(database, "run", tmp_path / "out.jsonl", "trl")
    assert (report.rows, report.bytes) == (len(kept), (tmp_path / "out.jsonl").stat().st_size)
    rows = by_id(lines(report.path))
    assert rows == {
        pair.pair_id: {
            "prompt": pair.prompt,
            "chosen": pair.chosen,
            "rejected": pair.rejected,
            "score_chosen": pair.chosen_score,
            "score_rejected": pair.rejected_score,
            "gap": pair.gap,
            "iteration": pair.iteration,
            "pair_id": pair.pair_id,
        }
        for pair in kept
    }
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset

    loaded = load_dataset("json", data_files=str(report.path), split="train", cache_dir=str(tmp_path / "cache"))
    assert by_id(list(loaded)) == rows


def test_jsonl_and_parquet_hold_every_column_of_every_pair(
    database: Database, pairs: list[Pair], tmp_path: Path
) -> None:
    expected = {pair.pair_id: {"run_id": "run", **asdict(pair)} for pair in pairs}
    assert by_id(lines(export(database, "run", tmp_path / "a.jsonl", "jsonl", kept=False).path)) == expected
    table = pq.read_table(export(database, "run", tmp_path / "a.parquet", "parquet", kept=False).path)
    assert by_id(table.to_pylist()) == expected


def test_csv_holds_the_same_rows_as_text(database: Database, pairs: list[Pair], tmp_path: Path) -> None:
    report = export(database, "run", tmp_path / "a.csv", "csv", kept=False)
    with report.path.open(encoding="utf-8", newline="") as file:
        rows = by_id(list(csv.DictReader(file)))
    assert len(rows) == len(pairs)
    for pair in pairs:
        assert rows[pair.pair_id]["chosen"] == pair.chosen
        assert float(rows[pair.pair_id]["gap"]) == pair.gap
        assert rows[pair.pair_id]["drop_reason"] == (pair.drop_reason or "")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=1"])
def test_a_spreadsheet_runs_no_text_as_a_formula(
    tiny_store: TinyStore, pairs: list[Pair], tmp_path: Path, text: str
) -> None:
    database = Database(tiny_store([replace(pairs[0], chosen=text, gap=-0.5)]))
    report = export(database, "run", tmp_path, "csv", kept=False)
    with report.path.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["chosen"] == f"'{text}"
    assert row["gap"] == "-0.5"
    exact = lines(export(database, "run", tmp_path, "jsonl", kept=False).path)
    assert exact[0]["chosen"] == text


def test_a_filtered_view_is_exported_as_it_is(database: Database, pairs: list[Pair], tmp_path: Path) -> None:
    report = export(database, "run", tmp_path / "a", "jsonl", kept=False, query=PairQuery(iteration=2, min_gap=0.1))
    assert set(by_id(lines(report.path))) == {p.pair_id for p in pairs if p.iteration == 2 and p.gap >= 0.1}
    rules = FilterConfig(min_gap=0.3, max_repetition=0.9)
    report = export(database, "run", tmp_path / "b", "jsonl", rules=PairFilter(**rules.model_dump()))
    assert set(by_id(lines(report.path))) == {p.pair_id for p in pairs if drop_reason(p, rules) is None}


def test_alpaca_eval_outputs_are_the_last_policys_answers(
    tiny_store: TinyStore, small_run: list[Any], tmp_path: Path
) -> None:
    report = export(Database(tiny_store(small_run)), "run", tmp_path, "alpaca-eval")
    assert report.path.name == "run.json"
    texts = {r.response_id: r.text for r in small_run if isinstance(r, Response)}
    prompts = {p.prompt_id: p.text for p in small_run if isinstance(p, Prompt)}
    results = [r for r in small_run if isinstance(r, EvalResult) and (r.iteration, r.suite) == (2, "pocket")]
    expected = {prompts[result.prompt_id]: texts[result.response_a] for result in results}
    outputs = json.loads(report.path.read_text())
    assert {output["instruction"]: output["output"] for output in outputs} == expected
    assert {output["generator"] for output in outputs} == {"run/M_2"}
    assert report.rows == len(outputs) == len(expected)


def test_answers_of_several_judged_models_are_all_there_each_under_its_name(
    tiny_store: TinyStore, tmp_path: Path
) -> None:
    said = [
        Response(1, model, "p", "eval", model, f"by {model}", 0, "given", "{}") for model in ("good", "bad", "base")
    ]
    results = [
        EvalResult(1, "imported", "p", model, "base", model, "base", 1.0, 0.0, "a", 1, 1, annotator)
        for model in ("good", "bad")
        for annotator in ("j1", "j2")
    ]
    prompt = Prompt(1, "p", "a prompt", [], None, "import", "kept", None)
    database = Database(tiny_store([prompt, *said, *results]))
    outputs = json.loads(export(database, "run", tmp_path, "alpaca-eval").path.read_text())
    assert [(one["generator"], one["output"]) for one in outputs] == [("run/bad", "by bad"), ("run/good", "by good")]
    sides = json.loads(export(database, "run", tmp_path / "c.json", "llm-comparator").path.read_text())
    assert [model["name"] for model in sides["models"]] == ["bad, good", "base"]
    assert len(sides["examples"]) == 4


def test_alpaca_eval_outputs_of_pairs_alone_are_the_chosen_answers(
    database: Database, pairs: list[Pair], tmp_path: Path
) -> None:
    outputs = json.loads(export(database, "run", tmp_path, "alpaca-eval", kept=False).path.read_text())
    assert {output["instruction"]: output["output"] for output in outputs} == {p.prompt: p.chosen for p in pairs}


def test_llm_comparator_sets_the_policy_against_its_opponent(
    tiny_store: TinyStore, small_run: list[Any], tmp_path: Path
) -> None:
    report = export(Database(tiny_store(small_run)), "run", tmp_path / "c.json", "llm-comparator")
    comparison = json.loads(report.path.read_text())
    assert comparison["models"] == [{"name": "M_2"}, {"name": "M_0"}]
    assert set(comparison["metadata"]) == {"source_path", "custom_fields_schema"}
    results = [r for r in small_run if isinstance(r, EvalResult) and (r.iteration, r.suite) == (2, "pocket")]
    assert sorted(example["score"] for example in comparison["examples"]) == pytest.approx(
        sorted(r.score_a - r.score_b for r in results)
    )
    for example in comparison["examples"]:
        assert example["output_text_a"].startswith("new 2")
        assert example["output_text_b"].startswith("old")
        assert (example["tags"], example["individual_rater_scores"]) == (["iteration 2"], [])


def test_the_pairs_that_are_asked_for_are_compared_though_the_run_was_evaluated(
    tiny_store: TinyStore, small_run: list[Any], pairs: list[Pair], tmp_path: Path
) -> None:
    database, query = Database(tiny_store(small_run)), PairQuery(iteration=2, kept=True)
    wanted = {pair.prompt: pair.chosen for pair in pairs if pair.iteration == 2 and pair.kept}
    outputs = json.loads(export(database, "run", tmp_path, "alpaca-eval", False, query=query).path.read_text())
    assert {one["instruction"]: one["output"] for one in outputs} == wanted
    sides = json.loads(export(database, "run", tmp_path / "c", "llm-comparator", False, query=query).path.read_text())
    assert {one["input_text"]: one["output_text_a"] for one in sides["examples"]} == wanted
    tested = export(database, "run", tmp_path / "e", "alpaca-eval", False, query=query, evaluation=True)
    assert {one["generator"] for one in json.loads(tested.path.read_text())} == {"run/M_2"}


def test_an_evaluation_that_is_not_there_is_told(database: Database, tmp_path: Path) -> None:
    with pytest.raises(StorageFault, match="no evaluation"):
        export(database, "run", tmp_path, "alpaca-eval", evaluation=True)


def test_llm_comparator_scores_stay_on_its_scale(tiny_store: TinyStore, pairs: list[Pair], tmp_path: Path) -> None:
    gaps = [7.0, -3.0, math.nan, 0.25, None]  # None: nobody scored it, and it was chosen
    database = Database(tiny_store(replace(pairs[i], gap=gap) for i, gap in enumerate(gaps)))
    comparison = json.loads(export(database, "run", tmp_path, "llm-comparator", kept=False).path.read_text())
    assert sorted(example["score"] for example in comparison["examples"]) == [-1.5, 0.0, 0.25, 1.0, 1.5]
    assert comparison["models"] == [{"name": "chosen"}, {"name": "rejected"}]


def test_a_score_that_is_no_number_is_null_in_json(tiny_store: TinyStore, pairs: list[Pair], tmp_path: Path) -> None:
    database = Database(tiny_store([replace(pairs[0], gap=math.nan, chosen_score=math.inf)]))
    (row,) = lines(export(database, "run", tmp_path, "trl", kept=False).path)
    assert (row["gap"], row["score_chosen"]) == (None, None)


def test_a_file_that_exists_is_left_alone_unless_told(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_text("mine")
    with pytest.raises(StorageFault, match="exists already"):
        export(database, "run", path, "trl")
    assert path.read_text() == "mine"
    assert export(database, "run", path, "trl", overwrite=True).rows > 0
    assert path.read_text() != "mine"


def test_a_failed_export_leaves_no_file(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageFault, match="nothing to export") as fault:
        export(database, "run", tmp_path / "a", "jsonl", query=PairQuery(min_gap=99))
    assert "--all" in fault.value.hint

    def broken(*_: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.modules["storage.export.writers"], "as_json", broken)
    with pytest.raises(StorageFault, match="No space left"):
        export(database, "run", tmp_path / "b", "jsonl")
    assert [path.name for path in tmp_path.iterdir() if path.name != "lab"] == []


def test_an_unknown_run_or_format_is_said_to_be(database: Database, tmp_path: Path) -> None:
    with pytest.raises(StorageFault, match="no run 'other'"):
        export(database, "other", tmp_path / "a", "trl")
    with pytest.raises(StorageFault, match="llm-comparator"):
        export(database, "run", tmp_path / "a", "xlsx")  # type: ignore[arg-type]


MESSAGES = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "yes?"},
    {"role": "user", "content": "name a fruit"},
]


def test_chat_rows_are_lists_of_messages_the_earlier_turns_included(
    tiny_store: TinyStore, pairs: list[Pair], tmp_path: Path
) -> None:
    talk = replace(pairs[1], pair_id="talk", messages=json.dumps(MESSAGES), kept=True, gap=None, chosen_score=None)
    database = Database(tiny_store([pairs[0], talk]))
    rows = by_id(lines(export(database, "run", tmp_path / "chat.jsonl", "trl", chat=True).path))
    assert rows["talk"]["prompt"] == MESSAGES
    assert rows["talk"]["chosen"] == [{"role": "assistant", "content": talk.chosen}]
    assert rows["talk"]["gap"] is None
    assert [
        export(database, "run", tmp_path / f"{format}-{chat}", format, chat=chat).flattened
        for format, chat in (("trl", False), ("trl", True), ("datasets", False), ("jsonl", False))
    ] == [1, 0, 1, 0]
    assert rows[pairs[0].pair_id]["prompt"] == [{"role": "user", "content": pairs[0].prompt}]
    assert "messages" not in rows["talk"]
    database.close()


@pytest.mark.parametrize("chat", [False, True])
def test_a_dataset_folder_loads_and_its_card_tells_of_its_rows(
    database: Database, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chat: bool
) -> None:
    report = export(database, "run", tmp_path / "out", "datasets", chat=chat)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset

    rows = load_dataset(str(report.path), split="train", cache_dir=str(tmp_path / "cache"))
    kept = {pair.pair_id: pair for pair in pairs if pair.kept}
    assert report.rows == len(rows) == len(kept)
    for row in rows:
        pair = kept[row["pair_id"]]
        assert row["chosen"] == ([{"role": "assistant", "content": pair.chosen}] if chat else pair.chosen)
        assert row["gap"] == pair.gap
    card = (report.path / "README.md").read_text(encoding="utf-8")
    head = yaml.safe_load(card.split("---\n")[1])
    assert head["size_categories"] == ["n<1K"]
    assert f"{len(kept)} preference pairs" in card
    longer = sum(pair.len_chosen > pair.len_rejected for pair in kept.values()) / len(kept)
    assert f"{longer:.1%} of the rows" in card
    assert set(rows.column_names) == set(COLUMNS)
    assert str(tmp_path) not in card


def test_a_dataset_folder_takes_the_place_of_an_older_one_but_of_nothing_else(
    database: Database, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    first = export(database, "run", folder, "datasets")
    with pytest.raises(StorageFault, match="exists already"):
        export(database, "run", folder, "datasets")
    again = export(database, "run", folder, "datasets", kept=False, overwrite=True)
    assert again.path == folder
    assert again.rows > first.rows
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(StorageFault, match="no dataset written by the lab"):
        export(database, "run", folder, "datasets", overwrite=True)
    assert (folder / "mine.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_only_preference_rows_have_a_chat_form(database: Database, tmp_path: Path) -> None:
    with pytest.raises(StorageFault, match="csv has no chat form") as fault:
        export(database, "run", tmp_path / "a", "csv", chat=True)
    assert "trl" in fault.value.hint


def test_a_card_is_markdown_whatever_the_run_is_called() -> None:
    run = {"run_id": "r", "title": "<script>\n# `x`", "recipe": "synpo", "policy": "/home/me/secret/model",
           "scorer": "rubric", "seed": 1, "iterations": 2, "config": '{"filter": {"min_gap": 0.1}}'}  # fmt: skip
    card = dataset_card(run, Facts(12, False, None, 0.5, 10.0, 9.0), "1.0")
    assert "<script>" not in card
    assert "/home" not in card
    assert "- policy M_0: model" in card
    assert "min_gap: 0.1" in card
