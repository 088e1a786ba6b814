"""The whole SynPO recipe on a model of 36 million parameters, made here, unattended; and with every stage killed once.

M_0 is a random Llama with a byte-level BPE tokenizer trained on the seeds; the scorer is a random sequence-classification
reward model. Random weights learn to write prompts in the form asked for, no more: this measures the machinery. Text is
generated with vLLM, from .venv-vllm where this environment has none; with neither, with transformers, and it says so.

    python bench/full_recipe.py                   two iterations, to be done in 15 minutes on 2 cores
    python bench/full_recipe.py --small           a model of 0.4 million parameters
    python bench/full_recipe.py --small --kill    the same twice, the second time with `kill -9` once in every kind of stage:
                                                  both must end with the same rows and weights
"""

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from storage.state import NEEDS_WORKER, read_state, worker_alive
from synpo_lab.config import RunConfig, parse
from synpo_lab.home import open_store
from synpo_lab.jobs import launch, resume
from synpo_lab.jobs.watching import log_tail
from synpo_lab.records import EvalResult, Pair, Prompt, Response, Score

ELSEWHERE = Path(__file__).parents[1] / ".venv-vllm"  # where .ci/run puts vLLM
SECONDS = 15 * 60
GOLD = Path(__file__).parents[2] / "shared" / "data" / "alpaca_eval" / "outputs" / "gpt4_1106_preview.json"
CHAT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}<|user|>{{ m['content'] }}<|model|>"
    "{% else %}{{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)
