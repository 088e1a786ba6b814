import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, Gemma2Config, Gemma2ForCausalLM, OPTConfig

from synpo_lab.config import LoraConfig, SFTConfig, SimPOConfig
from synpo_lab.engines.adapters import adapter_of, tokenizer_of
from synpo_lab.errors import MissingExtra, ModelError, TrainingError
from synpo_lab.models import load_model, load_tokenizer, stored_dtype, with_chat_template
from synpo_lab.training import weights
from synpo_lab.training.preference import Preference, train_preference
from synpo_lab.training.sft import SFT, train_sft
from synpo_lab.training.trainer import TrainingStopped
from synpo_lab.training.weights import load_trainee
from tests.tiny_model import tiny_llama, tiny_tokenizer

Rows = list[tuple[str, str]]
Pairs = list[tuple[str, str, str]]

LORA = SFTConfig(
    learning_rate=1e-2, batch_size=8, epochs=3, max_length=64, schedule="constant", lora=LoraConfig(r=4, alpha=8)
)


def losses(base: Any, rows: Rows, config: SFTConfig, out: Path, **more: Any) -> list[float]:
    steps: list[dict[str, Any]] = []
    train_sft(base, rows, config, out, seed=0, log=steps.append, device="cpu", **more)
    return [step["loss"] for step in steps]


def test_an_adapter_is_saved_as_an_adapter_and_its_base_is_not_touched(base: Path, tmp_path: Path, rows: Rows) -> None:
    before = (base / "model.safetensors").read_bytes()
    found = losses(base, rows, LORA, tmp_path / "G")
    assert found[-1] < found[0] - 0.5
    assert (base / "model.safetensors").read_bytes() == before
    saved = {file.name for file in (tmp_path / "G").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "chat_template.jinja"} <= saved
    assert not {"config.json", "model.safetensors", "README.md"} & saved
    adapter = adapter_of(tmp_path / "G")
    assert adapter is not None
    assert (adapter.base, adapter.rank, adapter.plain) == (str(base), 4, True)


def test_the_saved_adapter_is_the_trained_model(base: Path, tmp_path: Path, rows: Rows) -> None:
    """A lower loss of the merged model than of its base, on the rows it was trained on."""
    out = train_sft(base, rows, LORA, tmp_path / "G", seed=0, device="cpu")
    tokenizer = load_tokenizer(out)

    def loss(model: Any) -> float:
        task = SFT(model, tokenizer, rows, 64)
        batch = task.collate(task.rows)
        with torch.no_grad():
            return float(task.loss(batch)[0]) / task.count(batch)

    assert loss(load_model(out, device="cpu")) < loss(load_model(base, device="cpu")) - 0.5


