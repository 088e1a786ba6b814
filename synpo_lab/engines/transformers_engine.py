"""Generation in this process with a transformers model, on CPU, CUDA or MPS.

`model.generate` decodes a fixed batch until its longest answer ends. Here finished rows leave the batch and waiting
requests take their place; equal prompts are read once; and every row draws from its own random stream. LoRA adapters
stand side by side over one loaded base.
"""

import copy
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from synpo_lab.chat import Example, encode_examples, encode_prompts, end_tokens
from synpo_lab.config import EngineConfig, SamplingConfig
from synpo_lab.engines.adapters import Adapter, adapter_of, same_weights, tokenizer_of
from synpo_lab.engines.base import Check, Completion, Request, never, too_long
from synpo_lab.engines.batch import Batch, Finish, Row, new_batch
from synpo_lab.engines.memory import rows_that_fit
from synpo_lab.engines.seeding import stream
from synpo_lab.errors import EngineError, ModelError
from synpo_lab.models import check_tokenizer, load_model, out_of_memory, use_threads
from synpo_lab.training.batches import collate
from synpo_lab.training.logps import AnswerLogps

CHUNK = 64  # batches of requests read ahead, so that prompts of a like length are read together
LOGPS_BATCH = 128  # rows scored together where the config says nothing
LOGPS_CHUNK = 4  # batches of them between two results: what is lost when the taker stops


