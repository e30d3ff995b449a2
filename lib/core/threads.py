"""Work on many items in threads, batch by batch, with results in order and memory flat."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import joblib

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 8  # batches that are begun before the first result of theirs is taken


def map_batches(
    function: Callable[[Sequence[Item]], list[Result]], items: Sequence[Item], size: int
) -> Iterator[Result]:
    """Yield what `function` returns for batches of `size` items, in order; each of a batch as soon as it is done.

    One thread a usable core: worth it where the function releases Python's lock, as Pillow and ONNX Runtime do.
    """
    with ThreadPoolExecutor(joblib.cpu_count()) as pool:
        ahead: deque[Future[list[Result]]] = deque()
        try:
            for start in range(0, len(items), size):
                ahead.append(pool.submit(function, items[start : start + size]))
                if len(ahead) > _AHEAD:
                    yield from ahead.popleft().result()
            while ahead:
                yield from ahead.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # at Ctrl-C nothing more is begun
