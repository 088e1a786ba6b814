"""Blocks in, new records out: converted in several processes, in the order of the file, in bounded memory."""

import os
import threading
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from typing import Any

import numpy as np
import pyarrow as pa

from storage.importers import Block
from synpo_lab.importing.converting import Converted, convert, pair_id_of
from synpo_lab.importing.known import Keys, Known
from synpo_lab.importing.look import Tally
from synpo_lab.importing.plan import Reading

MOST_PROCESSES = 4
SMALL = 16_000_000  # bytes: below, starting processes takes longer than the work
_IDENTITY = ("chosen_id", "rejected_id", "messages")

Add = Callable[[str, pa.RecordBatch], None]


class Gatherer:
    """Takes converted blocks in order, passes on what is new, and marks pairs that were there before."""

    def __init__(self, add: Add) -> None:
        self.tally = Tally()
        self.duplicates = 0
        self._add = add
        self._known: defaultdict[str, Known] = defaultdict(Known)
        self._times: Counter[int] = Counter()  # of pairs that came more than once: how often after the first time

    def take(self, converted: Converted) -> None:
        self.tally.add(converted.tally)
        for table, batch in converted.batches.items():
            keys = converted.keys[table]
            new = self._known[table].first_seen(keys)
            if table == "pairs":
                self._add(table, batch if new.all() else self._marked(batch, keys, new))
            else:
                self._add(table, batch if new.all() else batch.filter(pa.array(new)))

    def _marked(self, batch: pa.RecordBatch, keys: Keys, new: Any) -> pa.RecordBatch:
        """The pairs with those that were there before marked, each under an id of its own."""
        ids = batch.column("pair_id").to_pylist()
        for place in np.flatnonzero(~new):
            key = int(keys[place])
            self._times[key] += 1
            chosen_id, rejected_id, messages = (batch.column(name)[place].as_py() for name in _IDENTITY)
            ids[place] = pair_id_of(chosen_id, rejected_id, messages, self._times[key] + 1)
        self.duplicates += int((~new).sum())
        marked = batch.set_column(batch.schema.get_field_index("pair_id"), batch.schema.field("pair_id"), pa.array(ids))
        return marked.set_column(
            batch.schema.get_field_index("duplicate"), batch.schema.field("duplicate"), pa.array(~new)
        )


@contextmanager
def converted_blocks(reading: Reading, blocks: Iterable[Block], size: int) -> Iterator[Iterator[Converted]]:
    """The blocks converted, in order; `size` is the bytes there are to read, 0 when nobody knows."""
    processes = 0 if 0 < size < SMALL else min(MOST_PROCESSES, len(os.sched_getaffinity(0)))
    if processes < 2:
        yield (convert(reading, block) for block in blocks)
        return
    # Not forked: this process has threads.
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_end_with_parent)
    try:
        yield _in_order(pool, reading, blocks, ahead=2 * processes)
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with_parent() -> None:
    """A killed parent tells its children nothing, and they would wait for work for ever."""

    def wait() -> None:
        if (parent := parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _in_order(pool: ProcessPoolExecutor, reading: Reading, blocks: Iterable[Block], ahead: int) -> Iterator[Converted]:
    waiting: deque[Future[Converted]] = deque()
    for block in blocks:
        waiting.append(pool.submit(convert, reading, block))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
