"""vLLM through our protocol, rows written to the store included, against `vllm.LLM.generate` on the same prompts.

Both get the same token ids and the same sampling, a seed per request. They take turns, opened and closed in between, and
the best round of each counts. Times are CPU seconds of this process, so that other work on the machine disturbs them less.
The transformers engine's ratio is in bench/generation.py.
"""

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ELSEWHERE = Path(__file__).parents[1] / ".venv-vllm"  # where .ci/run puts vLLM
PROMPTS, ROUNDS, TURNS, WORDS, NEW_TOKENS = 512, 2, 2, 344, 64


def main() -> None:
    if find_spec("vllm"):
        compare()
    elif (ELSEWHERE / "installed").is_file() and Path(sys.prefix) != ELSEWHERE:
        subprocess.run([ELSEWHERE / "bin" / "python", __file__], check=True)
    else:
        sys.stdout.write("vLLM is not installed here (.ci/run puts it into .venv-vllm): its engine is NOT measured\n")


def compare() -> None:
    from tests.tiny_model import save_tiny

    with tempfile.TemporaryDirectory() as folder:
        model = save_tiny(Path(folder) / "model", words=WORDS, hidden=256, layers=4, heads=4, initializer_range=0.05)
        best = {"direct": 0.0, "ours": 0.0}
        for _ in range(TURNS):
            best["direct"] = max(best["direct"], direct(model))
            best["ours"] = max(best["ours"], ours(model, Path(folder)))
    sys.stdout.write(
        f"vLLM, {PROMPTS} prompts: LLM.generate {best['direct']:.0f}, our engine with rows written {best['ours']:.0f} "
        f"tokens per CPU second, ratio {best['ours'] / best['direct']:.2f}\n"
    )


def prompts() -> list[str]:
    rng = random.Random(0)
    return [" ".join(f"w{rng.randrange(WORDS)}" for _ in range(rng.randint(5, 60))) for _ in range(PROMPTS)]


def direct(model: Path) -> float:
    from synpo_lab.chat import encode_prompts, end_tokens
    from synpo_lab.config import EngineConfig
    from synpo_lab.engines.vllm_engine import VllmEngine
    from synpo_lab.models import load_tokenizer

    VllmEngine("M_0", model, EngineConfig.model_validate(SETTINGS)).close()  # vLLM is set up as ours is
    from vllm import LLM, SamplingParams

    tokenizer = load_tokenizer(model)
    llm = LLM(
        model=str(model), dtype="float32", enforce_eager=True, max_num_seqs=256, kv_cache_memory_bytes=2**30,
        enable_prefix_caching=True, enable_chunked_prefill=False, disable_log_stats=True, use_tqdm_on_load=False,
    )  # fmt: skip

    def run() -> int:
        asked = [{"prompt_token_ids": ids} for ids in encode_prompts(tokenizer, prompts())]
        how: list[Any] = [
            SamplingParams(
                temperature=0.7, max_tokens=NEW_TOKENS, seed=i, stop_token_ids=end_tokens(tokenizer), detokenize=True
            )
            for i in range(PROMPTS)
        ]
        return sum(len(made.outputs[0].token_ids) for made in llm.generate(asked, how, use_tqdm=False))

    try:
        return max(rate(run, llm.llm_engine) for _ in range(ROUNDS))
    finally:
        llm.llm_engine.engine_core.shutdown()
        from vllm.distributed import cleanup_dist_env_and_memory

        cleanup_dist_env_and_memory()


def ours(model: Path, folder: Path) -> float:
    from storage import Store
    from synpo_lab.config import EngineConfig, SamplingConfig
    from synpo_lab.engines.vllm_engine import VllmEngine
    from synpo_lab.records import TABLES, Response
    from synpo_lab.stages.answer import Question, answer

    engine = VllmEngine("M_0", model, EngineConfig.model_validate(SETTINGS))
    sampling = SamplingConfig(temperature=0.7, max_new_tokens=NEW_TOKENS)

    def run() -> int:
        store = Store(folder, TABLES).create_run(f"r{time.time_ns()}", "recipe: synpo\n", {})
        questions = [Question(f"{i:016x}", prompt) for i, prompt in enumerate(prompts())]
        store.append(answer(engine, questions, role="draft", iteration=1, sampling=sampling, seed=0))
        return sum(made.n_tokens for made in store.read(Response))

    try:
        return max(rate(run, engine._core._llm) for _ in range(ROUNDS))
    finally:
        engine.close()


SETTINGS = {"kind": "vllm", "device": "cpu", "threads": 1, "vllm": {"cpu_cache_gib": 1}}


def rate(run: Callable[[], int], llm: Any) -> float:
    """Tokens per CPU second; no prompt was read before."""
    llm.reset_prefix_cache()
    began = time.process_time()
    return run() / (time.process_time() - began)


if __name__ == "__main__":
    main()
