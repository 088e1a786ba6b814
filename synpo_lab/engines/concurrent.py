"""Many asynchronous answers at once, handed out one by one to code that knows nothing of asyncio."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

from synpo_lab.engines.base import Check

Item = TypeVar("Item")
Result = TypeVar("Result")

POLL_SECONDS = 0.2  # between two looks at `check`


def as_finished(
    loop: asyncio.AbstractEventLoop,
    items: Iterable[Item],
    work: Callable[[Item], Awaitable[Result]],
    limit: Callable[[], int],
    check: Check,
) -> Iterator[Result]:
    """What `work` makes of each item, as it is finished; at most `limit()` at once, and no item is read before its turn.

    The loop runs while a result is waited for. When work raises, the results that are there by then come first. However
    it ends, nothing is left running.
    """
    unread = iter(items)
    running: set[asyncio.Task[Result]] = set()
    more = True
    try:
        while True:
            while more and len(running) < limit():
                try:
                    running.add(loop.create_task(_awaited(work, next(unread))))
                except StopIteration:
                    more = False
            if not running:
                return
            check()
            waited = asyncio.wait(running, timeout=POLL_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            done, running = loop.run_until_complete(waited)
            failed = [task for task in done if task.exception() is not None]
            for task in done.difference(failed):
                yield task.result()
            for task in failed:
                task.result()
    finally:
        for task in running:
            task.cancel()
        if running:
            done, _ = loop.run_until_complete(asyncio.wait(running))
            for task in done:
                task.cancelled() or task.exception()  # looked at, so that asyncio does not complain


async def _awaited(work: Callable[[Item], Awaitable[Result]], item: Item) -> Result:
    return await work(item)
