"""Turns: many large bodies at once cost the other requests no more than one does."""

import asyncio

_LARGE = 16 * 2**10  # bytes


class Turns:
    """Let the large chunks of all bodies pass one by one, one in each turn of the event loop, in order.

    A request needs some turns of the event loop, each of which takes as long as all that is done in it.
    """

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def take(self, chunk: bytes) -> None:
        """Let others have their turn, and wait for that of `chunk` where it is large."""
        if len(chunk) < _LARGE:
            await asyncio.sleep(0)
        else:
            async with self._lock:
                await asyncio.sleep(0)
