"""Query results as files other programs read."""

import csv
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from storage import StorageFault
from storage.result_files import write_result
from storage.sandbox import QueryResult


def result(columns: list[str], rows: list[list[Any]]) -> QueryResult:
    return QueryResult(columns, ["VARCHAR"] * len(columns), rows, 0.0, False)


def test_a_csv_has_the_rows_and_no_formulas(tmp_path: Path) -> None:
    found = result(["a", "b", "c"], [[1, 'x, "y"\nz', None], [0.5, "=cmd()", ["p", "q"]], [True, "ü", {"k": 1}]])
    path = write_result(found, tmp_path / "r.csv", "csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["a", "b", "c"],
        ["1", 'x, "y"\nz', ""],
        ["0.5", "'=cmd()", '["p", "q"]'],
        ["True", "ü", '{"k": 1}'],
    ]


def test_a_parquet_file_keeps_numbers_lists_and_nothing(tmp_path: Path) -> None:
    found = result(["n", "words", "none"], [[1, ["p"], None], [None, [], None]])
    assert pq.read_table(write_result(found, tmp_path / "r.parquet", "parquet")).to_pylist() == [
        {"n": 1, "words": ["p"], "none": None},
        {"n": None, "words": [], "none": None},
    ]


def test_columns_of_one_name_and_of_mixed_values_still_make_a_parquet_file(tmp_path: Path) -> None:
    found = result(["x", "x"], [[1, 1], [2, "inf"]])
    table = pq.read_table(write_result(found, tmp_path / "r.parquet", "parquet"))
    assert table.to_pydict() == {"x": [1, 2], "x_1": ["1", "inf"]}


def test_a_result_without_rows_is_a_file_with_a_head(tmp_path: Path) -> None:
    empty = result(["a", "b"], [])
    assert write_result(empty, tmp_path / "r.csv", "csv").read_text().strip() == "a,b"
    assert pq.read_table(write_result(empty, tmp_path / "r.parquet", "parquet")).column_names == ["a", "b"]


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageFault, match="xlsx"):
        write_result(result(["a"], []), tmp_path / "r", "xlsx")  # type: ignore[arg-type]
