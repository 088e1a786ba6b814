"""A model's shape from its config says what the model itself says."""

import json
from pathlib import Path
from typing import Any

import pytest

from synpo_lab.errors import ModelError
from synpo_lab.planning.shapes import KNOWN, shape_of
from tests.tiny_model import save_tiny

COUNTED = {  # as their model cards and weights have it
    "Qwen/Qwen2.5-0.5B-Instruct": 494_032_768,
    "princeton-nlp/Llama-3-Base-8B-SFT": 8_030_261_248,
    "alignment-handbook/zephyr-7b-sft-full": 7_241_732_096,
}


@pytest.mark.parametrize("name", KNOWN)
def test_parameters_of_known_models_are_exact(name: str) -> None:
    assert shape_of(f"hub:{name}").parameters == COUNTED[name]


@pytest.mark.slow
@pytest.mark.parametrize("tied", [True, False])
def test_a_folder_is_counted_by_its_weights_and_by_its_config_alike(tmp_path: Path, tied: bool) -> None:
    folder = save_tiny(tmp_path / "model", tie_word_embeddings=tied)
    stored = shape_of(str(folder))
    (folder / "model.safetensors").unlink()
    assert stored.parameters == shape_of(str(folder)).parameters
    assert (stored.layers, stored.hidden, stored.vocabulary) == (2, 32, 32)
    assert stored.cache_per_token == 2 * 2 * 32


@pytest.mark.slow
def test_a_lora_has_as_many_parameters_as_peft_makes(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = save_tiny(tmp_path / "model")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(r=4, target_modules="all-linear"))
    learning, _ = model.get_nb_trainable_parameters()
    assert 4 * shape_of(str(folder)).adapted == learning


def test_the_pocket_policy_has_a_shape() -> None:
    assert shape_of("pocket").parameters < 2_000_000


@pytest.mark.parametrize(
    ("config", "said"),
    [(None, "no readable config.json"), ("{", "is not JSON"), ("{}", "no language model"), ('{"a": 1}', "is missing")],
)
def test_a_folder_that_is_no_model_is_told_with_a_hint(tmp_path: Path, config: str | None, said: str) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match=said) as caught:
        shape_of(str(tmp_path))
    assert caught.value.hint


def test_an_unknown_hub_model_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="config of nobody/nothing cannot be fetched"):
        shape_of("hub:nobody/nothing")


def test_a_model_of_several_senses_is_read_by_its_text_part(tmp_path: Path) -> None:
    inner: dict[str, Any] = KNOWN["Qwen/Qwen2.5-0.5B-Instruct"]
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "both", "text_config": inner}))
    assert shape_of(str(tmp_path)).parameters == COUNTED["Qwen/Qwen2.5-0.5B-Instruct"]
