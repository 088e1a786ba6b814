import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from synpo_lab.records import Pair


@pytest.fixture
def lab(tiny_store: Any, small_run: list[Any]) -> Path:
    """A lab home with one made-up run called "run"."""
    home: Path = tiny_store(small_run).home
    return home


def test_a_query_gives_a_table_or_a_list_of_objects(cli: Any, lab: Path) -> None:
    sql = "SELECT run_id, count(*) AS pairs FROM pairs GROUP BY run_id"
    assert "pairs" in cli("query", sql, "--home", lab).out
    (row,) = json.loads(cli("query", sql, "--home", lab, "--json").out)
    assert row == {"run_id": "run", "pairs": 36}


def test_a_query_without_rows_is_an_empty_list(cli: Any, lab: Path) -> None:
    answer = cli("query", "SELECT * FROM pairs WHERE false", "--home", lab, "--json")
    assert (answer.code, answer.out) == (0, "[]\n")


def test_rows_beyond_the_limit_are_announced_but_not_on_standard_output(cli: Any, lab: Path) -> None:
    answer = cli("query", "SELECT * FROM pairs", "--home", lab, "--rows", 2, "--json")
    assert len(json.loads(answer.out)) == 2
    assert "more rows" in answer.err


@pytest.mark.parametrize(
    "sql", ["SELEC 1", "DROP TABLE pairs", "SELECT * FROM nothing", "SELECT 1; SELECT 2", "COPY pairs TO 'x.csv'"]
)
def test_a_statement_that_is_no_good_select_is_a_mistake(cli: Any, lab: Path, sql: str) -> None:
    answer = cli("query", sql, "--home", lab, "--json")
    assert (answer.code, answer.out) == (2, "")
    assert "hint: " in answer.err
    assert "Traceback" not in answer.err


def test_a_query_that_takes_too_long_is_given_up(cli: Any, lab: Path) -> None:
    answer = cli("query", "SELECT count(*) FROM range(1e12::BIGINT)", "--home", lab, "--seconds", 0.5)
    assert answer.code == 2
    assert "longer than 0.5 s" in answer.err


def test_runs_are_compared_in_one_table(cli: Any, lab: Path) -> None:
    rows = json.loads(cli("compare", "run", "--home", lab, "--json").out)
    assert [row["iteration"] for row in rows] == [1, 2]
    assert "win rate" in cli("compare", "run", "--home", lab).out


def test_comparing_a_run_that_is_not_there_is_a_mistake(cli: Any, lab: Path) -> None:
    answer = cli("compare", "run", "nobody", "--home", lab)
    assert (answer.code, answer.out) == (2, "")
    assert "'nobody'" in answer.err


def test_an_export_is_what_trl_trains_on(cli: Any, lab: Path, tmp_path: Path) -> None:
    to = tmp_path / "pairs.jsonl"
    told = json.loads(cli("export", "run", "--to", to, "--home", lab, "--json").out)
    rows = [json.loads(line) for line in to.read_text().splitlines()]
    kept = json.loads(cli("query", "SELECT count(*) AS n FROM pairs WHERE kept", "--home", lab, "--json").out)[0]["n"]
    assert (told["rows"], told["path"], len(rows)) == (kept, str(to), kept)
    assert {"prompt", "chosen", "rejected"} <= rows[0].keys()


def test_a_condition_and_an_iteration_choose_the_rows(cli: Any, lab: Path, tmp_path: Path) -> None:
    chosen = ["--all", "--iteration", "2", "--where", "len_chosen > len_rejected OR gap < 0"]
    told = json.loads(cli("export", "run", "--to", tmp_path / "a.jsonl", *chosen, "--home", lab, "--json").out)
    sql = "SELECT count(*) AS n FROM pairs WHERE iteration = 2 AND (len_chosen > len_rejected OR gap < 0)"
    (counted,) = json.loads(cli("query", sql, "--home", lab, "--json").out)
    assert told["rows"] == counted["n"] > 0


def exported(cli: Any, lab: Path, to: Path, *chosen: str) -> set[str]:
    told = cli("export", "run", "--to", to, "--format", "jsonl", "--overwrite", *chosen, "--home", lab)
    assert told.code == 0, told.err
    return {json.loads(line)["pair_id"] for line in to.read_text().splitlines()}


def ids(cli: Any, lab: Path, condition: str) -> set[str]:
    sql = f"SELECT pair_id FROM pairs WHERE {condition}"
    return {row["pair_id"] for row in json.loads(cli("query", sql, "--home", lab, "--json").out)}


