"""What the model read, from its chat template alone."""

import json
from pathlib import Path

import pytest

from synpo_lab.rendered import POCKET, ChatFormat, as_sent, chat_format

CHAT = [{"role": "user", "content": "name <b>two</b> fruits"}]


def test_the_pocket_model_s_prompt_is_what_its_tokenizer_renders(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    found = chat_format(tmp_path / "models", "pocket")
    assert found is not None
    tokenizer = AutoTokenizer.from_pretrained(POCKET)
    for chat in (CHAT, [*CHAT, {"role": "assistant", "content": "a, b"}, {"role": "user", "content": "more"}]):
        assert as_sent(found, chat) == tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)


LLAMA = (
    "{{- bos_token }}\n{%- for message in messages %}\n    {{- '<|start_header_id|>' + message['role'] + "
    "'<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n"
)


@pytest.mark.parametrize("bos", ["<|begin|>", {"content": "<|begin|>", "lstrip": False}])
@pytest.mark.parametrize("named", [False, True])
def test_a_template_in_the_tokenizer_s_config_is_found(tmp_path: Path, bos: object, named: bool) -> None:
    template = [{"name": "tools", "template": "x"}, {"name": "default", "template": LLAMA}] if named else LLAMA
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": template, "bos_token": bos}))
    found = chat_format(tmp_path / "none", str(tmp_path))
    assert found is not None
    assert as_sent(found, CHAT) == (
        "<|begin|><|start_header_id|>user<|end_header_id|>\n\nname <b>two</b> fruits<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )


def test_the_run_s_own_model_comes_before_its_policy(tmp_path: Path) -> None:
    (tmp_path / "models" / "M_1").mkdir(parents=True)
    (tmp_path / "models" / "M_1" / "chat_template.jinja").write_text("own {{ messages[0]['content'] }}")
    found = chat_format(tmp_path / "models", "pocket")
    assert found is not None
    assert as_sent(found, CHAT) == "own name <b>two</b> fruits"


@pytest.mark.parametrize("policy", ["", "hub:nobody/nothing", "hub:../..", "/no/such/folder", "\0"])
def test_where_no_template_is_there_is_no_format(tmp_path: Path, policy: str) -> None:
    assert chat_format(tmp_path, policy) is None


@pytest.mark.parametrize(
    "template",
    [
        "{{ raise_exception('no') }}",
        "{% for",
        "{{ 1 / 0 }}",
        "{{ messages[7]['content'].x }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(999999999) %}x{% endfor %}",
    ],
)
def test_a_template_that_refuses_or_reaches_further_than_text_gives_nothing(template: str) -> None:
    assert as_sent(ChatFormat(template), CHAT) is None


def test_a_damaged_config_is_no_format(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": 5, "bos_token"')
    assert chat_format(tmp_path / "none", str(tmp_path)) is None
