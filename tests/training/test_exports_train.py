"""What the lab exports, TRL's preference trainers take as it is: three steps, and every weight has moved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from storage import Database, Store, export
from synpo_lab.records import Pair, content_id

pytestmark = pytest.mark.slow
TinyStore = Callable[..., Store]


@pytest.fixture
def database(tiny_store: TinyStore, pairs: list[tuple[str, str, str]]) -> Database:
    made = [
        Pair(1, content_id("pair", i), f"p{i}", prompt, f"c{i}", f"r{i}", chosen, rejected, 1.0, 0.0, 1.0,
             len(chosen), len(rejected), 0.0, True, None, 0.5)
        for i, (prompt, chosen, rejected) in enumerate(pairs)
    ]  # fmt: skip
    return Database(tiny_store(made))


@pytest.mark.parametrize(("format", "chat"), [("trl", False), ("trl", True), ("datasets", False), ("datasets", True)])
@pytest.mark.filterwarnings("ignore")  # TRL's own, about its experimental trainers and their defaults
def test_trl_trains_three_steps_on_an_export(
    database: Database, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: Any, chat: bool
) -> None:
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = str(export(database, "run", tmp_path / "rows", format, chat=chat).path)
    cache = {"split": "train", "cache_dir": str(tmp_path / "cache")}
    rows = load_dataset("json", data_files=path, **cache) if format == "trl" else load_dataset(path, **cache)
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    options = DPOConfig(
        output_dir=str(tmp_path / "out"), max_steps=3, per_device_train_batch_size=4, learning_rate=1e-2,
        use_cpu=True, bf16=False, fp16=False, gradient_checkpointing=False, report_to="none", save_strategy="no",
    )  # fmt: skip
    trainer = DPOTrainer(model=model, args=options, train_dataset=rows, processing_class=tokenizer)
    trainer.train()
    assert trainer.state.global_step == 3
    trained = dict(trainer.model.named_parameters())
    assert all(not torch.equal(before[name], trained[name]) for name in before)
