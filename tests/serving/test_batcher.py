"""Micro-batching, with functions that take their time."""

import asyncio
import os
import sys
import threading
import time
from collections.abc import Callable

import pytest

from lib.serving.batcher import Batcher, QueueFull


def slowly(seconds: float, function: Callable[[list[int]], list[int]] = lambda items: items):
    """Return a function that takes some time."""

    def call(items: list[int]) -> list[int]:
        time.sleep(seconds)
        return function(items)

    return call


def test_what_waits_makes_up_the_next_batch_and_results_match_their_items() -> None:
    sizes: list[int] = []

    async def use() -> list[list[int]]:
        batcher = Batcher(slowly(0.01, lambda items: [10 * item for item in items]), 1, 8, 100, sizes.append)
        return await asyncio.gather(*(batcher.run([k]) for k in range(30)), batcher.run([40, 41, 42]))

    assert asyncio.run(use()) == [[10 * k] for k in range(30)] + [[400, 410, 420]]
    assert sum(sizes) == 33
    assert max(sizes) == 8
    assert len(sizes) <= 7, "two batches are under way while the others wait"


def test_workers_run_in_parallel_and_each_one_batch_at_a_time() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def function(items: list[int]) -> list[int]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.005)
        with lock:
            running -= 1
        return items

    async def use() -> list[int]:
        batcher = Batcher(function, 2, 4, 100, lambda size: None)
        return await batcher.run(list(range(40)))

    assert asyncio.run(use()) == list(range(40))
    assert most == 2


def test_a_full_queue_takes_nothing_a_failed_batch_fails_alone() -> None:
    def function(items: list[int]) -> list[int]:
        if 13 in items:
            raise ZeroDivisionError
        return items

    async def use() -> None:
        batcher = Batcher(slowly(0.02, function), 1, 1, 2, lambda size: None)
        first = [asyncio.create_task(batcher.run([k])) for k in (1, 2)]  # one runs, one is at hand
        await asyncio.sleep(0.005)
        waiting = asyncio.create_task(batcher.run([13]))
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await batcher.run([3, 4])
        last = asyncio.create_task(batcher.run([5]))
        await asyncio.sleep(0)
        assert (await asyncio.gather(*first), await last) == ([[1], [2]], [5])
        with pytest.raises(ZeroDivisionError):
            await waiting

    asyncio.run(use())


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority of their own")
def test_threads_have_the_priority_asked_for() -> None:
    async def priority(nice: int) -> int:
        batcher = Batcher(lambda items: [os.getpriority(os.PRIO_PROCESS, 0)], 1, 1, 1, nice=nice)
        return (await batcher.run([0]))[0]

    usual = os.getpriority(os.PRIO_PROCESS, 0)
    assert [asyncio.run(priority(nice)) for nice in (0, 7)] == [usual, min(19, usual + 7)]
