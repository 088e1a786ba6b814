"""The playground's side that never loads a model: it starts the worker, asks, cancels, and lets it go when idle."""

import atexit
import itertools
import queue
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

from synpo_lab.config import RunConfig
from synpo_lab.errors import EngineError
from synpo_lab.jobs.launching import worker_environment
from synpo_lab.playground.wire import Ask, Reply, line_of, reply_of

WORKER = (sys.executable, "-P", "-m", "synpo_lab.playground.worker")
IDLE_SECONDS = 300.0
WAIT_SECONDS = 0.1
LOG_TAIL = 1_500  # characters


class Playground:
    """Asks models in a worker process. Any number of threads may ask at once; the worker answers in their order."""

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        self._idle = idle_seconds
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._worker: _Worker | None = None
        self._timer: threading.Timer | None = None
        forget = weakref.WeakMethod(self.close)
        atexit.register(lambda: (call := forget()) and call())

    @property
    def pid(self) -> int | None:
        """The worker's, while it lives."""
        with self._lock:
            return self._worker.process.pid if self._worker and self._worker.alive else None

    def ask(self, ask: Ask, given_up: Callable[[], bool] = lambda: False) -> Reply:
        """The reply; its error says what went wrong in the model. `given_up` is asked often and cancels.

        Raises EngineError when the worker cannot be started or ends.
        """
        numbered = replace(ask, id=next(self._numbers))
        worker = self._started()
        waiting = worker.send(numbered)
        told = False
        while True:
            try:
                reply = waiting.get(timeout=WAIT_SECONDS)
            except queue.Empty:
                if given_up() and not told:
                    worker.cancel(numbered.id)
                    told = True
                continue
            if reply is None:
                raise worker.ended()
            self._rest()
            return reply

    def close(self) -> None:
        """End the worker and give its memory back. Another ask starts a new one."""
        with self._lock:
            worker, self._worker = self._worker, None
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        if worker is not None:
            worker.close()

    def _started(self) -> "_Worker":
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            if self._worker is None or not self._worker.alive:
                self._worker = _Worker()
            return self._worker

    def _rest(self) -> None:
        """Close after a while, unless something is asked until then."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._worker is not None and not self._worker.busy:
                self._timer = threading.Timer(self._idle, self.close)
                self._timer.daemon = True
                self._timer.start()


class _Worker:
    """One worker process and who waits for its replies."""

    def __init__(self) -> None:
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  (it lives as long as the process)
        try:
            self.process = subprocess.Popen(
                WORKER,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                env=worker_environment(RunConfig()),
                cwd=Path(tempfile.gettempdir()),
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            raise EngineError(
                f"the playground's process cannot be started: {error}", hint="`synpo-lab doctor` says what is missing"
            ) from None
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        self._writing = threading.Lock()
        self._waiting: dict[int, queue.Queue[Reply | None]] = {}
        self._ended = False
        self._last_words = ""
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def alive(self) -> bool:
        return not self._ended and self.process.poll() is None

    @property
    def busy(self) -> bool:
        with self._writing:
            return bool(self._waiting)

    def send(self, ask: Ask) -> "queue.Queue[Reply | None]":
        """Where the reply will come; None comes when the process ends first."""
        waiting: queue.Queue[Reply | None] = queue.Queue()
        with self._writing:
            self._waiting[ask.id] = waiting
            if self._ended:
                waiting.put(None)
        self._write(line_of(ask))
        return waiting

    def cancel(self, number: int) -> None:
        self._write(f'{{"cancel": {number}}}\n')

    def ended(self) -> EngineError:
        """Why nothing more comes."""
        code = self.process.wait(5)
        why = "killed, perhaps for memory" if code in {-9, 137} else f"code {code}"
        return EngineError(
            f"the playground's process ended ({why})" + (f"\n{self._last_words}" if self._last_words else ""),
            hint="ask again to start it anew; choose fewer or smaller models if memory is short",
        )

    def close(self) -> None:
        with suppress(OSError, ValueError):
            self._stdin.close()
        try:
            self.process.wait(0.5)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self._listener.join(5)

    def _write(self, line: str) -> None:
        with self._writing, suppress(OSError, ValueError):  # a process that has ended is told of by `_listen`
            self._stdin.write(line)
            self._stdin.flush()

    def _listen(self) -> None:
        with suppress(OSError, ValueError):  # no reply: the process is done for
            for line in self._stdout:
                reply = reply_of(line)
                with self._writing:
                    waiting = self._waiting.pop(reply.id, None)
                if waiting is not None:
                    waiting.put(reply)
        self._bury()

    def _bury(self) -> None:
        """End what is left of the process, keep what it said last, and tell whoever waits."""
        self.process.kill()
        self.process.wait()
        self._log.seek(0)
        self._last_words = self._log.read().decode("utf-8", "replace")[-LOG_TAIL:].strip()
        with self._writing:
            self._ended = True
            left, self._waiting = list(self._waiting.values()), {}
            for pipe in (self._stdin, self._stdout, self._log):
                with suppress(OSError, ValueError):  # what was not yet written has nobody to read it
                    pipe.close()
        for waiting in left:
            waiting.put(None)