def test_a_filter_by_name_or_file_chooses_the_rows_whatever_the_run_kept(cli: Any, lab: Path, tmp_path: Path) -> None:
    to, saved = tmp_path / "a.jsonl", tmp_path / "strict.yaml"
    assert exported(cli, lab, to, "--filter", "the paper, PairRM") == ids(cli, lab, "gap > 0.2 AND repetition <= 0.5")
    saved.write_text("filter: {min_gap: 0.3, max_repetition: null, where: len_chosen > 1}\n")
    wanted = ids(cli, lab, "gap > 0.3 AND len_chosen > 1 AND iteration = 2 AND prompt <> 'x'")
    assert wanted
    assert exported(cli, lab, to, "--filter", str(saved), "--iteration", "2", "--where", "prompt <> 'x'") == wanted


def test_verdicts_findings_topics_and_the_eye_choose_the_rows(cli: Any, lab: Path, tmp_path: Path) -> None:
    to, condition = tmp_path / "a.jsonl", "pair_id IN (SELECT pair_id FROM findings WHERE kind = 'much longer')"
    assert exported(cli, lab, to, "--all", "--finding", "much longer") == ids(cli, lab, condition)
    condition = "prompt_id IN (SELECT prompt_id FROM topics WHERE topic = 0)"
    assert exported(cli, lab, to, "--all", "--topic", "0") == ids(cli, lab, condition)
    assert exported(cli, lab, to, "--verdict", "none") == ids(cli, lab, "kept")
    wrongly = exported(cli, lab, to, "--all", "--eye", "ranked wrongly")
    assert wrongly < exported(cli, lab, to, "--all", "--eye", "seen by the policy")
    assert exported(cli, lab, to, "--all", "--search", "WORD1") == ids(cli, lab, "prompt ILIKE '%word1%'")


def test_a_comparison_is_of_the_evaluation_or_of_the_pairs_that_are_chosen(cli: Any, lab: Path, tmp_path: Path) -> None:
    def models(*chosen: str) -> list[str]:
        answer = cli("export", "run", "--to", tmp_path / "c.json", "--format", "llm-comparator", "--overwrite", *chosen,
                     "--home", lab)  # fmt: skip
        assert answer.code == 0, answer.err
        return [model["name"] for model in json.loads((tmp_path / "c.json").read_text())["models"]]

    assert models() == models("--evaluation", "--iteration", "1") == ["M_2", "M_0"]
    assert models("--pairs") == models("--iteration", "1") == ["chosen", "rejected"]


def test_prompts_that_lose_their_turns_are_told(
    cli: Any, tiny_store: Any, small_run: list[Any], tmp_path: Path
) -> None:
    talk = json.dumps([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
    pairs = [replace(one, messages=talk) for one in small_run if isinstance(one, Pair)][:3]
    home = tiny_store(pairs).home
    plain = cli("export", "run", "--all", "--to", tmp_path / "a.jsonl", "--home", home, "--json")
    assert plain.err.startswith("3 of the prompts are conversations, written as one text; --chat")
    assert json.loads(plain.out)["rows"] == 3
    assert cli("export", "run", "--all", "--chat", "--to", tmp_path / "b.jsonl", "--home", home).err == ""


def test_all_pairs_are_exported_on_demand_and_people_are_told_how_many(cli: Any, lab: Path, tmp_path: Path) -> None:
    answer = cli("export", "run", "--all", "--format", "parquet", "--to", tmp_path, "--home", lab)
    assert answer.out.startswith(f"36 rows in {tmp_path / 'run.parquet'}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--format", "word"], "no export format 'word'"),
        (["nobody"], "no run 'nobody'"),
        (["run", "--to", "hub:pairs"], "names no repository"),
        (["run", "--format", "csv", "--chat"], "csv has no chat form"),
        (["run", "--where", "gap >"], "cannot be read"),
        (["run", "--verdict", "good"], "no verdict 'good'"),
        (["run", "--eye", "blind"], "no view of the trainer 'blind'"),
        (["run", "--filter", "nobody's"], "there is no filter"),
        (["run", "--all", "--where", "gap > 99"], "nothing to export"),
    ],
)
def test_an_export_that_cannot_be_is_a_mistake(
    cli: Any, lab: Path, tmp_path: Path, arguments: list[str], message: str
) -> None:
    answer = cli("export", "--to", tmp_path / "x", *arguments, "--home", lab)
    assert (answer.code, answer.out) == (2, "")
    assert message in answer.err
    assert "hint: " in answer.err


def test_a_file_that_is_there_is_replaced_only_when_told_to(cli: Any, lab: Path, tmp_path: Path) -> None:
    to = tmp_path / "pairs.jsonl"
    to.write_text("mine")
    assert cli("export", "run", "--to", to, "--home", lab).code == 2
    assert to.read_text() == "mine"
    assert cli("export", "run", "--to", to, "--home", lab, "--overwrite").code == 0
    assert to.read_text() != "mine"
