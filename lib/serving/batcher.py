"""Micro-batching: what waits while the network computes makes up the next batch. Nothing waits for company."""

import asyncio
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFull(RuntimeError):
    """Signal that a queue is full; nothing of the call was queued."""


class Batcher(Generic[Item, Result]):
    """Call `function` for items of several requests together, in `workers` threads.

    It gets up to `max_batch_size` items and returns a result for each, in order. At most `capacity` items wait.
    `observe` gets the size of each batch. Its threads have a priority that is lower by `nice` (on Linux).
    """

    def __init__(
        self, function: Callable[[list[Item]], Sequence[Result]], workers: int, max_batch_size: int, capacity: int,
        observe: Callable[[int], object] = lambda size: None, nice: int = 0,
    ) -> None:  # fmt: skip
        self._function, self._max_batch_size, self.capacity, self._observe = function, max_batch_size, capacity, observe
        self._threads = ThreadPoolExecutor(workers, initializer=partial(_lower_priority, nice))
        self._idle = 2 * workers  # two batches a thread, which has the next one at hand when it is done with one
        self._queue: deque[tuple[Item, asyncio.Future[Result]]] = deque()

    @property
    def depth(self) -> int:
        """Count the items that wait."""
        return len(self._queue)

    def check_room(self, count: int = 1) -> None:
        """Raise QueueFull where `count` items more may not wait."""
        at_once = self._idle * self._max_batch_size  # these are about to leave the queue
        if self.depth + count > self.capacity + at_once:
            raise QueueFull

    async def run(self, items: Sequence[Item]) -> list[Result]:
        """Return the results of `items`, in order; raise QueueFull, and queue none, where not all of them may wait."""
        self.check_room(len(items))
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in items]
        self._queue.extend(zip(items, futures, strict=True))
        loop.call_soon(self._dispatch)  # after the other requests that this turn of the event loop has at hand
        return [await future for future in futures]

    def _dispatch(self) -> None:
        while self._idle and self._queue:
            self._idle -= 1
            batch = [self._queue.popleft() for _ in range(min(self._max_batch_size, len(self._queue)))]
            self._observe(len(batch))
            items = [item for item, _ in batch]
            call = asyncio.get_running_loop().run_in_executor(self._threads, self._function, items)
            call.add_done_callback(partial(self._deliver, batch))

    def _deliver(self, batch: list[tuple[Item, asyncio.Future[Result]]], call: asyncio.Future) -> None:
        self._idle += 1
        error = call.exception()  # one batch's failure is not the next one's
        for (_, future), result in zip(batch, [error] * len(batch) if error else call.result(), strict=True):
            if not future.done():  # its request may have been cancelled
                future.set_exception(error) if error else future.set_result(result)
        self._dispatch()


def _lower_priority(nice: int) -> None:
    """Lower the priority of this thread, where threads have one of their own."""
    if nice and sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + nice)
