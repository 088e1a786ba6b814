import json
from pathlib import Path

import pytest

from synpo_lab.errors import DataError
from synpo_lab.seeds import load_paragraphs, load_prompts, load_seeds


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
    with pytest.raises(DataError, match="is a folder"):
        load_seeds(str(tmp_path))


def test_no_suite_has_no_prompts() -> None:
    assert load_prompts("none") == []


def test_paragraphs_come_from_seeds_a_file_or_the_pocket_world(tmp_path: Path) -> None:
    assert load_paragraphs("seeds", [("a b", "c")]) == ["a b"]
    assert load_paragraphs(written(tmp_path, "one\n\ntwo\n"), []) == ["one", "two"]
    assert len(load_paragraphs("pocket", [])) == 4000
