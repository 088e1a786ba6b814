import pytest

from synpo_lab.templates import TEMPLATES


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("solution", ["Because it is.", None])
def test_what_the_generator_learns_to_write_can_be_read_back(name: str, solution: str | None) -> None:
    templates = TEMPLATES[name]
    target = templates.generator_target("Why is {x} blue?", solution)
    assert templates.read_prompt(target) == "Why is {x} blue?"
    assert (solution or "") in target
    assert templates.read_prompt(target.partition(templates.prompt_end)[0]) == "Why is {x} blue?"  # as generation stops


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("output", ["", "no tags at all", "   "])
def test_output_of_another_form_holds_no_prompt(name: str, output: str) -> None:
    assert TEMPLATES[name].read_prompt(output) is None


@pytest.mark.parametrize("name", TEMPLATES)
def test_an_empty_prompt_is_none(name: str) -> None:
    templates = TEMPLATES[name]
    assert templates.read_prompt(f"{templates.prompt_start}  {templates.prompt_end}") is None


@pytest.mark.parametrize("name", TEMPLATES)
def test_braces_in_a_draft_are_only_text(name: str) -> None:
    asked = TEMPLATES[name].ask_to_improve("print {prompt}", "f'{draft}' {0}")
    assert "print {prompt}" in asked
    assert "f'{draft}' {0}" in asked
