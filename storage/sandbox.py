"""The read-only SQL console: one SELECT over the public tables, in a child process that can be killed at any moment.

The child (`sandbox_worker.py`) stays warm between queries. It knows no path but its working folder, the lab home.
A query that runs out of time, or is cancelled, takes its child with it; the next one gets a fresh child.
"""

import json
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from storage import sources
from storage.catalogue import public_views
from storage.errors import SQLFault, StorageFault
from storage.folders import RunFolders
from storage.schema import whole_text
from storage.store import Store

LONGEST_CELL = 20_000  # characters
START_LIMIT_S = 60.0
_KEPT_ENVIRONMENT = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TZ", "SYSTEMROOT")
_WORKER = Path(__file__).with_name("sandbox_worker.py")
# DuckDB lists a function's every form, one a line; avg has eleven.
_OVERLOADS = re.compile(r"\n\s*Candidate functions:\n(?:\t.*(?:\n|$))+")
MOST_FORMS = 3  # told


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What a query gave. Every cell is None, a bool, a number, a string, or a list or dict of these."""

    columns: list[str]
    types: list[str]  # DuckDB's names
    rows: list[list[Any]]
    elapsed: float  # seconds, without the start of the child
    truncated: bool  # there were more rows than max_rows


class ProcessEnded(SQLFault):
    """The child's process ended, and nobody had asked it to."""


class Console:
    """Runs queries in at most `children` processes at a time. Safe to share between threads."""

    def __init__(
        self, store: Store, *, time_limit: float = 10.0, memory_mb: int = 1_024, threads: int = 2, children: int = 2
    ) -> None:
        self._store = store
        self._time_limit = time_limit
        self._size = (str(threads), str(memory_mb))
        self._folders = RunFolders(store)
        self._places = threading.BoundedSemaphore(children)
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._busy: dict[_Child, str | None] = {}
        self._damaged: set[Path] = set()

    def query(
        self, sql: str, *, max_rows: int = 1_000, time_limit: float | None = None, ticket: str | None = None
    ) -> QueryResult:
        """Run one SELECT. `ticket` names it for `cancel`.

        Raises SQLFault when it is refused, fails, takes longer than `time_limit` seconds or is cancelled.
        """
        limit = self._time_limit if time_limit is None else time_limit
        message = {"sql": whole_text(sql), "max_rows": max_rows, "max_cell": LONGEST_CELL}
        answer = self._ask(message, limit, ticket)
        if answer.get("kind") == "files":
            self._pass_over_damaged()
            answer = self._ask(message, limit, ticket)
        if "error" in answer:
            raise _fault(answer, self._store.home)
        return QueryResult(**answer)

    def cancel(self, ticket: str | None = None) -> int:
        """Stop the queries of that ticket, or all; return how many."""
        with self._lock:
            hit = [child for child, its in self._busy.items() if ticket is None or its == ticket]
            for child in hit:
                child.kill("the query was cancelled", hint="run it again when you like")
        return len(hit)

    def warm(self) -> None:
        """Start a child now, so that the first query need not wait for it."""
        with self._child(None, self._time_limit):
            pass

    def close(self) -> None:
        """End every child."""
        self.cancel()
        with self._lock:
            while self._idle:
                self._idle.pop().bury()

    def _ask(self, message: dict[str, Any], limit: float, ticket: str | None) -> dict[str, Any]:
        with self._child(ticket, limit) as child:
            return child.ask(message, limit)

    @contextmanager
    def _child(self, ticket: str | None, limit: float) -> "Iterator[_Child]":
        if not self._places.acquire(timeout=limit):
            raise SQLFault("the console is busy with other queries", hint="wait for them, or cancel one")
        child = None
        try:
            child = self._take(ticket)
            try:
                ready = child.set_up(self._set_up())
            except ProcessEnded:
                # Nobody's query was in it yet: what ended it is not theirs, and a fresh one may well live.
                self._put_back(child)
                child = self._take(ticket)
                ready = child.set_up(self._set_up())
            if not ready:
                self._pass_over_damaged()
                if not child.set_up(self._set_up()):
                    raise StorageFault(
                        "the lab home cannot be read", hint="look for damaged files in the runs' folders"
                    )
            yield child
        finally:
            self._put_back(child)
            self._places.release()

    def _pass_over_damaged(self) -> None:
        self._damaged = {path for path in sources.damaged_parts(self._store) if path.exists()}

    def _take(self, ticket: str | None) -> "_Child":
        with self._lock:
            child = self._idle.pop() if self._idle else _Child(self._store.home, self._size)
            if not child.is_alive():
                child.bury()
                child = _Child(self._store.home, self._size)
            self._busy[child] = ticket
            return child

    def _put_back(self, child: "_Child | None") -> None:
        if child is None:
            return
        with self._lock:
            self._busy.pop(child, None)
            if child.is_alive():
                self._idle.append(child)
            else:
                child.bury()

    def _set_up(self) -> dict[str, Any]:
        return {
            "set_up": sources.statements(self._store, relative=True, without=self._damaged),
            "runs": [list(astuple(row)) for row in self._folders.rows()],
            "public": [name.lower() for name in _offered(self._store)],
        }


