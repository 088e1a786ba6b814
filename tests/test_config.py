"""What the schema refuses, and in which words."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from synpo_lab.config import load, parse
from synpo_lab.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"simpo": {"betas": [2, 0]}}, "simpo.betas: a beta is above 0, not 0"),
        ({"simpo": {"betas": [2, 2.0000001]}}, "simpo.betas: two betas are the same to six digits"),
        ({"simpo": {"learning_rate": float("inf")}}, "simpo.learning_rate: Input should be a finite number"),
        ({"filter": {"min_gap": float("nan")}}, "filter.min_gap: Input should be a finite number"),
        ({"keywords": {"noise": 2, "per_prompt": 2}}, "config: keywords.noise = 2 leaves no real keyword of 2\n"),
        ({"prompts": {"validator": "magic"}}, "prompts.validator: Input should be 'format' or 'pocket'"),
        ({"improver": {"enabled": False}, "pairing": {"rejected": "draft"}}, "pair the draft with itself"),
        (
            {"draft": {"max_new_tokens": 2048}},
            "simpo.max_length = 2048 has no room for a prompt beside an answer of draft.",
        ),
        ({"improver": {"sampling": {"max_new_tokens": 4000}}}, "improver.sampling.max_new_tokens = 4000"),
        ({"recipe": "seed-simpo"}, "none is left to choose beta"),
        (
            {"simpo": {"batch_size": 128, "micro_batch_size": 3}},
            "micro_batch_size = 3 does not divide simpo.batch_size = 128",
        ),
        (
            {"improver": {"train": {"batch_size": 8, "micro_batch_size": 4}}, "training": {"processes": 4}},
            "improver.train.micro_batch_size = 4 x training.processes = 4 does not divide improver.train.batch_size = 8",
        ),
        (
            {"training": {"processes": 3}},
            "config: training.processes = 3 does not divide prompts.train.batch_size = 32",
        ),
        (
            {"improver": {"start": "previous", "train": {"lora": {"r": 8}}}, "simpo": {"lora": {"r": 16}}},
            "improver.train.lora has r = 8 and alpha = 32, simpo.lora r = 16",
        ),
        ({"simpo": {"beta": 2}}, "simpo.beta: unknown key (did you mean 'betas'?)"),
    ],
)
def test_what_cannot_work_is_refused_in_plain_words(values: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(values)
    assert told in str(caught.value)


def test_one_beta_needs_no_seeds_to_choose_it() -> None:
    assert parse({"recipe": "seed-simpo", "simpo": {"betas": [2]}}).validation.share == 0


def test_a_config_that_may_not_be_read_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    file = tmp_path / "mine.yaml"
    file.write_text("{}")
    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
        load(file)


def test_what_another_recipe_would_train_is_not_looked_at() -> None:
    assert parse({"recipe": "seed-sft", "simpo": {"batch_size": 128, "micro_batch_size": 3}}).recipe == "seed-sft"
    lora = {"start": "previous", "train": {"lora": {"r": 8}}}
    assert parse({"iterations": 1, "improver": lora, "simpo": {"lora": {"r": 16}}}).largest_lora == 16
    assert parse({"recipe": "seed-sft", "simpo": {"lora": {"r": 16}}}).largest_lora == 0
