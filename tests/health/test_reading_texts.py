"""Checks of single texts: what they must see and what they must let pass."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synpo_lab.health.encoding import encoding_trouble
from synpo_lab.health.language import language_mismatch, script
from synpo_lab.health.refusals import refusal
from synpo_lab.health.truncation import truncation

HOSTILE = [
    "<script>alert(1)</script>\0",
    "\u202egnp.exe",
    "w" * 200_000,
    "```" * 5000,
    "I can't " * 5000,
    "((((" * 9000,
]


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't fulfill that request.",
        "I’m sorry, but I cannot help with that.",
        "As an AI language model, I cannot browse the internet.",
        "Sorry! I am unable to provide medical advice.",
        "I must decline to write this.",
        "I cannot provide guidance on tax fraud.",
        "It would be inappropriate for me to rank people.",
    ],
)
def test_refusals_are_seen(text: str) -> None:
    assert refusal(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry for the confusion. The capital is Canberra.",
        "I cannot help the way I feel about the Lord.",
        "Yes, it would be illegal to keep it.",
        "We couldn't help but smile.",
        "You can't divide by zero.",
        "",
        "The answer is yes. " * 40 + "I cannot provide more.",
    ],
)
def test_what_only_sounds_like_a_refusal_is_let_pass(text: str) -> None:
    assert refusal(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "This is one sentence. This is another one that goes on and on and then",
        "It cites many things. It connects people with similar interests and,",
        "Here is the code:\n```python\nprint(1)\n",
    ],
)
def test_cut_answers_are_seen(text: str) -> None:
    assert truncation(text) is not None


@pytest.mark.parametrize(
    "text",
    [
        "This is one sentence. This is another one.",
        "Sure:\n```python\nprint(1)\n```",
        "```print(1)```",
        "```python\nprint(1)```\nThat is all.",
        "Fruits. Here they are:\n- apple\n- pear and plum and kiwi and fig and date and lime",
        "One. Two is here.\nItem, Qty | mango, 5, 500, 2500 | apple, 4, 150, 600 | oil, 2, 1500, 3000",
        "A great day. Follow me for much more of this kind of stuff #NewJob #NewChallenge #Grateful",
        "Paris",
        "これは文です。これも文です。",
        "",
        "See it. The long page with all of the text is at https://example.org/page",
    ],
)
def test_whole_answers_are_let_pass(text: str) -> None:
    assert truncation(text) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("caf\ufffd", "U+FFFD"),
        ("a\0b", "NUL"),
        ("bell\x07", "control"),
        ("It â€™s fine", "mojibake"),
        ("cafÃ©", "mojibake"),
        ("ÐŸÑ€Ð¸Ð²ÐµÑ‚", "mojibake"),
        ("x\x9dy", "C1"),
    ],
)
def test_wrong_decoding_is_seen(text: str, said: str) -> None:
    found = encoding_trouble(text)
    assert found is not None
    assert said in found


@pytest.mark.parametrize(
    "text", ["plain\n\ttext\r\n", "café, naïve, ÂGE, NÃO", "Привет", "日本語", "10 €, 5 £ – ‘so’ “it” is", "🙂", ""]
)
def test_text_that_is_as_it_should_be_is_let_pass(text: str) -> None:
    assert encoding_trouble(text) is None


@given(st.text(alphabet="éèàüñçöäßøåœ’“”–€ ", min_size=2).filter(lambda text: any(not c.isspace() for c in text)))
def test_utf8_read_as_latin1_is_always_seen(text: str) -> None:
    """As Latin-1, every character of two bytes becomes Ã or Â and a sign, one of three â, a C1 control and a sign."""
    assert encoding_trouble(text.encode().decode("latin-1")) is not None or text.isascii()


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Tell me about the history of Rome.", "罗马的历史非常悠久,始于公元前八世纪,由罗慕路斯建立。"),
        ("Расскажи мне о Москве, пожалуйста.", "Moscow is the capital of Russia."),
    ],
)
def test_an_answer_in_another_script_is_a_mismatch(prompt: str, answer: str) -> None:
    assert language_mismatch(prompt, answer) is not None


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("Translate to Russian: good morning to everybody", "Доброе утро всем друзьям"),
        ("Tell me about Rome in Spanish please", "Roma es una ciudad muy antigua de Italia"),
        ("Tell me about the history of Rome.", "🏛️"),
        ("日本の歴史について教えてください、お願いします", "日本の歴史は非常に長いものです。平安時代などがあります。"),
        ("", "something in plain English here"),
    ],
)
def test_what_is_no_mismatch_or_cannot_be_told_is_let_pass(prompt: str, answer: str) -> None:
    assert language_mismatch(prompt, answer) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Good morning, everybody", "Latin"),
        ("Доброе утро всем друзьям", "Cyrillic"),
        ("صباح الخير لكم جميعا", "Arabic"),
        ("これは日本語の文章です。漢字もあります", "Japanese"),
        ("这是一个中文的句子,没有假名在里面", "Chinese"),
        ("좋은 아침입니다 여러분 안녕하세요", "Korean"),
        ("123 + 456 = ?", None),
    ],
)
def test_the_script_is_that_of_most_letters(text: str, name: str | None) -> None:
    assert script(text) == name


@given(st.one_of(st.text(), st.sampled_from(HOSTILE)))
def test_no_text_breaks_or_hangs_a_check(text: str) -> None:
    for look in (refusal, truncation, encoding_trouble, script):
        found = look(text)
        assert found is None or len(found) <= 120
    assert language_mismatch(text, text) is None
