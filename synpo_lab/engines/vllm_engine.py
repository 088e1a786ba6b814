"""Generation with vLLM: paged attention, prefix caching, LoRA adapters side by side over one base.

On a CPU vLLM computes in this process: it starts in seconds and returns its memory on close. On a GPU its core runs in a
process of its own, as vLLM does by default, and that process ends with the engine or, should the lab be killed, soon after
it: so all its memory comes back.
"""

import asyncio
import copy
import gc
import itertools
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from synpo_lab.chat import encode_examples, encode_prompts, end_tokens
from synpo_lab.config import EngineConfig, SamplingConfig, VllmConfig
from synpo_lab.engines import INSTALL
from synpo_lab.engines.adapters import Adapter, adapter_of, same_weights, tokenizer_of
from synpo_lab.engines.base import Check, Completion, Request, never, too_long, unanswerable
from synpo_lab.engines.concurrent import as_finished
from synpo_lab.engines.guard import Guard
from synpo_lab.engines.seeding import stream
from synpo_lab.errors import EngineError, MissingExtra, ModelError
from synpo_lab.models import pick_device, pick_dtype, use_threads

GIB = 2**30
CHUNK = 256  # requests encoded together
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # the ranks vLLM has room for


class VllmEngine:
    """An engine over one model or adapter folder. See engines.base.Engine for what its methods promise.

    Each request has a generator of its own, so sampled text does not depend on neighbours but for the last bits of logits
    that a batch of another shape may round otherwise. Mean log-probs are vLLM's `prompt_logprobs`; where adapters are
    served vLLM 0.32 cannot compute those, and a transformers engine does while vLLM is closed.
    """

    def __init__(
        self,
        name: str,
        model: str | Path,
        config: EngineConfig,
        *,
        trust_remote_code: bool = False,
        adapters: int = 0,
    ) -> None:
        """`model` is a folder or 'hub:OWNER/NAME'. `adapters`: of which rank others over the same base may be."""
        self.name, self._config, self._trust = name, config, trust_remote_code
        self._adapter = _served(model)
        self._base = self._adapter.base if self._adapter else str(model)
        self._tokenizer = tokenizer_of(model, trust_remote_code=trust_remote_code)
        rank = max(adapters, self._adapter.rank if self._adapter else 0)
        self._core = _Core(self._base, config, trust_remote_code, rank=rank and max(rank, config.vllm.max_lora_rank))

    def beside(self, name: str, model: str | Path) -> "VllmEngine | None":
        """An engine over the same loaded base: for the base itself or a LoRA adapter of it."""
        adapter = _served(model)
        if not same_weights(adapter.base if adapter else model, self._base):
            return None
        if adapter and adapter.rank > self._core.rank:
            return None
        other = copy.copy(self)
        other.name, other._adapter = name, adapter
        other._tokenizer = tokenizer_of(model, trust_remote_code=self._trust)
        return other

    def generate(
        self, requests: Iterable[Request], sampling: SamplingConfig, *, seed: int, check: Check = never
    ) -> Iterator[Completion]:
        """Completions as they finish."""
        for request, output in self._core.run(self._work(requests, sampling, seed), self._adapter, check):
            yield output if isinstance(output, Completion) else self._completion(request, output.outputs[0])

    def mean_logps(self, rows: Iterable[tuple[str, str]], *, check: Check = never) -> Iterator[float]:
        """Mean log-prob per token of each (prompt, answer), in order. EngineError for a row beyond the context."""
        if self._core.rank:
            yield from self._transformers_logps(rows, check)
            return
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        how = SamplingParams(
            max_tokens=1, temperature=0, prompt_logprobs=0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY
        )
        unread = iter(rows)
        while chunk := list(islice(unread, CHUNK)):
            examples = encode_examples(self._tokenizer, chunk)
            for example in examples:
                self._check_length(len(example.prompt) + len(example.answer))
            work = ((place, row.prompt + row.answer, how) for place, row in enumerate(examples))
            found = dict(self._core.run(work, self._adapter, check))
            for place, row in enumerate(examples):
                logps = found[place].prompt_logprobs[len(row.prompt) :]
                yield sum(given[token].logprob for given, token in zip(logps, row.answer, strict=True)) / len(logps)

    def close(self) -> None:
        """Gives the memory back."""
        self._core.close()

    def _work(
        self, requests: Iterable[Request], sampling: SamplingConfig, seed: int
    ) -> Iterator[Completion | tuple[Request, list[int], Any]]:
        """Each request with its tokens and its own SamplingParams, or what is said instead of an answer."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        context, ends = self._core.context, end_tokens(self._tokenizer)
        unread = iter(requests)
        while chunk := list(islice(unread, CHUNK)):
            asked, before = [request.prompt for request in chunk], [request.history for request in chunk]
            for request, prompt in zip(chunk, encode_prompts(self._tokenizer, asked, before), strict=True):
                if len(prompt) >= context:
                    yield too_long(request, len(prompt), context, self.name)
                    continue
                how = SamplingParams(
                    temperature=sampling.temperature,
                    top_p=sampling.top_p,
                    max_tokens=min(sampling.max_new_tokens, context - len(prompt)),
                    seed=stream(seed, request.key) >> 1,
                    stop=request.stop,
                    stop_token_ids=ends,  # beside those of the model's generation config
                    detokenize=request.stop is not None,
                    output_kind=RequestOutputKind.FINAL_ONLY,
                )
                yield request, prompt, how

    def _transformers_logps(self, rows: Iterable[tuple[str, str]], check: Check) -> Iterator[float]:
        from synpo_lab.engines.transformers_engine import TransformersEngine

        self._core.close()  # it opens again when it generates
        model = self._adapter.folder if self._adapter else self._base
        engine = TransformersEngine(self.name, model, self._config, trust_remote_code=self._trust)
        try:
            yield from engine.mean_logps(rows, check=check)
        finally:
            engine.close()

    def _completion(self, request: Request, output: Any) -> Completion:
        text: str = self._tokenizer.decode(list(output.token_ids), skip_special_tokens=True)
        if request.stop:
            text = text.partition(request.stop)[0]
        if output.finish_reason not in ("stop", "length"):
            return unanswerable(request, f"vLLM ended it with {output.finish_reason!r}")
        return Completion(request.key, text, len(output.token_ids), output.finish_reason)

    def _check_length(self, tokens: int) -> None:
        if tokens >= self._core.context:
            raise EngineError(
                f"{self.name} takes {self._core.context} tokens, a prompt with its answer has {tokens}",
                hint="raise engine.vllm.max_model_len, or leave such pairs out",
            )


class _Core:
    """vLLM itself, over one base: stepped from here, or with several copies of the weights as asynchronous processes."""

    def __init__(self, base: str, config: EngineConfig, trust_remote_code: bool, *, rank: int) -> None:
        """`rank`: of the adapters it can serve, 0 for none."""
        self._on_cpu = pick_device(config.device).type == "cpu"
        self._base, self._threads, self._copies = base, config.threads, config.vllm.data_parallel
        self._in_process = self._on_cpu and self._copies == 1
        self.rank = rank
        self._gpu = _one_gpu(pick_device(config.device), config.vllm)
        self._arguments = _arguments(base, config, trust_remote_code, rank=rank, on_cpu=self._on_cpu)
        self._together = 2 * config.vllm.max_num_seqs * self._copies
        self._ids = map(str, itertools.count())
        self._adapter_ids: dict[Path, int] = {}
        self._set_num_threads: Any = torch.set_num_threads  # vLLM on a CPU replaces it
        self._loop: asyncio.AbstractEventLoop | None = None
        self._guard: Guard | None = None
        self._llm: Any = self._opened()
        self.context: int = self._llm.model_config.max_model_len

    def run(self, work: Iterable[Any], adapter: Adapter | None, check: Check) -> Iterator[tuple[Any, Any]]:
        """(what was asked, vLLM's output) of each (what, token ids, sampling) as it finishes.

        A Completion among the work is passed on. At most twice as many requests as are decoded together are read ahead.
        """
        self._llm = self._llm or self._opened()
        lora = self._lora(adapter)
        return self._stepped(work, lora, check) if self._loop is None else self._awaited(work, lora, check)

    def close(self) -> None:
        """End vLLM; what it held in this process or in others is free again."""
        if self._llm is None:
            return
        llm, self._llm = self._llm, None
        if self._loop is None:
            llm.engine_core.shutdown()
        else:
            llm.shutdown()
            self._loop.run_until_complete(asyncio.sleep(0))  # its tasks learn that they are cancelled
            self._loop.close()
            self._loop = None
        del llm
        if self._in_process:
            from vllm.distributed import cleanup_dist_env_and_memory

            cleanup_dist_env_and_memory()
        self._restore()
        gc.collect()

    def _opened(self) -> Any:
        _prepare_environment(in_process=self._in_process)
        try:
            from vllm.engine.arg_utils import AsyncEngineArgs, EngineArgs
            from vllm.v1.engine.async_llm import AsyncLLM
            from vllm.v1.engine.llm_engine import LLMEngine
        except ImportError as error:
            raise MissingExtra(f"vLLM cannot be imported: {error}", hint=INSTALL["vllm"]) from None
        if self._on_cpu:
            use_threads(self._threads)

        async def parallel() -> Any:
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**self._arguments, data_parallel_size=self._copies))

        self._guard = None if self._in_process else Guard()
        try:
            with _seeing(self._gpu):
                if self._copies == 1:
                    return LLMEngine.from_engine_args(EngineArgs(**self._arguments))
                self._loop = asyncio.new_event_loop()
                return self._loop.run_until_complete(parallel())
        except Exception as error:
            if self._loop is not None:
                self._loop.close()
                self._loop = None
            self._restore()
            raise _not_started(self._base, error) from error

    def _stepped(self, work: Iterable[Any], lora: Any, check: Check) -> Iterator[tuple[Any, Any]]:
        unread = iter(work)
        running: dict[str, Any] = {}
        more = True
        try:
            while True:
                while more and len(running) < self._together:
                    if (item := next(unread, None)) is None:
                        more = False
                    elif isinstance(item, Completion):
                        yield None, item
                    else:
                        what, tokens, how = item
                        name = next(self._ids)
                        running[name] = what
                        self._llm.add_request(name, {"prompt_token_ids": tokens}, how, lora_request=lora)
                if not running:
                    return
                check()
                for output in self._step():
                    if output.finished:
                        yield running.pop(output.request_id), output
        finally:
            if running and self._llm is not None:
                self._llm.abort_request(list(running))

    def _step(self) -> list[Any]:
        try:
            outputs: list[Any] = self._llm.step()
        except Exception as error:
            raise _broken(error) from error
        return outputs

    def _awaited(self, work: Iterable[Any], lora: Any, check: Check) -> Iterator[tuple[Any, Any]]:
        async def answer(item: Any) -> tuple[Any, Any]:
            if isinstance(item, Completion):
                return None, item
            what, tokens, how = item
            told = self._llm.generate({"prompt_token_ids": tokens}, how, next(self._ids), lora_request=lora)
            try:
                [output] = [output async for output in told]  # the last word only: FINAL_ONLY
            except Exception as error:
                raise _broken(error) from error
            return what, output

        assert self._loop is not None
        return as_finished(self._loop, work, answer, lambda: self._together, check)

    def _lora(self, adapter: Adapter | None) -> Any:
        if adapter is None:
            return None
        from vllm.lora.request import LoRARequest

        number = self._adapter_ids.setdefault(adapter.folder, len(self._adapter_ids) + 1)
        return LoRARequest(f"{adapter.folder.name}-{number}", number, str(adapter.folder))

    def _restore(self) -> None:
        torch.set_num_threads = self._set_num_threads
        os.environ.pop("VLLM_DIST_IDENT", None)
        if self._guard is not None:
            self._guard.close()
            self._guard = None


def _prepare_environment(*, in_process: bool) -> None:
    """vLLM reads these from the environment, some at its import. What the user has set stays."""
    wanted = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0" if in_process else "1"


def _one_gpu(device: torch.device, settings: VllmConfig) -> str | None:
    """CUDA_VISIBLE_DEVICES for a core on one GPU of several; None where the config names none."""
    if device.type != "cuda" or device.index is None:
        return None
    if settings.tensor_parallel * settings.data_parallel > 1:
        raise EngineError(
            f"engine.device = {device} names one GPU, tensor_parallel and data_parallel ask for several",
            hint="set engine.device: cuda, and CUDA_VISIBLE_DEVICES in the shell to choose which GPUs",
        )
    seen = os.environ.get("CUDA_VISIBLE_DEVICES")
    return seen.split(",")[device.index].strip() if seen else str(device.index)


@contextmanager
def _seeing(gpu: str | None) -> Iterator[None]:
    """What is started inside the block sees that GPU alone."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    try:
        yield
    finally:
        if gpu is not None and before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        elif gpu is not None and before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def _arguments(base: str, config: EngineConfig, trust_remote_code: bool, *, rank: int, on_cpu: bool) -> dict[str, Any]:
    """EngineArgs' fields."""
    settings = config.vllm
    device = pick_device(config.device)
    arguments: dict[str, Any] = {
        "model": base.removeprefix("hub:"),
        "dtype": str(pick_dtype(config.dtype, device)).removeprefix("torch."),
        "trust_remote_code": trust_remote_code,
        "max_model_len": settings.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "enable_prefix_caching": settings.prefix_caching,
        "enforce_eager": on_cpu if settings.enforce_eager is None else settings.enforce_eager,
        "tensor_parallel_size": settings.tensor_parallel,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
    }
    if on_cpu:
        arguments["kv_cache_memory_bytes"] = settings.cpu_cache_gib * GIB
        # vLLM 0.32 fails on a CPU when a request with a seed is read in chunks ("CPU Generator does not use offset").
        arguments["enable_chunked_prefill"] = False
    else:
        arguments["gpu_memory_utilization"] = settings.gpu_memory_utilization
    if rank:
        arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": _rank(rank)}
    return arguments


def _rank(rank: int) -> int:
    return next(room for room in LORA_RANKS if room >= rank)


def _served(model: str | Path) -> Adapter | None:
    adapter = adapter_of(model)
    if adapter is not None and not adapter.plain:
        raise ModelError(
            f"{model} is an adapter of a kind that vLLM does not serve over its base",
            hint="set engine.kind to transformers, or merge the adapter into its base",
        )
    return adapter


def _broken(error: Exception) -> EngineError:
    return EngineError(
        f"vLLM stopped working: {error}",
        hint="its own words are in the run's worker.log; resume goes on from what was finished. For lack of memory "
        "lower engine.vllm.gpu_memory_utilization, max_num_seqs or max_model_len",
    )


def _not_started(base: str, error: Exception) -> EngineError:
    told = str(error) or type(error).__name__
    hint = "its own words are in the run's worker.log; `synpo-lab doctor` says what this machine has"
    if "bfloat16 is only supported" in told.lower():
        hint = "set engine.dtype: float16, which this GPU computes in itself"
    elif "memory" in told.lower() or "max seq len" in told.lower():
        hint = (
            "lower engine.vllm.gpu_memory_utilization, max_model_len or max_num_seqs, or end what else uses the device"
        )
    elif "max_model_len" in told:
        hint = "engine.vllm.max_model_len must not be above the model's own context"
    elif "head" in told.lower() or "not supported" in told.lower():
        hint = "vLLM cannot run this model here; set engine.kind to transformers"
    return EngineError(f"vLLM does not start with {base}: {told.splitlines()[0]}", hint=hint)