class _Child:
    """One worker process. `ask` from one thread at a time; `kill` from any."""

    def __init__(self, home: Path, size: tuple[str, str]) -> None:
        if not home.is_dir():
            raise StorageFault(f"there is no lab home {home}", hint="run something first, or give --home")
        self._why: tuple[str, str] | None = None
        self._known: dict[str, Any] | None = None
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(_WORKER), *size],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=home,
            env={name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ},
        )
        self._buffer = b""

    def is_alive(self) -> bool:
        return self._why is None and self._process.poll() is None

    def set_up(self, message: dict[str, Any]) -> bool:
        """Tell the child what there is, unless it knows; False when that cannot be read."""
        if message != self._known:
            self._known = message if "error" not in self.ask(message, START_LIMIT_S) else None
        return self._known is not None

    def ask(self, message: dict[str, Any], limit: float) -> dict[str, Any]:
        deadline = time.monotonic() + limit
        try:
            self._write(json.dumps(message).encode() + b"\n")
            answer: dict[str, Any] = json.loads(self._line(deadline))
        except TimeoutError:
            self.kill(
                f"the query took longer than {limit:g} s and was stopped",
                "ask for less; `synpo-lab query --seconds` gives it longer",
            )
            raise self.bury() from None
        except (OSError, json.JSONDecodeError):
            if self._why is not None:
                raise self.bury() from None
            raise self._ended() from None
        return answer

    def _ended(self) -> "ProcessEnded":
        with suppress(subprocess.TimeoutExpired):  # what it says when it has garbled its answer, but lives
            self._process.wait(1)
        why = f"the query's process {_manner(self._process.poll())}"
        words = self._last_words()
        self.kill(f"{why}: {words}" if words else why, "ask for fewer or smaller rows: memory is the likeliest cause")
        fault = self.bury()
        return ProcessEnded(fault.message, hint=fault.hint)

    def _last_words(self) -> str:
        """The end of what it wrote to stderr, without waiting for more."""
        assert self._process.stderr is not None
        descriptor = self._process.stderr.fileno()
        os.set_blocking(descriptor, False)
        try:
            lines = os.read(descriptor, 1 << 16).decode(errors="replace").split("\n")
        except BlockingIOError:
            return ""
        return next((line.strip()[-300:] for line in reversed(lines) if line.strip()), "")

    def kill(self, why: str, hint: str = "") -> None:
        """End the process; whoever waits for its answer gets a fault that says why."""
        self._why = self._why or (why, hint)
        self._process.kill()

    def bury(self) -> SQLFault:
        """Free what an ended process leaves; the fault that says why it ended."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(OSError):  # unsent bytes have nowhere to go
                if pipe is not None:
                    pipe.close()
        why, hint = self._why or ("the query's process ended", "run it again")
        return SQLFault(why, hint=hint)

    def _write(self, data: bytes) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(data)
        self._process.stdin.flush()

    def _line(self, deadline: float) -> bytes:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        poll = select.poll()  # select() knows no descriptor above 1,023, and a busy server has them
        poll.register(descriptor, select.POLLIN)
        while b"\n" not in self._buffer:
            if not poll.poll(1_000 * max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            data = os.read(descriptor, 1 << 20)
            if not data:
                raise OSError("the process ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line


def _manner(code: int | None) -> str:
    if code is None:
        return "gave no readable answer"
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _offered(store: Store) -> list[str]:
    known = {source.name for source in sources.sources(store)} | {"runs"}
    return [name for name in public_views() if name in known]


def _fault(answer: dict[str, Any], home: Path) -> SQLFault:
    message = answer["error"].replace(str(home), "<lab home>").strip()
    if answer["kind"] == "refused":
        return SQLFault(message, hint=f"the tables are {', '.join(public_views())}")
    if found := _OVERLOADS.search(message):
        return SQLFault(message.replace(found[0], _listed(found[0]), 1), hint=_cast(message))
    return SQLFault(message, hint="every table and its columns are listed on the SQL page")


def _listed(overloads: str) -> str:
    forms = [line.strip() for line in overloads.strip().splitlines()[1:]]
    more = f"; and {len(forms) - MOST_FORMS} more" if len(forms) > MOST_FORMS else ""
    return f" It takes {'; '.join(forms[:MOST_FORMS])}{more}\n"


def _cast(message: str) -> str:
    if "(BOOLEAN)" in message:
        return "what it is given is true or false: CAST(... AS INTEGER) makes that a number, 1 or 0"
    return "give it what it takes, or convert it: CAST(... AS DOUBLE), CAST(... AS VARCHAR)"
