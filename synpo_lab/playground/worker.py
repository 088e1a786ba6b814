"""The playground's worker: `python -m synpo_lab.playground.worker`. Asks come on standard input, replies go out.

It ends when its input closes, so it never outlives the lab. A few models stay loaded, the latest used.
"""

import json
import os
import queue
import sys
import threading
import time
import traceback
from collections import OrderedDict
from typing import TextIO

from synpo_lab.config import EngineConfig, SamplingConfig
from synpo_lab.engines import open_engine
from synpo_lab.engines.base import Check, Engine, Request
from synpo_lab.errors import LabError
from synpo_lab.playground.wire import Ask, Model, Reply, ask_of, line_of

KEPT_MODELS = 3


class Cancelled(Exception):
    """The ask was cancelled."""


class Models:
    """Loaded models, at most `kept` of them; the one not used for longest goes first."""

    def __init__(self, kept: int = KEPT_MODELS) -> None:
        self._kept = kept
        self._engines: OrderedDict[object, Engine] = OrderedDict()
        self.loaded_last = False  # whether the last `get` loaded something

    def get(self, model: Model) -> Engine:
        key = _key(model)
        self.loaded_last = key not in self._engines
        if key in self._engines:
            self._engines.move_to_end(key)
            return self._engines[key]
        for other in self._engines.values():
            if (beside := other.beside(model.name, model.weights)) is not None:  # an adapter over a base that is there
                return beside
        while len(self._engines) >= self._kept:
            self._engines.popitem(last=False)[1].close()
        self._engines[key] = self._open(model)
        return self._engines[key]

    def _open(self, model: Model) -> Engine:
        try:
            return _opened(model)
        except (MemoryError, RuntimeError):
            if not self._engines:
                raise
            self.close()  # there was no room beside the others
            return _opened(model)

    def close(self) -> None:
        while self._engines:
            self._engines.popitem()[1].close()


def answer(models: Models, ask: Ask, check: Check) -> Reply:
    """The model's answer, or what went wrong."""
    began = time.monotonic()
    try:
        check()
        engine = models.get(ask.model)
        loaded = time.monotonic() - began if models.loaded_last else 0.0
        request = Request(ask.key, ask.prompt, ask.stop, ask.history)
        sampling = SamplingConfig.model_validate(ask.sampling)
        (made,) = engine.generate([request], sampling, seed=ask.seed, check=check)
    except Cancelled:
        return Reply(ask.id, finish_reason="cancelled")
    except LabError as error:
        return Reply(ask.id, finish_reason="error", error=error.message, hint=error.hint)
    except Exception as error:
        traceback.print_exc()
        return Reply(ask.id, finish_reason="error", error=f"{type(error).__name__}: {error}", hint=_HINT)
    seconds = time.monotonic() - began - loaded
    return Reply(ask.id, made.text, made.n_tokens, made.finish_reason, seconds, loaded, made.error or "")


_HINT = "try a shorter prompt or fewer tokens; what the model's process said is in the playground's log"


def serve(lines: TextIO, out: TextIO) -> None:
    """Answer asks in their order until `lines` ends."""
    waiting: queue.Queue[Ask | None] = queue.Queue()
    cancelled: set[int] = set()
    threading.Thread(target=_listen, args=(lines, waiting, cancelled), daemon=True).start()
    models = Models()
    while (ask := waiting.get()) is not None:
        out.write(line_of(answer(models, ask, _check_of(ask.id, cancelled))))
        out.flush()
        cancelled.discard(ask.id)
    models.close()


def _listen(lines: TextIO, waiting: "queue.Queue[Ask | None]", cancelled: set[int]) -> None:
    for line in lines:
        told = json.loads(line)
        if "cancel" in told:
            cancelled.add(told["cancel"])
        else:
            waiting.put(ask_of(told))
    waiting.put(None)
    threading.Timer(2.0, os._exit, [0]).start()  # a model that is at work does not hold the process


def _check_of(number: int, cancelled: set[int]) -> Check:
    def check() -> None:
        if number in cancelled:
            raise Cancelled

    return check


def _opened(model: Model) -> Engine:
    config = EngineConfig.model_validate(model.engine)
    return open_engine(
        model.name, model.weights, config, trust_remote_code=model.trust_remote_code, initial=model.initial
    )


def _key(model: Model) -> object:
    return (model.name, model.weights, json.dumps(model.engine, sort_keys=True), model.trust_remote_code)


def _own_output() -> TextIO:
    """Standard output for replies alone: whatever a library prints goes to standard error."""
    mine = os.dup(1)
    os.dup2(2, 1)
    return os.fdopen(mine, "w", encoding="utf-8")


if __name__ == "__main__":
    serve(sys.stdin, _own_output())