def test_an_adapter_and_its_base_can_be_moved_together(base: Path, tmp_path: Path, rows: Rows) -> None:
    home = tmp_path / "home"
    (home / "runs").mkdir(parents=True)
    shutil.copytree(base, home / "models" / "M_0")
    out = train_sft(home / "models" / "M_0", rows[:8], LORA, home / "runs" / "G", seed=0, device="cpu")
    expected = load_model(out, device="cpu").state_dict()
    shutil.move(home, tmp_path / "elsewhere")
    config = json.loads((tmp_path / "elsewhere" / "runs" / "G" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "../../models/M_0"
    found = load_model(tmp_path / "elsewhere" / "runs" / "G", device="cpu").state_dict()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())
    shutil.rmtree(tmp_path / "elsewhere" / "models")
    with pytest.raises(ModelError, match="where no model is") as caught:
        load_model(tmp_path / "elsewhere" / "runs" / "G", device="cpu")
    assert "base_model_name_or_path" in caught.value.hint


def test_only_the_named_layers_get_an_adapter_and_only_it_is_trained(base: Path, tmp_path: Path, rows: Rows) -> None:
    lora = LoraConfig(r=2, targets=["q_proj", "v_proj"])
    trainee = weights.load_trainee(
        base, LORA.model_copy(update={"lora": lora}), torch.device("cpu"), trust_remote_code=False
    )
    learning = {name for name, p in trainee.model.named_parameters() if p.requires_grad}
    assert len(learning) == 2 * 2 * 2  # two layers, two places, A and B
    assert all(".lora_" in name and ("q_proj" in name or "v_proj" in name) for name in learning)


def test_a_layer_that_is_not_there_is_an_error_that_names_those_that_are(
    base: Path, tmp_path: Path, rows: Rows
) -> None:
    config = LORA.model_copy(update={"lora": LoraConfig(r=2, targets=["query"])})
    with pytest.raises(TrainingError, match=r"lora\.targets = \['query'\]") as caught:
        train_sft(base, rows, config, tmp_path / "G", seed=0, device="cpu")
    assert "q_proj" in caught.value.hint


def test_an_adapter_on_a_head_with_a_soft_cap_needs_no_full_logits() -> None:
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(26)
    config = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, head_dim=16, final_logit_softcapping=0.5, initializer_range=0.4, pad_token_id=0,
        tie_word_embeddings=False,
    )  # fmt: skip
    sft = LORA.model_copy(update={"lora": LoraConfig(r=4, targets=["lm_head", "q_proj"], dropout=0.3)})
    trainee = load_trainee((Gemma2ForCausalLM(config), tokenizer), sft, torch.device("cpu"), trust_remote_code=False)
    head = trainee.model.get_base_model().lm_head
    head.lora_B["default"].weight.data.normal_()  # as after a training
    task = SFT(trainee.model, tokenizer, [("w1", "w2 w3")], 64)
    assert task._logps._has_states
    batch = task.collate(task.rows)
    logits = trainee.model(input_ids=batch["input_ids"]).logits[0].log_softmax(-1)
    expected = -sum(logits[source, target] for source, target in zip(batch["source"], batch["target"], strict=True))
    torch.testing.assert_close(task.loss(batch)[0], expected)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_stopped_adapter_training_goes_on_with_the_same_curve(
    base: Path, tmp_path: Path, rows: Rows, dropout: float
) -> None:
    """With dropout the random numbers have to go on where they were, too."""
    config = LORA.model_copy(update={"lora": LoraConfig(r=4, dropout=dropout)})
    whole = losses(base, rows, config, tmp_path / "whole")
    asked = iter(range(1, 100))
    first: list[dict[str, Any]] = []
    with pytest.raises(TrainingStopped):
        train_sft(
            base, rows, config, tmp_path / "part", seed=0, log=first.append, device="cpu",
            checkpoints=tmp_path / "checkpoints", should_stop=lambda: next(asked) >= 7,
        )  # fmt: skip
    rest = losses(base, rows, config, tmp_path / "part", checkpoints=tmp_path / "checkpoints")
    assert [step["loss"] for step in first] + rest == whole
    made = [(tmp_path / name / "adapter_model.safetensors").read_bytes() for name in ("whole", "part")]
    assert made[0] == made[1]


def test_training_from_an_adapter_goes_on_with_it_over_the_same_base(base: Path, tmp_path: Path, rows: Rows) -> None:
    first = losses(base, rows, LORA, tmp_path / "M_1")
    second = losses(tmp_path / "M_1", rows, LORA, tmp_path / "M_2")
    assert second[0] < first[0] - 0.3
    adapter = adapter_of(tmp_path / "M_2")
    assert adapter is not None
    assert adapter.base == str(base)


def test_an_adapter_of_another_shape_cannot_be_trained_on(base: Path, tmp_path: Path, rows: Rows) -> None:
    train_sft(base, rows[:8], LORA, tmp_path / "M_1", seed=0, device="cpu")
    other = LORA.model_copy(update={"lora": LoraConfig(r=8, alpha=8)})
    with pytest.raises(TrainingError, match="r = 4 and alpha = 8") as caught:
        train_sft(tmp_path / "M_1", rows, other, tmp_path / "M_2", seed=0, device="cpu")
    assert "start: initial" in caught.value.hint


def test_full_training_from_an_adapter_starts_from_the_merged_model(base: Path, tmp_path: Path, rows: Rows) -> None:
    train_sft(base, rows, LORA, tmp_path / "M_1", seed=0, device="cpu")
    plain = LORA.model_copy(update={"lora": LoraConfig(), "learning_rate": 1e-5})
    first = losses(tmp_path / "M_1", rows, plain, tmp_path / "M_2")[0]
    assert first < losses(base, rows, plain, tmp_path / "other")[0] - 0.3
    assert (tmp_path / "M_2" / "model.safetensors").is_file()


