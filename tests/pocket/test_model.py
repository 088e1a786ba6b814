"""M_0 as it is shipped, and the way it is built."""

from pathlib import Path

import pytest

from synpo_lab.pocket import MODEL, data

pytestmark = pytest.mark.slow


def test_the_shipped_model_loads_plainly_and_is_small() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(MODEL), AutoTokenizer.from_pretrained(MODEL)
    assert 5e5 < model.num_parameters() < 2e6
    assert model.config.head_dim in (32, 64)
    assert sum(file.stat().st_size for file in MODEL.iterdir()) < 8e6
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Name three fruits."}], tokenize=False, add_generation_prompt=True
    )
    assert chat == "<s><user>Name three fruits.<bot>"


def test_the_tokenizer_writes_back_what_it_reads() -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(MODEL)
    for prompt in data.evaluation_prompts():
        ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids) == prompt


def test_a_model_is_built_from_nothing(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from synpo_lab.pocket.build import build

    said: list[str] = []
    build(tmp_path / "m0", scale=0.0008, report=said.append)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "m0").num_parameters() == 897_920
    assert [line for line in said if line.startswith("phase")] == [
        "phase 1 of 3: 386 rows",
        "phase 2 of 3: 104 rows",
        "phase 3 of 3: 203 rows",
    ]
