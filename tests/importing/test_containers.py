"""storage.importers: the same rows out of every container, and what is wrong said with its line."""

import bz2
import gzip
import json
import lzma
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import StorageFault
from storage.importers import LONGEST_ROW, Found, open_source
from tests.importing.conftest import WRITERS, as_arrow, as_jsonl, as_parquet

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ROWS = st.lists(st.fixed_dictionaries({"prompt": TEXT, "chosen": TEXT, "rejected": TEXT}), min_size=1, max_size=8)


def found_in(path: Path) -> list[Found]:
    return [found for block in open_source(str(path)).blocks() for found in block.rows()]


def faults_of(path: Path) -> list[tuple[int, str]]:
    return [(found.number, found.fault) for found in found_in(path) if found.fault]


@pytest.mark.parametrize("ending", WRITERS)
@given(rows=ROWS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
def test_any_text_comes_out_of_every_container_as_it_went_in(
    ending: str, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    path = tmp_path / f"rows.{ending}"
    WRITERS[ending](path, rows)
    assert [found.row for found in found_in(path)] == rows


@pytest.mark.parametrize(
    ("ending", "container"),
    [
        ("jsonl", "JSONL"),
        ("jsonl.gz", "JSONL"),
        ("json", "JSON"),
        ("csv", "CSV"),
        ("parquet", "Parquet"),
        ("arrow", "Arrow"),
    ],
)
def test_the_content_tells_the_container_whatever_the_name(ending: str, container: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{ending}"
    WRITERS[ending](path, [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    assert open_source(str(path)).container == container
    bare = path.rename(tmp_path / "rows")
    assert open_source(str(bare)).container == container
    assert len(found_in(bare)) == 1


def test_a_wrong_line_is_named_and_reading_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n\nnonsense\n[1]\n{"a": 2}\n{"a": "to')
    assert [found.row for found in found_in(path) if found.row] == [{"a": 1}, {"a": 2}]
    assert faults_of(path) == [(3, "not JSON"), (4, "not an object"), (6, "not JSON")]


def test_a_line_that_is_too_long_is_passed_over_without_being_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": "' + b"x" * (3 * LONGEST_ROW) + b'"}\n{"a": 2}\n')
    found = found_in(path)
    assert [one.row for one in found] == [{"a": 1}, None, {"a": 2}]
    assert found[1].number == 2
    assert found[1].fault == f"longer than {LONGEST_ROW:,} bytes"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 50_000, '{"a": 1' + "0" * 5_000 + "}"])
def test_json_that_would_break_a_parser_is_a_wrong_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' + text + "\n")
    assert faults_of(path) == [(2, "not JSON")]


def test_an_array_is_read_across_the_edges_of_what_is_held(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    rows = [{"n": number, "text": "é" * (number * 7919 % 60_000)} for number in range(120)]
    path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    assert [found.row for found in found_in(path)] == rows


def test_behind_a_broken_item_of_an_array_nothing_is_guessed(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1}, {"a": 2}, {"a": oops}, {"a": 4}]')
    found = found_in(path)
    assert [one.row for one in found] == [{"a": 1}, {"a": 2}, None]
    assert (found[2].number, found[2].fault) == (3, "not JSON")
    assert "nothing behind this item" in found[2].detail


@pytest.mark.parametrize("behind", ['[{"a": 2}]', '{"a": 2}', "oops"])
def test_what_stands_behind_an_array_is_told_and_not_lost_silently(behind: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(f'[{{"a": 1}}]\n{behind}')
    first, second = found_in(path)
    assert (first.row, second.row, second.number) == ({"a": 1}, None, 2)
    assert second.fault == "there is more behind the end of the array"
    assert behind[:5] in second.detail


@pytest.mark.parametrize("text", ['[{"a": 1}, {"a": 2}', '[{"a": 1}, {"a": 2},'])
def test_a_torn_array_gives_what_is_whole(text: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(text)
    found = found_in(path)
    assert [one.row for one in found] == [{"a": 1}, {"a": 2}, None]
    assert "torn" in found[2].detail


def test_an_item_of_an_array_that_is_too_long_ends_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[{"a": 1}, {"a": "' + "x" * (2 * LONGEST_ROW) + '"}]')
    assert faults_of(path)[0][0] == 2


def test_csv_keeps_line_breaks_in_cells_and_names_wrong_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('prompt,chosen,rejected\n"a\nb",c,d\nonly,two\nx,"y"z,w\ne,f,g\n', encoding="utf-8")
    assert [found.row["prompt"] for found in found_in(path) if found.row] == ["a\nb", "e"]
    assert faults_of(path) == [(4, "cells and header do not match"), (5, "not CSV")]


def test_two_columns_of_one_name_are_refused_since_one_would_be_lost(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,chosen,rejected,chosen\na,b,c,d\n")
    rows = pa.table([["a"], ["b"], ["c"]], names=["prompt", "chosen", "chosen"])
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as file, pa.ipc.new_stream(file, rows.schema) as writer:
        writer.write_table(rows)
    for name in ("rows.csv", "rows.arrow"):
        with pytest.raises(StorageFault, match="two columns named 'chosen'") as caught:
            found_in(tmp_path / name)
        assert caught.value.hint


def test_a_header_may_have_several_cells_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("prompt,,\na,b,c\n")
    assert [found.row["prompt"] for found in found_in(tmp_path / "rows.csv") if found.row] == ["a"]


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_the_delimiter_is_told_by_the_header(delimiter: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(delimiter.join(["prompt", "chosen", "rejected"]) + "\n" + delimiter.join("abc") + "\n")
    assert [found.row for found in found_in(path)] == [{"prompt": "a", "chosen": "b", "rejected": "c"}]


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path: Path) -> None:
    for name, text in (
        ("rows.csv", "prompt,chosen\na,b\n"),
        ("rows.jsonl", '{"prompt": "a"}\n'),
        ("r.json", '[{"prompt": 1}]'),
    ):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
        (found,) = found_in(tmp_path / name)
        assert "prompt" in (found.row or {})


@pytest.mark.parametrize("bytes_per_row", [1, 60_000])
def test_parquet_is_read_in_batches_with_the_number_of_each_row(bytes_per_row: int, tmp_path: Path) -> None:
    rows = [
        {"prompt": str(number), "chosen": "x" * bytes_per_row} for number in range(2_500 if bytes_per_row == 1 else 60)
    ]
    as_parquet(tmp_path / "rows.parquet", rows)
    found = found_in(tmp_path / "rows.parquet")
    assert [one.row for one in found] == rows
    assert [one.number for one in found] == list(range(1, len(rows) + 1))
    assert open_source(str(tmp_path / "rows.parquet")).count() == len(rows)


def test_text_columns_of_parquet_that_are_not_utf8_cost_only_their_rows(tmp_path: Path) -> None:
    wrong = pa.array([b"fine", b"\xff\xfe", b"fine too"]).view(pa.string())
    pq.write_table(pa.table({"prompt": wrong}), tmp_path / "rows.parquet")
    assert [found.row for found in found_in(tmp_path / "rows.parquet")] == [
        {"prompt": "fine"},
        None,
        {"prompt": "fine too"},
    ]
    assert faults_of(tmp_path / "rows.parquet") == [(2, "not UTF-8 text")]


@pytest.mark.parametrize("keep", [8, 200])
def test_a_torn_parquet_file_is_refused_as_a_whole(keep: int, tmp_path: Path) -> None:
    as_parquet(tmp_path / "whole.parquet", [{"prompt": str(number)} for number in range(100)])
    torn = tmp_path / "torn.parquet"
    torn.write_bytes((tmp_path / "whole.parquet").read_bytes()[:keep])
    with pytest.raises(StorageFault, match="not a whole Parquet file"):
        found_in(torn)


def test_a_block_of_a_large_arrow_batch_weighs_what_its_rows_do(tmp_path: Path) -> None:
    as_arrow(tmp_path / "rows.arrow", [{"prompt": "x" * 1_000}] * 5_000)
    blocks = list(open_source(str(tmp_path / "rows.arrow")).blocks())
    assert [len(block) for block in blocks] == [1_000] * 5
    assert max(len(pickle.dumps(block)) for block in blocks) < 1_200_000


def test_a_torn_gzip_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": 1}\n' * 5_000)[:-20])
    with pytest.raises(StorageFault, match="damaged gzip"):
        found_in(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (b"\xff\xfe{\x00", "UTF-16 text"),
        ('{"prompt": 1}'.encode("utf-16-le"), "UTF-16LE text"),
        ('{"prompt": 1}'.encode("utf-16-be"), "UTF-16BE text"),
        ('{"prompt": 1}'.encode("utf-32"), "UTF-32 text"),
        (b"PK\x03\x04\x14\0\0\0", "a zip archive, or a workbook of Excel"),
        (bz2.compress(b'{"prompt": 1}'), "compressed by bzip2"),
        (lzma.compress(b'{"prompt": 1}'), "compressed by xz"),
        (b"\x28\xb5\x2f\xfd\0\0", "compressed by zstd"),
        (gzip.compress(gzip.compress(b'{"prompt": 1}')), "compressed already"),
        (gzip.compress(b"PAR1\0\0"), "compressed already"),
        (gzip.compress(b""), "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "binary file"),
        (b'{\n "prompt": "a"\n}\n', "over several lines"),
    ],
)
def test_what_is_no_data_file_is_refused_with_a_hint(content: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "rows"
    path.write_bytes(content)
    with pytest.raises(StorageFault, match=said) as caught:
        open_source(str(path))
    assert caught.value.hint


def test_what_can_be_read_once_or_never_ends_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    for name in (str(tmp_path / "rows.jsonl"), "/dev/zero"):
        with pytest.raises(StorageFault, match="neither a file nor a folder") as caught:
            open_source(name)
        assert caught.value.hint


def test_links_that_lead_round_or_nowhere_are_no_data(tmp_path: Path) -> None:
    (tmp_path / "round.jsonl").symlink_to("round.jsonl")
    (tmp_path / "nowhere.jsonl").symlink_to("gone.jsonl")
    for name in ("round.jsonl", "nowhere.jsonl"):
        with pytest.raises(StorageFault, match="there is no file"):
            open_source(str(tmp_path / name))
    as_jsonl(tmp_path / "rows.jsonl", [{"prompt": "a"}])
    (tmp_path / "up").symlink_to(".")
    assert [path.name for path in open_source(str(tmp_path)).files] == ["rows.jsonl"]


def test_hidden_files_of_a_folder_are_nobodys_data(tmp_path: Path) -> None:
    """The shadows that macOS leaves, and the cache of a download."""
    for name in ("rows.jsonl", "._rows.jsonl", ".cache/huggingface/more.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('{"prompt": "a"}\n')
    source = open_source(str(tmp_path))
    assert ([path.name for path in source.files], source.note) == (["rows.jsonl"], "")


def test_files_that_were_put_together_keep_their_byte_order_marks_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n{"a": 2}\n\xef\xbb\xbf{"a": 3}\r\n')
    assert [found.row for found in found_in(path)] == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_a_value_of_parquet_that_python_has_no_number_for_costs_only_its_row(tmp_path: Path) -> None:
    times = pa.array([0, 2**62], pa.timestamp("us"))
    pq.write_table(pa.table({"prompt": ["a", "b"], "at": times}), tmp_path / "rows.parquet")
    assert faults_of(tmp_path / "rows.parquet") == [(2, "a value that cannot be read")]


CUT = """
import os, sys
from storage import StorageFault
from storage.importers import open_source
path, read = sys.argv[1], 0
try:
    for block in open_source(path).blocks():
        read += len(list(block.rows()))
        os.truncate(path, 2_500_000)
except StorageFault as fault:
    print(read, fault.message)
"""


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_file_that_is_cut_short_while_it_is_read_is_a_fault_and_no_crash(ending: str, tmp_path: Path) -> None:
    """A mapped file would end the process that reads it by a bus error: the web server's, when it looks at a file."""
    rows = pa.table({"prompt": [os.urandom(500).hex() for _ in range(8_000)]})
    path = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        pq.write_table(rows, path, row_group_size=1_000, compression="none")
    else:
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, rows.schema) as writer:
            writer.write_table(rows, max_chunksize=1_000)
    done = subprocess.run(
        [sys.executable, "-c", CUT, str(path)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f"not a whole {ending.capitalize()} file" in done.stdout
    assert int(done.stdout.split()[0]) < 8_000


def test_a_missing_file_and_an_empty_folder_are_told(tmp_path: Path) -> None:
    with pytest.raises(StorageFault, match="there is no file"):
        open_source(str(tmp_path / "nothing"))
    with pytest.raises(StorageFault, match="holds no data files"):
        open_source(str(tmp_path))


def test_a_saved_dataset_is_read_and_of_several_splits_train(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{"prompt": "é\0", "chosen": [{"role": "assistant", "content": "b"}]}] * 3
    one = datasets.Dataset.from_list(rows)
    one.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"test": one.select([0]), "train": one}).save_to_disk(tmp_path / "both")
    assert [found.row for found in found_in(tmp_path / "one")] == rows
    assert [found.row for found in found_in(tmp_path / "both")] == rows
    assert "split 'train' of test, train" in open_source(str(tmp_path / "both")).note
    assert len(found_in(tmp_path / "both" / "test")) == 1


def test_a_folder_of_parquet_files_is_read_in_order_and_of_its_splits_train(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for name, text in (("train-00001-of-2", "b"), ("train-00000-of-2", "a"), ("test-00000-of-1", "c")):
        as_parquet(folder / f"{name}.parquet", [{"prompt": text}])
    (tmp_path / "dataset_infos.json").write_text("{}")
    assert [found.row for found in found_in(tmp_path)] == [{"prompt": "a"}, {"prompt": "b"}]
    assert "2 of 3 files" in open_source(str(tmp_path)).note


def test_files_of_a_folder_that_are_of_another_kind_are_told(tmp_path: Path) -> None:
    for name in ("a.jsonl", "below/b.csv", "c.json", "d.json", "e.tsv", "state.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"prompt": "a"}\n')
    source = open_source(str(tmp_path))
    assert [path.name for path in source.files] == ["a.jsonl"]
    assert "passed over, of another kind than a.jsonl: below/b.csv, c.json, d.json and 1 more" in source.note


def test_saved_datasets_cannot_name_files_outside_their_folder(tmp_path: Path) -> None:
    as_arrow(tmp_path / "secret.arrow", [{"prompt": "secret"}])
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "../secret.arrow"}]}))
    with pytest.raises(StorageFault):
        found_in(folder)


def test_a_fingerprint_changes_with_a_byte_and_not_with_the_name(tmp_path: Path) -> None:
    as_jsonl(tmp_path / "a.jsonl", [{"prompt": "a"}])
    as_jsonl(tmp_path / "b.jsonl", [{"prompt": "a"}])
    as_jsonl(tmp_path / "c.jsonl", [{"prompt": "b"}])
    a, b, c = (open_source(str(tmp_path / f"{name}.jsonl")).fingerprint() for name in "abc")
    assert a == b != c


class Streamed:
    """Stands in for `datasets.load_dataset`: remembers what was asked for and yields two rows, with no network."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __call__(self, *args: Any, **options: Any) -> list[dict[str, str]]:
        self.asked.append((args, options))
        return [{"prompt": "a"}, {"prompt": "b"}]


@pytest.mark.parametrize(
    ("name", "path", "config", "split"),
    [
        ("hub:me/pairs", "me/pairs", None, "train"),
        ("hub:me/pairs:test_prefs", "me/pairs", None, "test_prefs"),
        ("hub:me/pairs/cleaned:test", "me/pairs", "cleaned", "test"),
    ],
)
def test_a_data_set_of_the_hub_is_streamed(
    name: str, path: str, config: str | None, split: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    stand_in = Streamed()
    monkeypatch.setattr(datasets, "load_dataset", stand_in)
    rows = [found.row for block in open_source(name).blocks() for found in block.rows()]
    assert rows == [{"prompt": "a"}, {"prompt": "b"}]
    assert stand_in.asked == [((path, config), {"split": split, "streaming": True})]


def test_what_goes_wrong_at_the_hub_is_told_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def offline(*args: Any, **options: Any) -> Any:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(datasets, "load_dataset", offline)
    with pytest.raises(StorageFault, match="no route to host") as caught:
        list(open_source("hub:me/pairs").blocks())
    assert "network" in caught.value.hint
    with pytest.raises(StorageFault, match="names no data set"):
        list(open_source("hub:pairs").blocks())