def test_preferences_can_be_learnt_by_an_adapter_with_its_base_as_reference(
    base: Path, tmp_path: Path, pairs: Pairs
) -> None:
    config = SimPOConfig(
        kind="dpo", learning_rate=1e-2, batch_size=8, epochs=4, max_length=64, lora=LoraConfig(r=4, alpha=8)
    )
    steps: list[dict[str, Any]] = []
    out = train_preference(base, pairs, config, tmp_path / "M_1", beta=0.1, seed=0, log=steps.append, device="cpu")
    assert steps[0]["loss"] == pytest.approx(0.6931, abs=1e-3)  # nothing has moved from the reference yet: ln 2
    assert steps[0]["reward_margin"] == pytest.approx(0, abs=1e-4)
    assert steps[-1]["reward_accuracy"] > 0.9
    assert adapter_of(out) is not None


def test_quantizing_without_bitsandbytes_is_a_missing_extra(
    base: Path, tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "find_spec", lambda name: None)
    config = LORA.model_copy(update={"lora": LoraConfig(r=4, quantize="4bit")})
    with pytest.raises(MissingExtra, match="bitsandbytes") as caught:
        train_sft(base, rows, config, tmp_path / "G", seed=0, device="cpu")
    assert "pip install bitsandbytes" in caught.value.hint


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_a_model_is_saved_in_the_dtype_it_was_stored_in(tmp_path: Path, rows: Rows, dtype: Any) -> None:
    tokenizer = tiny_tokenizer(26)
    tiny_llama(len(tokenizer), initializer_range=0.1).bfloat16().save_pretrained(tmp_path / "M_0")
    tokenizer.save_pretrained(tmp_path / "M_0")
    plain = LORA.model_copy(update={"lora": LoraConfig(), "dtype": dtype})
    found = losses(tmp_path / "M_0", rows, plain, tmp_path / "M_1")
    assert found[-1] < found[0]
    assert stored_dtype(tmp_path / "M_1") == stored_dtype(tmp_path / "M_0") == torch.bfloat16
    assert load_model(tmp_path / "M_1", device="cpu", dtype="bfloat16").dtype == torch.bfloat16


def test_a_hub_model_is_asked_for_its_dtype(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoConfig, LlamaConfig

    names: list[str] = []

    def hub(name: str, **_: Any) -> LlamaConfig:
        names.append(name)
        return LlamaConfig(dtype="bfloat16")

    monkeypatch.setattr(AutoConfig, "from_pretrained", hub)
    assert stored_dtype("hub:someone/model") == torch.bfloat16
    assert names == ["someone/model"]


def test_gradient_checkpointing_changes_nothing_but_memory(base: Path, tmp_path: Path, rows: Rows) -> None:
    plain = losses(base, rows, LORA, tmp_path / "plain")
    kept = losses(base, rows, LORA.model_copy(update={"gradient_checkpointing": True}), tmp_path / "kept")
    assert kept == pytest.approx(plain, rel=1e-5)


def test_a_policy_without_a_chat_template_can_be_given_one(base: Path, tmp_path: Path, rows: Rows) -> None:
    (base / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template") as caught:
        load_tokenizer(base)
    assert "chat_template" in caught.value.hint
    assert "'plain'" in caught.value.hint
    policy = with_chat_template(base, "plain", tmp_path / "models" / "M_0")
    out = train_sft(policy, rows, LORA, tmp_path / "G", seed=0, device="cpu")
    assert "### Assistant:" in load_tokenizer(out).chat_template
    assert not (base / "chat_template.jinja").exists()


def test_a_template_file_replaces_the_policys_own(base: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.jinja").write_text("{% for m in messages %}<user> {{ m.content }} {{ eos_token }}{% endfor %}")
    policy = with_chat_template(base, str(tmp_path / "mine.jinja"), tmp_path / "with")
    assert load_tokenizer(policy).chat_template.startswith("{% for m in messages %}<user>")
    assert load_tokenizer(base).chat_template.startswith("{{ bos_token }}")
    again = with_chat_template(base, "plain", tmp_path / "with")
    assert load_tokenizer(again).chat_template.startswith("{% for message")


@pytest.mark.parametrize("own_tokenizer", [True, False])
def test_an_adapter_with_another_template_still_finds_its_base(
    base: Path, tmp_path: Path, rows: Rows, own_tokenizer: bool
) -> None:
    adapter = train_sft(base, rows, LORA, tmp_path / "mine" / "G", seed=0, device="cpu")
    shutil.move(base, tmp_path / "mine" / "M_0")
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "../M_0"}))
    for tokens in [] if own_tokenizer else [*adapter.glob("*token*"), adapter / "chat_template.jinja"]:
        tokens.unlink()
    assert losses(adapter, rows, LORA, tmp_path / "M_0.5")
    policy = with_chat_template(adapter, "plain", tmp_path / "runs" / "1" / "models" / "M_0")
    assert tokenizer_of(policy, trust_remote_code=False).chat_template.startswith("{% for message")
    ids = torch.tensor([[1, 4, 7, 8]])
    there, here = (load_model(folder, device="cpu")(input_ids=ids).logits for folder in (adapter, policy))
    torch.testing.assert_close(here, there)
    assert losses(policy, rows, LORA, tmp_path / "M_1")