class TransformersEngine:
    """An engine over one model. See engines.base.Engine for what its methods promise.

    Randomness never depends on the neighbours. The model's own arithmetic may, in the last bits, when a matrix product
    of another shape is summed in another order: rare in float32, less so in bfloat16.
    """

    def __init__(
        self,
        name: str,
        model: str | Path | Any,
        config: EngineConfig | None = None,
        *,
        tokenizer: Any = None,
        trust_remote_code: bool = False,
    ) -> None:
        """`model` is a folder, 'hub:OWNER/NAME', or a loaded model given with its `tokenizer`."""
        self.name = name
        config = config or EngineConfig.model_validate({})
        adapter = None
        self._base = None
        if isinstance(model, str | Path):
            adapter = _served(model)
            self._base = adapter.base if adapter else str(model)
            tokenizer = tokenizer_of(model, trust_remote_code=trust_remote_code)
            model = load_model(
                self._base, device=config.device, dtype=config.dtype, trust_remote_code=trust_remote_code
            )
        use_threads(config.threads, model.num_parameters())
        self._weights, self._adapter = _Weights(model.eval()), adapter
        self._tokenizer = check_tokenizer(tokenizer, where=name)
        self._asked_size, self._trust = config.batch_size, trust_remote_code
        self._batch_size = config.batch_size or LOGPS_BATCH
        self._most = 1 << 62  # rows together, since memory ran out
        self._ends = _end_tokens(model, tokenizer)
        self._context: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)
        self._weights.use(adapter)

    @property
    def _model(self) -> Any:
        return self._weights.model

    def beside(self, name: str, model: str | Path) -> "TransformersEngine | None":
        """An engine over the same loaded base: for the base itself or a LoRA adapter of it."""
        adapter = _served(model)
        if self._base is None or not same_weights(adapter.base if adapter else model, self._base):
            return None
        other = copy.copy(self)
        other.name, other._adapter = name, adapter
        other._tokenizer = tokenizer_of(model, trust_remote_code=self._trust)
        self._weights.use(adapter)
        return other

    def generate(
        self, requests: Iterable[Request], sampling: SamplingConfig, *, seed: int, check: Check = never
    ) -> Iterator[Completion]:
        """Completions as they finish."""
        self._batch_size = min(self._most, self._asked_size or rows_that_fit(self._model, sampling.max_new_tokens))
        unread = iter(requests)
        waiting: deque[Row] = deque()
        running: dict[int, Row] = {}
        batch = self._new_batch(sampling)
        while True:
            if not waiting:
                rows, refused = self._read(unread, sampling, seed)
                waiting.extend(rows)
                yield from refused
                if not rows and refused:
                    continue
            if not waiting and not running:
                return
            check()
            finished = self._attempt(batch, waiting, running)
            if finished is None:
                waiting.extendleft(_afresh(running))
                batch = self._new_batch(sampling)  # the lost batch's memory goes with it
                _empty_cache()
                continue
            for row in finished:
                del running[id(row)]
                yield self._completion(row)

    def mean_logps(self, rows: Iterable[tuple[str, str]], *, check: Check = never) -> Iterator[float]:
        """Mean log-prob per token of each (prompt, answer), in order."""
        self._batch_size = min(self._most, self._asked_size or LOGPS_BATCH)
        unread = iter(rows)
        logps = AnswerLogps(self._model)
        while chunk := list(islice(unread, self._batch_size * LOGPS_CHUNK)):
            yield from self._scores(logps, encode_examples(self._tokenizer, chunk), check)

    def close(self) -> None:
        """Let go of the model; memory returns when nothing else holds it."""
        self._weights.close()
        _empty_cache()

    def _new_batch(self, sampling: SamplingConfig) -> Batch:
        return new_batch(self._model, sampling, self._tokenizer.pad_token_id, self._finish)

    def _read(
        self, unread: Iterator[Request], sampling: SamplingConfig, seed: int
    ) -> tuple[list[Row], list[Completion]]:
        """The next chunk of requests, longest prompts first, equal prompts side by side; and those that are too long."""
        requests = list(islice(unread, self._batch_size * CHUNK))
        asked, before = [request.prompt for request in requests], [request.history for request in requests]
        prompts = encode_prompts(self._tokenizer, asked, before)
        context = self._context or 1 << 62
        rows = [
            Row(request, prompt, min(sampling.max_new_tokens, context - len(prompt)), stream(seed, request.key))
            for request, prompt in zip(requests, prompts, strict=True)
        ]
        refused = [too_long(row.request, len(row.prompt), context, self.name) for row in rows if row.limit < 1]
        fitting = (row for row in rows if row.limit >= 1)
        return sorted(fitting, key=lambda row: (-len(row.prompt), row.prompt)), refused

    def _attempt(self, batch: Batch, waiting: deque[Row], running: dict[int, Row]) -> list[Row] | None:
        """One step. Returns the rows that finished, or None when memory ran out: then the batch is lost."""
        self._weights.use(self._adapter)
        try:
            return self._advance(batch, waiting, running)
        except (RuntimeError, MemoryError) as error:
            self._halve(error)
            return None

    def _advance(self, batch: Batch, waiting: deque[Row], running: dict[int, Row]) -> list[Row]:
        """Let requests join, or generate one token per row. Returns the rows that finished."""
        if new := [waiting.popleft() for _ in range(min(batch.room(self._batch_size), len(waiting)))]:
            running.update((id(row), row) for row in new)
            return batch.admit(new)
        if not waiting:
            batch.shrink()
        return batch.step()

    def _halve(self, error: Exception) -> None:
        """Half the batch size after running out of memory; any other error is passed on."""
        if not out_of_memory(error):
            raise error
        if self._batch_size == 1:
            raise EngineError(
                f"{self.name}: out of memory with one prompt at a time",
                hint="lower max_new_tokens, use a smaller model, or set engine.dtype to bfloat16",
            ) from error
        self._batch_size = self._most = self._batch_size // 2

    def _finish(self, row: Row) -> Finish | None:
        if row.tokens[-1] in self._ends:
            return "stop"
        if row.request.stop and self._stopped(row, row.request.stop):
            return "stop"
        return "length" if len(row.tokens) >= row.limit else None

    def _stopped(self, row: Row, stop: str) -> bool:
        tail = self._text(row.tokens[-(4 * len(stop) + 16) :])  # a character takes at most four tokens
        return stop in tail and stop in self._text(row.tokens)

    def _text(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text

    def _completion(self, row: Row) -> Completion:
        text = self._text(row.tokens)
        if row.request.stop:
            text = text.partition(row.request.stop)[0]
        return Completion(row.request.key, text, len(row.tokens), row.finish or "length")

    def _scores(self, logps: AnswerLogps, examples: Sequence[Example], check: Check) -> list[float]:
        order = deque(sorted(range(len(examples)), key=lambda i: -len(examples[i].prompt) - len(examples[i].answer)))
        scores = [0.0] * len(examples)
        while order:
            check()
            index = list(islice(order, self._batch_size))
            self._weights.use(self._adapter)
            try:
                means = self._means(logps, [examples[i] for i in index])
            except (RuntimeError, MemoryError) as error:
                self._halve(error)
                means = []
            if not means:
                _empty_cache()
                continue
            for i, mean in zip(index, means, strict=True):
                scores[i] = mean
                order.popleft()
        return scores

    @torch.inference_mode()
    def _means(self, logps: AnswerLogps, examples: Sequence[Example]) -> list[float]:
        batch = collate(examples, self._tokenizer.pad_token_id)
        means: list[float] = logps.means({name: x.to(self._model.device) for name, x in batch.items()}).tolist()
        return means


class _Weights:
    """A loaded model, and the adapters that stand over it; one of them, or none, is in use."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._over: Any = None  # peft's view of the model: it replaces layers in place
        self._names: dict[Path, str] = {}
        self._in_use: Path | None = None

    def use(self, adapter: Adapter | None) -> None:
        """Let the model compute with this adapter, or bare."""
        folder = adapter.folder if adapter else None
        if folder == self._in_use:
            return
        if folder is None:
            self._over.base_model.disable_adapter_layers()
        else:
            if folder not in self._names:
                self._load(folder)
            self._over.base_model.enable_adapter_layers()
            self._over.set_adapter(self._names[folder])
        self._in_use = folder

    def close(self) -> None:
        self.model = self._over = None

    def _load(self, folder: Path) -> None:
        from peft import PeftModel

        name = f"adapter{len(self._names)}"
        exact = {"adapter_name": name, "autocast_adapter_dtype": False, "is_trainable": False}
        try:
            if self._over is None:
                self._over = PeftModel.from_pretrained(self.model, str(folder), **exact)
            else:
                self._over.load_adapter(str(folder), torch_device=str(self.model.device), **exact)
        except Exception as error:
            raise ModelError(
                f"the adapter {folder} does not fit its base: {error}",
                hint="it was trained on another model; name the right one as policy, or train it again",
            ) from error
        self._over.to(self.model.dtype).eval()
        self._names[folder] = name


def _served(model: str | Path) -> Adapter | None:
    """The adapter at `model` if it can stand over its base; others are merged into it when they are loaded."""
    adapter = adapter_of(model)
    return adapter if adapter and adapter.plain else None


def _empty_cache() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer: the template's end of a turn, the tokenizer's, those of the model's generation config."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    several = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in [*several, *end_tokens(tokenizer)] if token is not None)


def _afresh(running: dict[int, Row]) -> list[Row]:
    """The rows of a batch that was lost, to be generated from the start (last one first); they come out the same."""
    lost = [Row(row.request, row.prompt, row.limit, row.stream) for row in reversed(running.values())]
    running.clear()
    return lost
