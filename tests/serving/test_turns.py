"""Large chunks pass one in each turn of the event loop, and those that come meanwhile wait in order."""

import asyncio

from lib.serving.turns import Turns

LARGE, SMALL = bytes(2**16), bytes(100)


def passed(chunk: bytes, bodies: int, chunks: int) -> list[list[int]]:
    """Return which bodies had a chunk pass in each turn of the event loop."""
    turns, found = Turns(), [list[int]()]

    async def body(number: int) -> None:
        for _ in range(chunks):
            await turns.take(chunk)
            found[-1].append(number)

    async def watch() -> None:
        reading = asyncio.gather(*map(body, range(bodies)))
        while not reading.done():
            found.append([])
            await asyncio.sleep(0)

    asyncio.run(watch())
    return found


def test_one_large_chunk_passes_in_each_turn_in_order() -> None:
    found = passed(LARGE, bodies=5, chunks=4)
    assert max(map(len, found)) == 1
    assert [number for turn in found for number in turn] == 4 * [0, 1, 2, 3, 4]


def test_small_chunks_wait_for_nobody_but_give_others_their_turn() -> None:
    found = [turn for turn in passed(SMALL, bodies=5, chunks=4) if turn]
    assert found == 4 * [[0, 1, 2, 3, 4]]
