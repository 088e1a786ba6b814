"""A second world, not the pocket's: a byte-level BPE tokenizer trained here, a random Llama, seeds about sums."""

import hashlib
import json
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from synpo_lab.config import RunConfig, SamplingConfig, parse
from synpo_lab.engines.base import Check, Completion, Request, never
from synpo_lab.home import open_store
from synpo_lab.recipes import beta_grid, get, workshop
from synpo_lab.run import Run
from synpo_lab.templates import TEMPLATES

CHAT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)


@pytest.fixture(scope="session")
def sums(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """`policy` and `seeds`: a model folder and a JSONL file made from scratch."""
    folder = tmp_path_factory.mktemp("sums")
    rng = random.Random(0)
    deeds = ["add", "count", "collect", "gather", "join", "combine"]
    things = ["apples", "boats", "coins", "doors", "eggs", "flags", "gates", "hats", "inks", "jars"]
    rows = []
    for _ in range(48):
        a, b, deed, thing, other = rng.randint(1, 9), rng.randint(1, 9), rng.choice(deeds), *rng.sample(things, 2)
        rows.append({"prompt": f"{deed} {a} {thing} and {b} {other}.", "gold": f"that makes {a + b} things."})
    (folder / "seeds.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    _model(folder / "model", [*(row["prompt"] + row["gold"] for row in rows), TEMPLATES["paper"].generator])
    return {"policy": str(folder / "model"), "seeds": str(folder / "seeds.jsonl")}


def _model(folder: Path, texts: list[str]) -> None:
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts * 4, vocab_size=420, special_tokens=["<pad>", "<s>", "</s>"], show_progress=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    tokenizer.chat_template = CHAT
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=1,
        num_key_value_heads=1, max_position_embeddings=512, initializer_range=0.1,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Run]:
    """Makes a run in a new home and runs its recipe in this process; a second call with its id resumes it."""

    def begin(run_id: str = "r", stop: Callable[[], bool] = lambda: False, **values: object) -> Run:
        store = open_store(tmp_path / "home")
        config = parse(values) if values else _config_of(store.run(run_id).folder)
        made = store.run(run_id) if run_id in store.runs() else store.create_run(run_id, config.to_yaml(), {})
        run = Run(made, config, stop)
        get(config.recipe)(config, run)
        return run

    return begin


def _config_of(folder: Path) -> RunConfig:
    import yaml

    return parse(yaml.safe_load((folder / "run.yaml").read_text(encoding="utf-8")))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, str]:
    """Recipes without models: a stand-in engine and stand-in trainings that keep the contract at no cost.

    An answer depends on the weights, the request, the sampling and the seed, and on nothing else; trained weights depend
    on the start, the rows, the settings and the seed. So whatever a recipe does with whom can be told from the weights.
    """
    monkeypatch.setattr(workshop, "open_engine", StandInEngine)
    monkeypatch.setattr(workshop, "context_of", lambda policy, trust_remote_code: None)  # M_0 is no model here
    monkeypatch.setattr(workshop, "check_chat", lambda policy, row, trust_remote_code: None)
    monkeypatch.setattr(workshop, "train_sft", _stand_in_training)
    monkeypatch.setattr(beta_grid, "train_preference", _stand_in_training)
    policy = tmp_path / "initial"
    policy.mkdir()
    (policy / "model.safetensors").write_text("M_0")
    seeds = tmp_path / "seeds.jsonl"
    words = "rice moon road ship bird tree lamp door wind salt".split()
    rows = [{"prompt": f"tell {a} {b}", "gold": "g" * 60} for a in words for b in words if a < b]
    seeds.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return {"policy": str(policy), "seeds": str(seeds), "templates": "pocket"}


class StandInEngine:
    def __init__(self, name: str, model: str | Path, config: Any, **how: Any) -> None:
        self.name = name
        self._weights = (Path(model) / "model.safetensors").read_text()

    def beside(self, name: str, model: str | Path) -> None:
        return None

    def generate(
        self, requests: Iterable[Request], sampling: SamplingConfig, *, seed: int, check: Check = never
    ) -> Iterator[Completion]:
        for request in requests:
            told = _digest(self._weights, request.key, request.prompt, sampling.model_dump_json(), str(seed))
            text = f"question: about {told[:6]}?" if request.stop else told[: 1 + int(told[:2], 16) % 40]
            yield Completion(request.key, text, len(text), "stop")

    def mean_logps(self, rows: Iterable[tuple[str, str]], *, check: Check = never) -> Iterator[float]:
        for prompt, answer in rows:
            check()
            yield -int(_digest(self._weights, prompt, answer)[:4], 16) / 2**14

    def close(self) -> None:
        pass


def _digest(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()


def _stand_in_training(
    start: str | Path, rows: Any, config: Any, out: Path, *, seed: int, log: Any, **more: Any
) -> Path:
    weights = (Path(start) / "model.safetensors").read_text()
    for step in (1, 2):
        log({"step": step, "loss": 1 / step, "lr": 0.1, "grad_norm": 1.0})
    out.mkdir(parents=True)
    told = _digest(weights, repr(list(rows)), config.model_dump_json(), str(more.get("beta")), str(seed))
    (out / "model.safetensors").write_text(told)
    return out
