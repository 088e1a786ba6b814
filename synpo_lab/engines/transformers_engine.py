"""Generation in this process with a transformers model, on CPU, CUDA or MPS.

`model.generate` decodes a fixed batch until its longest answer ends. Here finished rows leave the batch and waiting
requests take their place; equal prompts are read once; and every row draws from its own random stream.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from synpo_lab.chat import Example, encode_examples, encode_prompts
from synpo_lab.config import EngineConfig, SamplingConfig
from synpo_lab.engines.base import Completion, Request
from synpo_lab.engines.batch import Batch, Finish, Row, new_batch
from synpo_lab.engines.sampling import stream
from synpo_lab.errors import EngineError
from synpo_lab.models import check_tokenizer, load_model, load_tokenizer, out_of_memory, use_threads
from synpo_lab.training.batches import collate
from synpo_lab.training.logps import AnswerLogps

CHUNK = 64  # batches of requests read ahead, so that prompts of a like length are read together


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
        if isinstance(model, str | Path):
            tokenizer = load_tokenizer(model, trust_remote_code=trust_remote_code)
            model = load_model(model, device=config.device, dtype=config.dtype, trust_remote_code=trust_remote_code)
        use_threads(config.threads, model.num_parameters())
        self._model, self._tokenizer = model.eval(), check_tokenizer(tokenizer, where=name)
        self._batch_size = config.batch_size
        self._ends = _end_tokens(model, tokenizer)
        self._context: int | None = getattr(model.config.get_text_config(), "max_position_embeddings", None)

    def generate(self, requests: Iterable[Request], sampling: SamplingConfig, *, seed: int) -> Iterator[Completion]:
        """Completions as they finish. Raises EngineError for a prompt that fills the model's context."""
        unread = iter(requests)
        waiting: deque[Row] = deque()
        running: dict[int, Row] = {}
        batch = self._new_batch(sampling)
        while True:
            waiting.extend([] if waiting else self._read(unread, sampling, seed))
            if not waiting and not running:
                return
            try:
                finished = self._advance(batch, waiting, running)
            except RuntimeError as error:
                self._halve(error)
                waiting.extendleft(_afresh(running))
                batch = self._new_batch(sampling)
                continue
            for row in finished:
                del running[id(row)]
                yield self._completion(row)

    def mean_logps(self, rows: Iterable[tuple[str, str]]) -> Iterator[float]:
        """Mean log-prob per token of each (prompt, answer), in order."""
        unread = iter(rows)
        logps = AnswerLogps(self._model)
        while chunk := list(islice(unread, self._batch_size * CHUNK)):
            yield from self._scores(logps, encode_examples(self._tokenizer, chunk))

    def close(self) -> None:
        """Let go of the model; memory returns when nothing else holds it."""
        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _new_batch(self, sampling: SamplingConfig) -> Batch:
        return new_batch(self._model, sampling, self._tokenizer.pad_token_id, self._finish)

    def _read(self, unread: Iterator[Request], sampling: SamplingConfig, seed: int) -> list[Row]:
        """The next chunk of requests, longest prompts first, equal prompts side by side."""
        requests = list(islice(unread, self._batch_size * CHUNK))
        prompts = encode_prompts(self._tokenizer, [request.prompt for request in requests])
        rows = [
            Row(request, prompt, self._limit(request, prompt, sampling), stream(seed, request.key))
            for request, prompt in zip(requests, prompts, strict=True)
        ]
        return sorted(rows, key=lambda row: (-len(row.prompt), row.prompt))

    def _limit(self, request: Request, prompt: list[int], sampling: SamplingConfig) -> int:
        if self._context is None:
            return sampling.max_new_tokens
        if len(prompt) >= self._context:
            raise EngineError(
                f"request {request.key!r}: its prompt has {len(prompt)} tokens, {self.name} takes {self._context}",
                hint="shorten or drop the prompt, or use a model with a longer context",
            )
        return min(sampling.max_new_tokens, self._context - len(prompt))

    def _advance(self, batch: Batch, waiting: deque[Row], running: dict[int, Row]) -> list[Row]:
        """Let requests join, or generate one token per row. Returns the rows that finished."""
        if new := [waiting.popleft() for _ in range(min(batch.room(self._batch_size), len(waiting)))]:
            running.update((id(row), row) for row in new)
            return batch.admit(new)
        if not waiting:
            batch.shrink()
        return batch.step()

    def _halve(self, error: RuntimeError) -> None:
        """Half the batch size after running out of memory; any other error is passed on."""
        if not out_of_memory(error):
            raise error
        if self._batch_size == 1:
            raise EngineError(
                f"{self.name}: out of memory with one prompt at a time",
                hint="lower max_new_tokens, use a smaller model, or set engine.dtype to bfloat16",
            ) from error
        self._batch_size //= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

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

    def _scores(self, logps: AnswerLogps, examples: Sequence[Example]) -> list[float]:
        order = deque(sorted(range(len(examples)), key=lambda i: -len(examples[i].prompt) - len(examples[i].answer)))
        scores = [0.0] * len(examples)
        while order:
            index = list(islice(order, self._batch_size))
            try:
                means = self._means(logps, [examples[i] for i in index])
            except RuntimeError as error:
                self._halve(error)
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


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end an answer: the tokenizer's and those of the model's generation config."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    several = configured if isinstance(configured, list) else [configured]
    return frozenset(token for token in [*several, tokenizer.eos_token_id] if token is not None)


def _afresh(running: dict[int, Row]) -> list[Row]:
    """The rows of a batch that was lost, to be generated from the start (last one first); they come out the same."""
    lost = [Row(row.request, row.prompt, row.limit, row.stream) for row in reversed(running.values())]
    running.clear()
    return lost
