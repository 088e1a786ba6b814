import json
import os
from pathlib import Path

import pytest
import torch

from synpo_lab import models
from synpo_lab.errors import ModelError
from synpo_lab.models import fingerprint, load_model, load_tokenizer, pick_device, pick_dtype, save_model, use_threads
from tests.tiny_model import save_tiny, tiny_llama, tiny_tokenizer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "model")


def edit(file: Path, **changes: object) -> None:
    """Set keys of a JSON file; None removes one."""
    data = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in data.items() if value is not None}))


def test_what_is_saved_loads_as_it_was(tmp_path: Path) -> None:
    model, tokenizer = tiny_llama(32), tiny_tokenizer(26)
    folder = save_model(model, tokenizer, tmp_path / "deep" / "M_1")
    loaded = load_model(folder, device="cpu")
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert load_tokenizer(folder).chat_template == tokenizer.chat_template
    assert not loaded.training
    assert {path.name for path in folder.parent.iterdir()} == {"M_1"}


def test_saving_replaces_an_older_model_whole(folder: Path) -> None:
    (folder / "leftover.txt").write_text("old")
    before = fingerprint(folder)
    save_model(tiny_llama(32, seed=9), tiny_tokenizer(26), folder)
    assert fingerprint(folder) != before
    assert not (folder / "leftover.txt").exists()


def test_a_save_that_fails_leaves_the_old_model_and_no_rubbish(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(folder)

    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(models, "_flush", full)
    with pytest.raises(OSError, match="No space"):
        save_model(tiny_llama(32, seed=9), tiny_tokenizer(26), folder)
    assert fingerprint(folder) == before
    assert {path.name for path in folder.parent.iterdir()} == {folder.name}


def test_a_fingerprint_follows_from_the_weights_alone(tmp_path: Path, folder: Path) -> None:
    before = fingerprint(folder)
    assert before == fingerprint(save_tiny(tmp_path / "same"))
    assert before != fingerprint(save_tiny(tmp_path / "other", seed=1))
    (folder / "README.md").write_text("a note")
    assert fingerprint(folder) == before
    with pytest.raises(ModelError, match="no weights"):
        fingerprint(tmp_path)


def test_missing_parts_are_named_with_a_remedy(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(ModelError, match="no model folder at") as caught:
        load_model(tmp_path / "nowhere")
    assert "hub:OWNER/NAME" in caught.value.hint
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_model(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"the model of .* cannot be loaded"):
        load_model(folder)


def test_a_folder_without_a_tokenizer_is_refused(folder: Path) -> None:
    for file in ("tokenizer.json", "tokenizer_config.json"):
        (folder / file).unlink()
    with pytest.raises(ModelError, match="the tokenizer of"):
        load_tokenizer(folder)


def test_broken_weights_are_refused(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(folder)


def test_a_tokenizer_without_a_chat_template_is_refused_with_a_way_out(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template") as caught:
        load_tokenizer(folder)
    assert "chat_template.jinja" in caught.value.hint


def test_what_a_killed_save_left_is_cleared_away_by_the_next(tmp_path: Path) -> None:
    left, other = tmp_path / ".M_1.draft-killed", tmp_path / ".M_1.checkpoints"
    left.mkdir()
    other.mkdir()
    save_model(tiny_llama(32, seed=9), tiny_tokenizer(26), tmp_path / "M_1")
    assert {path.name for path in tmp_path.iterdir()} == {"M_1", other.name}


def test_a_tokenizer_without_an_end_token_is_refused(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", eos_token=None)
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        load_tokenizer(folder)


def test_the_end_token_serves_for_padding_where_there_is_none(folder: Path) -> None:
    edit(folder / "tokenizer_config.json", pad_token=None)
    tokenizer = load_tokenizer(folder)
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == 2


def test_code_in_a_model_folder_does_not_run_unless_trusted(folder: Path) -> None:
    edit(folder / "config.json", auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})
    edit(folder / "config.json", model_type="evil")
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w').close()\n")
    with pytest.raises(ModelError, match="wants to run its own code") as caught:
        load_model(folder, device="cpu")
    assert "trust_remote_code" in caught.value.hint
    assert not (folder / "ran").exists()


def test_an_adapter_folder_loads_merged_into_its_base(folder: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    adapted = get_peft_model(
        load_model(folder, device="cpu"), LoraConfig(target_modules=["q_proj"], init_lora_weights=False)
    )
    adapted.save_pretrained(tmp_path / "adapter")
    merged = load_model(tmp_path / "adapter", device="cpu")
    ids = torch.arange(6, 20).unsqueeze(0)
    plain = load_model(folder, device="cpu")(ids).logits
    torch.testing.assert_close(merged(ids).logits, adapted.eval()(ids).logits)
    assert not torch.allclose(merged(ids).logits, plain)


def test_devices_and_dtypes() -> None:
    assert pick_device("auto").type in {"cpu", "cuda", "mps"}
    assert pick_dtype("auto", torch.device("cpu")) == torch.float32
    assert pick_dtype("auto", torch.device("cuda")) == torch.bfloat16
    assert pick_dtype("float16", torch.device("cpu")) == torch.float16
    with pytest.raises(ModelError, match="no device is called 'gpu'"):
        pick_device("gpu")
    with pytest.raises(ModelError, match="not on this machine"):
        pick_device("cuda:99")


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), torch.float16), ((8, 0), torch.bfloat16), ((12, 0), torch.bfloat16)]
)
def test_a_gpu_before_ampere_generates_in_float16(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert pick_dtype("auto", torch.device("cuda")) == expected
    assert pick_dtype("bfloat16", torch.device("cuda")) == torch.bfloat16


def test_threads_follow_the_setting_then_the_environment_then_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert use_threads(2) == 2 == torch.get_num_threads()
    assert use_threads(None) == 1
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(models, "_physical_cores", lambda: 3)
    assert use_threads(None, parameters=700_000) == 1
    assert use_threads(None, parameters=8_000_000_000) == 3
    torch.set_num_threads(before)


def test_the_cores_counted_are_those_the_process_may_use() -> None:
    assert 1 <= models._physical_cores() <= (os.cpu_count() or 1)