def test_what_is_no_model_is_told_before_it_is_quantized(
    base: Path, tmp_path: Path, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    (base / "model.safetensors").write_bytes(b"torn")
    monkeypatch.setattr(weights, "_in_four_bits", lambda device: {"device_map": {"": device}})
    config = LORA.model_copy(update={"lora": LoraConfig(r=4, quantize="4bit")})
    with pytest.raises(ModelError, match=f"the model of {base} cannot be loaded"):
        train_sft(base, rows, config, tmp_path / "G", seed=0, device="cpu")


@pytest.mark.parametrize("kind", ["opt", "bloom"])
def test_no_architecture_drops_anything_while_it_trains(kind: str) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 32}
    configs = {
        "opt": lambda: OPTConfig(**sizes, ffn_dim=16, word_embed_proj_dim=16, dropout=0.5, layerdrop=0.5),
        "bloom": lambda: BloomConfig(**sizes, hidden_dropout=0.5, attention_dropout=0.5),
    }
    model = AutoModelForCausalLM.from_config(configs[kind]())
    ids = torch.arange(6, 20).unsqueeze(0)
    model.train()
    assert not torch.equal(model(ids).logits, model(ids).logits)
    weights._without_dropout(model)
    assert torch.equal(model(ids).logits, model(ids).logits)


def test_an_adapter_on_other_layers_is_not_trained_on_in_silence(base: Path, tmp_path: Path, rows: Rows) -> None:
    some = LORA.model_copy(update={"lora": LoraConfig(r=4, alpha=8, targets=["q_proj", "v_proj"])})
    first = train_sft(base, rows, some, tmp_path / "G", seed=0, device="cpu")
    with pytest.raises(TrainingError, match="is on q_proj, v_proj; training on with") as caught:
        train_sft(first, rows, LORA, tmp_path / "M_1", seed=0, device="cpu")
    assert caught.value.hint.startswith("set lora.targets: [q_proj, v_proj]")
    lively = some.model_copy(update={"lora": some.lora.model_copy(update={"dropout": 0.25})})
    trainee = load_trainee(first, lively, torch.device("cpu"), trust_remote_code=False)
    assert {m.p for m in trainee.model.modules() if isinstance(m, torch.nn.Dropout)} == {0.25}


@pytest.mark.parametrize(("text", "what"), [(None, "cannot be read"), ("{% if %}", "is no Jinja: line 1")])
def test_a_template_that_is_missing_or_broken_is_named(base: Path, tmp_path: Path, text: str | None, what: str) -> None:
    if text is not None:
        (tmp_path / "mine.jinja").write_text(text)
    with pytest.raises(ModelError, match=what):
        with_chat_template(base, str(tmp_path / "mine.jinja"), tmp_path / "with")


def test_full_and_adapter_training_move_the_same_loss(loaded: tuple[Any, Any], pairs: Pairs) -> None:
    """A fresh adapter adds nothing: loss and log-probs through it are those of the bare model."""
    config = SimPOConfig(max_length=64, lora=LoraConfig(r=4))
    bare = Preference(*loaded, pairs, config, beta=2)
    adapted = weights.load_trainee(loaded, config, torch.device("cpu"), trust_remote_code=False)
    over = Preference(adapted.model, adapted.tokenizer, pairs, config, beta=2)
    assert over._shares
    found, expected = over.loss(over.collate(over.rows))[0], bare.loss(bare.collate(bare.rows))[0]
    torch.testing.assert_close(found, expected)
