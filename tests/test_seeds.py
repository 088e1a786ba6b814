import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from synpo_lab.errors import DataError
from synpo_lab.seeds import load_prompts, load_seeds, paragraphs


def written(tmp_path: Path, text: str | bytes) -> str:
    path = tmp_path / "seeds.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_jsonl_rows_are_read_in_order_and_repeats_once(tmp_path: Path) -> None:
    rows = [{"prompt": "a?", "gold": "A"}, {"prompt": "b?", "gold": "B"}, {"prompt": "a?", "gold": "C"}]
    source = written(tmp_path, "\n".join(map(json.dumps, rows)) + "\n\n")
    assert load_seeds(source) == [("a?", "A"), ("b?", "B")]


def test_other_usual_field_names_and_arrays_are_read(tmp_path: Path) -> None:
    source = written(tmp_path, json.dumps([{"instruction": "a?", "output": "A"}, {"question": "b?", "answer": "B"}]))
    assert load_seeds(source) == [("a?", "A"), ("b?", "B")]
    assert load_prompts(source) == ["a?", "b?"]


def test_a_byte_order_mark_and_unicode_line_separators_are_harmless(tmp_path: Path) -> None:
    source = written(tmp_path, b"\xef\xbb\xbf" + '{"prompt": "é\u2028?", "gold": "😀"}'.encode())
    assert load_seeds(source) == [("é\u2028?", "😀")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("   \n", "is empty"),
        ("[]", "holds no seeds"),
        ('{"prompt": "a", "gold": "b"}\nnot json', "line 2 is not JSON"),
        ('{"prompt": "a"}', "line 1 has no 'gold'; it has ['prompt']"),
        ('{"gold": "a"}', "line 1 has no 'prompt'"),
        ('{"prompt": "", "gold": "b"}', "empty or non-text 'prompt'"),
        ('{"prompt": "a", "gold": 3}', "empty or non-text 'gold'"),
        ('"text"', "line 1 is a str, not an object"),
        ('[{"prompt": "a", "gold": "b"}, 7]', "item 2 is a int"),
        ("[1,", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        (b"\xff\xfe\x00", "not UTF-8 text: byte 0"),
    ],
)
def test_bad_files_say_which_line_is_wrong_and_why(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(DataError) as caught:
        load_seeds(written(tmp_path, text))
    assert said in caught.value.message
    assert caught.value.hint


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        load_seeds(str(tmp_path / "nowhere.jsonl"))
    with pytest.raises(
        DataError, match="cannot be read: EmptyDatasetError"
    ):  # a folder is a data set, this one is empty
        load_seeds(str(tmp_path))


def folder_of(tmp_path: Path, rows: list[dict[str, object]]) -> str:
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "train-00000.parquet")
    return str(tmp_path)


def test_a_data_set_folder_is_read_with_gold_answers_out_of_messages(tmp_path: Path) -> None:
    chat = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": " A "}]
    source = folder_of(tmp_path, [{"prompt": "a?", "chosen": chat}, {"prompt": "b?", "chosen": [chat[1]]}])
    assert load_seeds(source) == [("a?", "A"), ("b?", "A")]
    assert load_seeds(source, 1) == [("a?", "A")]
    assert load_prompts(source) == ["a?", "b?"]


def test_a_limit_stops_the_reading(tmp_path: Path) -> None:
    source = written(tmp_path, '{"prompt": "a", "gold": "b"}\nnot json')
    assert load_seeds(source, 1) == [("a", "b")]


def test_keyword_texts_are_the_longer_lines_of_documents_as_many_as_asked_for(tmp_path: Path) -> None:
    long = " ".join(["word"] * 8)
    source = folder_of(tmp_path, [{"content": f"Title\n{long} {n}\n\n{long} {n} more"} for n in range(50)])
    assert list(paragraphs(source, [], 3)) == [f"{long} 0", f"{long} 0 more", f"{long} 1"]
    assert len(list(paragraphs(source, []))) == 100


def test_a_hub_name_that_cannot_be_read_is_told_with_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    for load in (load_seeds, load_prompts, lambda name: list(paragraphs(name, []))):
        with pytest.raises(DataError, match="hub:nobody/nothing:test cannot be read") as caught:
            load("hub:nobody/nothing:test")
        assert "network" in caught.value.hint


def test_no_suite_has_no_prompts() -> None:
    assert load_prompts("none") == []


def test_paragraphs_come_from_seeds_a_file_or_the_pocket_world(tmp_path: Path) -> None:
    assert list(paragraphs("seeds", [("a b", "c")])) == ["a b"]
    assert list(paragraphs(written(tmp_path, "one\n\ntwo\n"), [])) == ["one", "two"]
    assert len(list(paragraphs("pocket", []))) == 4000