SPECIALS = ["<pad>", "<s>", "</s>", "<|user|>", "<|model|>"]
LARGE = {
    "words": 8192,
    "hidden": 512,
    "inner": 1536,
    "layers": 8,
    "heads": 8,
    "seeds": 64,
    "prompts": 48,
    "answer": 48,
    "epochs": 8,
    "rate": 10,
}
SMALL = {
    "words": 1024,
    "hidden": 96,
    "inner": 192,
    "layers": 2,
    "heads": 3,
    "seeds": 24,
    "prompts": 32,
    "answer": 24,
    "epochs": 30,
    "rate": 50,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--kill", nargs="*", metavar="STAGE", help="only in these stages; default: once in each")
    parser.add_argument("--iterations", type=int, default=2)
    parser.add_argument("--engine", choices=["vllm", "transformers"], help="default: vllm where it is installed")
    asked = parser.parse_args()
    if asked.engine != "transformers" and not find_spec("vllm"):
        if (ELSEWHERE / "installed").is_file() and Path(sys.prefix) != ELSEWHERE:
            sys.exit(subprocess.run([ELSEWHERE / "bin" / "python", __file__, *sys.argv[1:]], check=False).returncode)
        if asked.engine:
            sys.exit("vLLM is not installed here (.ci/run puts it into .venv-vllm)")
        say("vLLM is not installed here (.ci/run puts it into .venv-vllm): the recipe on vLLM is NOT measured")
    measure(asked, asked.engine or ("vllm" if find_spec("vllm") else "transformers"))


def measure(asked: argparse.Namespace, engine: str) -> None:
    size = SMALL if asked.small else LARGE
    with tempfile.TemporaryDirectory() as folder:
        config = make_config(Path(folder), size, engine, asked.iterations)
        home = Path(folder) / "home"
        began = time.monotonic()
        run_to_the_end(home, "whole", config)
        took = time.monotonic() - began
        say(
            f"{parameters(Path(folder) / 'policy') / 1e6:.1f}M parameters, {engine}, {asked.iterations} iterations: "
            f"{told(home, 'whole')}"
        )
        say(f"unattended in {took:.0f} s, {took / SECONDS:.2f} of 15 minutes; {cpu_seconds():.0f} s of CPU, "
            f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")  # fmt: skip
        if asked.kill is not None:
            killed = run_to_the_end(home, "killed", config, kill=asked.kill)
            same = outcome(home, "killed") == outcome(home, "whole")
            say(
                f"killed {len(killed)} times ({', '.join(killed)}): {'the same rows and weights' if same else 'ANOTHER RESULT'}"
            )
            sys.exit(not same)


def make_config(folder: Path, size: dict[str, int], engine: str, iterations: int) -> RunConfig:
    """Writes seeds, held-out prompts, M_0 and the reward model into `folder`; the run's config."""
    rows = seed_rows(size["seeds"] + 16, size["answer"] * 4)
    seeds, held_out = rows[:-16], rows[-16:]
    (folder / "seeds.jsonl").write_text("\n".join(map(json.dumps, seeds)), encoding="utf-8")
    (folder / "held out.jsonl").write_text(
        "\n".join(json.dumps({"prompt": r["prompt"]}) for r in held_out), encoding="utf-8"
    )
    make_models(folder, [text for row in seeds for text in row.values()], size)
    short = {"temperature": 0.7, "max_new_tokens": size["answer"]}
    sft = {"learning_rate": 1e-3, "batch_size": 8, "max_length": 384}
    return parse(
        {
            "policy": str(folder / "policy"), "seeds": str(folder / "seeds.jsonl"), "iterations": iterations,
            "templates": "pocket",
            "engine": {
                "kind": engine, "device": "cpu",
                "vllm": {"cpu_cache_gib": 1, "max_model_len": 512, "max_num_seqs": 64, "gpu_memory_utilization": 0.5},
            },
            "prompts": {
                "per_iteration": size["prompts"], "target": "prompt", "sampling": short | {"max_new_tokens": 48},
                "train": sft | {"epochs": size["epochs"], "learning_rate": size["rate"] / 1e4},
            },
            "draft": short,
            "improver": {"min_gap": -10, "sampling": short, "train": sft | {"epochs": 1}},
            "scorer": {"name": "reward-model", "model": str(folder / "reward"), "device": "cpu"},
            "filter": {"min_gap": 0.0, "max_repetition": None},
            "simpo": {"betas": [2, 10], "learning_rate": 1e-5, "batch_size": 8, "max_length": 384, "epochs": 1},
            "evaluation": {"suite": str(folder / "held out.jsonl"), "sampling": short},
            "training": {"checkpoint_minutes": 0.5},
        }
    )  # fmt: skip


def seed_rows(count: int, longest_gold: int) -> list[dict[str, str]]:
    """Short questions with gold answers: AlpacaEval's where its data lies beside the project, else made ones."""
    rows = list(_real_rows() if GOLD.is_file() else _made_rows(count))
    short = [row for row in rows if len(row["prompt"]) < 120]
    return [{"prompt": row["prompt"], "gold": row["gold"][:longest_gold]} for row in short[:count]]


def _real_rows() -> Iterator[dict[str, str]]:
    for row in json.loads(GOLD.read_text(encoding="utf-8")):
        yield {"prompt": row["instruction"], "gold": row["output"]}


def _made_rows(count: int) -> Iterator[dict[str, str]]:
    rng = random.Random(0)
    deeds, things = ["paint", "mend", "choose", "cook", "plant", "sell"], "apples boats chairs doors eggs flags".split()
    places = "garden kitchen village harbour museum office school".split()
    for number in range(count):
        deed, thing, place = rng.choice(deeds), rng.choice(things), rng.choice(places)
        yield {
            "prompt": f"How do I {deed} {number} {thing} in the {place}?",
            "gold": f"First look around the {place}, then take your time to {deed} the {thing}, one by one.",
        }


def make_models(folder: Path, texts: list[str], size: dict[str, int]) -> None:
    import torch
    import transformers.utils.logging
    from tokenizers import AddedToken, ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, LlamaForSequenceClassification, PreTrainedTokenizerFast

    transformers.utils.logging.disable_progress_bar()
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(texts, vocab_size=size["words"] - len(SPECIALS), show_progress=False)
    bpe.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIALS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>",
        additional_special_tokens=["<|user|>", "<|model|>"],
    )  # fmt: skip
    tokenizer.chat_template = CHAT
    ids = dict(
        zip(
            ("pad_token_id", "bos_token_id", "eos_token_id"), tokenizer.convert_tokens_to_ids(SPECIALS[:3]), strict=True
        )
    )
    torch.manual_seed(0)
    for name, kind, share in (("policy", LlamaForCausalLM, 1), ("reward", LlamaForSequenceClassification, 2)):
        config = LlamaConfig(
            vocab_size=size["words"], hidden_size=size["hidden"], intermediate_size=size["inner"],
            num_hidden_layers=size["layers"] // share, num_attention_heads=size["heads"],
            num_key_value_heads=size["heads"], max_position_embeddings=1024, **ids,
            **({"num_labels": 1} if kind is LlamaForSequenceClassification else {}),
        )  # fmt: skip
        kind(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def parameters(folder: Path) -> int:
    from synpo_lab.planning.shapes import shape_of

    return shape_of(str(folder)).parameters


def run_to_the_end(home: Path, run_id: str, config: RunConfig, *, kill: list[str] | None = None) -> list[str]:
    """Starts the run and waits. `kill`: with SIGKILL once in each of these kinds of stage (empty: in all), each time
    resumed. Returns those in which it was."""
    launch(home, config, run_id)
    folder = open_store(home).run(run_id).folder
    seen: list[str] = []
    while True:
        state = read_state(folder)
        if state.state in NEEDS_WORKER:
            stage = now_at(folder / "events.jsonl") if kill is not None else None
            if stage is not None and stage not in seen and (not kill or stage in kill) and state.pid is not None:
                os.kill(state.pid, signal.SIGKILL)
                seen.append(stage)
            time.sleep(0.1)
        elif state.state == "interrupted":
            resume(home, run_id)
        elif state.state == "finished":
            wait_for_the_worker(folder)
            return seen
        else:
            sys.exit(f"the run {state.state}: {state.message}\n{log_tail(folder)}")


def wait_for_the_worker(folder: Path) -> None:
    """Until the process itself is gone: its CPU time counts from then on."""
    while worker_alive(folder):
        time.sleep(0.1)
    time.sleep(1)


def now_at(events: Path) -> str | None:
    """The stage at work, by the log's last line."""
    lines = events.read_text(encoding="utf-8").splitlines() if events.exists() else []
    last: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    is_at_work = last.get("stage") not in {None, "run", "log"} and not str(last.get("message", "")).startswith(
        "finished"
    )
    return str(last["stage"]) if is_at_work else None


def outcome(home: Path, run_id: str) -> dict[str, Any]:
    """What a run has come to: the rows of every table without their times, and the weights of its last policy."""
    from synpo_lab.models import fingerprint

    run = open_store(home).run(run_id)
    return {
        "prompts": sorted((p.prompt_id, p.text, p.status) for p in run.read(Prompt)),
        "responses": sorted((r.response_id, r.text) for r in run.read(Response)),
        "scores": sorted((s.response_id, s.aspect, round(s.value, 3)) for s in run.read(Score)),
        "pairs": sorted((p.pair_id, p.kept, p.drop_reason) for p in run.read(Pair)),
        "evals": sorted((e.suite, e.response_a, e.response_b, e.winner) for e in run.read(EvalResult)),
        "policy": fingerprint(max(run.models.glob("M_[1-9]"))),
    }


def told(home: Path, run_id: str) -> str:
    run = open_store(home).run(run_id)
    prompts, pairs = [p for p in run.read(Prompt) if p.iteration], list(run.read(Pair))
    return (
        f"{sum(p.status == 'kept' for p in prompts)} of {len(prompts)} prompts usable, "
        f"{sum(p.kept for p in pairs)} of {len(pairs)} pairs kept, {sum(1 for _ in run.read(Response))} answers"
    )


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
