"""Micro-batching: what waits while the network computes makes up the next batch. Nothing waits for company."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Busy(RuntimeError):
    """Say that the queue is full; what was offered has not been taken."""


class Pool:
    """Call functions in a few threads; at most `limit` calls wait or run."""

    def __init__(self, threads: int, limit: int) -> None:
        self._threads, self._limit, self._count = ThreadPoolExecutor(threads), limit, 0

    async def run(self, function: Callable[[Item], Result], item: Item) -> Result:
        """Return what `function` makes of `item`; raise Busy, and do nothing, where too many wait."""
        if self._count >= self._limit:
            raise Busy
        self._count += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, function, item)
        finally:
            self._count -= 1

    def close(self) -> None:
        self._threads.shutdown()


class Batcher(Generic[Item, Result]):
    """Answer single items through functions of many, each called with up to `size` at a time, one call after another.

    Each of `judges` returns a result an item, in order. At most `limit` items wait. `seen` is told the size of each
    batch.
    """

    def __init__(
        self,
        judges: Sequence[Callable[[list[Item]], Awaitable[Sequence[Result]]]],
        size: int,
        limit: int,
        seen: Callable[[int], object],
    ) -> None:
        self._idle, self._size, self.limit, self._seen = list(judges), size, limit, seen
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._work: set[asyncio.Task[None]] = set()

    @property
    def depth(self) -> int:
        """Count the items that wait."""
        return len(self._waiting)

    async def answer(self, items: Sequence[Item]) -> list[Result]:
        """Return the results of `items`, in order; raise Busy, and take none, where not all of them may wait."""
        if self.depth + len(items) > self.limit:
            raise Busy
        loop = asyncio.get_running_loop()
        futures = [loop.create_future() for _ in items]
        self._waiting.extend(zip(items, futures, strict=True))
        for _ in range(min(len(self._idle), -(-len(items) // self._size))):
            work = loop.create_task(self._run(self._idle.pop()))
            self._work.add(work)
            work.add_done_callback(self._work.discard)
        return [await future for future in futures]

    async def close(self) -> None:
        """Answer what waits, then stop."""
        while self._work:
            await asyncio.wait(self._work)

    async def _run(self, judge: Callable[[list[Item]], Awaitable[Sequence[Result]]]) -> None:
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(self._size, len(self._waiting)))]
            self._seen(len(batch))
            try:
                results = await judge([item for item, _ in batch])
            except Exception as error:  # one batch's failure is not the next one's
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)
                continue
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():  # its request may have been cancelled
                    future.set_result(result)
        self._idle.append(judge)
