import pytest
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.health.edits import KINDS, edit

LONG = "The quick brown fox jumps over the lazy dog while seven small cats watch from the old stone wall."
OTHER = (
    "Photosynthesis turns sunlight into sugar; plants store it for later, and release oxygen by day, mostly in summer."
)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (LONG, LONG, "copied"),
        (LONG, LONG.replace(" ", "\n"), "copied"),
        ("", "  ", "copied"),
        ("apples, pears and plums", "- Apples\n- **Pears**\n- and Plums", "reformatted"),
        (LONG, LONG.replace("quick", "fast").replace("old", "grey"), "corrected"),
        (LONG, f"{LONG} {OTHER}", "extended"),
        (f"{LONG} {OTHER}", LONG, "shortened"),
        (LONG, OTHER, "rewritten"),
        (LONG, f"{OTHER} {OTHER} and so on", "rewritten longer"),
        (LONG, "Cats and photosynthesis.", "rewritten shorter"),
        ("I'm sorry, but I can't help with that.", LONG, "refusal removed"),
        (LONG, "I cannot provide that information.", "refusal added"),
        ("", LONG, "filled"),
        (LONG, " \n", "emptied"),
        ("😺💕", "🐕", "rewritten"),
    ],
)
def test_each_kind_of_edit_is_told(before: str, after: str, kind: str) -> None:
    assert edit(before, after).kind == kind


def test_the_same_words_in_another_order_are_no_correction() -> None:
    words = [f"word{i}" for i in range(30)]
    assert edit(" ".join(words), " ".join(reversed(words))).kind == "rewritten"


def test_a_correction_tells_what_was_exchanged() -> None:
    made = edit("a trumpet is a tool and so is a hammer", "a trumpet is no tool and so is a hammer")
    assert made.replaced == (("a", "no"),)


def test_a_text_too_long_to_compare_in_order_is_a_rewrite_by_its_length() -> None:
    text = " ".join(f"w{i}" for i in range(3000))
    assert edit(text, f"{text} more").kind == "rewritten"


@given(st.text(), st.text())
def test_every_edit_has_one_of_the_kinds_and_a_share(before: str, after: str) -> None:
    made = edit(before, after)
    assert made.kind in KINDS
    assert 0 <= made.same <= 1


@given(st.text(alphabet="ab \n*", max_size=40))
def test_a_text_and_itself_are_a_copy(text: str) -> None:
    assert edit(text, text).kind == "copied"
