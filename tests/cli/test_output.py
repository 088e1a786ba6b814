from typing import Any

import pytest

from synpo_lab.cli.output import as_text, home_option, print_error, print_json, print_table
from synpo_lab.errors import LabError


def test_text_a_model_wrote_cannot_steer_the_terminal_or_the_markup(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"text": "\x1b]0;title\x07 [red]word[/red] :smile: \x9b2J"}])
    shown = capsys.readouterr().out
    assert "\x1b" not in shown
    assert "\x9b" not in shown
    assert "[red]word[/red] :smile:" in shown


@pytest.mark.parametrize(("value", "text"), [(None, ""), (0.123456, "0.1235"), (1_000_000, "1000000"), (True, "True")])
def test_a_cell_is_short(value: Any, text: str) -> None:
    assert as_text(value) == text


def test_a_table_in_a_pipe_folds_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([{"text": "x" * 500}])
    assert "x" * 500 in capsys.readouterr().out


def test_a_document_is_one_line_of_json_in_any_script(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"text": "Grüße\n你好"})
    assert capsys.readouterr().out == '{"text": "Grüße\\n你好"}\n'


def test_an_error_goes_to_standard_error_with_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    print_error(LabError("it broke", hint="mend it"))
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", "error: it broke\nhint: mend it\n")


def test_a_suggested_command_names_the_home_only_when_it_was_named(tmp_path: Any) -> None:
    assert home_option(None) == ""
    assert home_option(tmp_path / "my lab") == f" --home '{tmp_path}/my lab'"
