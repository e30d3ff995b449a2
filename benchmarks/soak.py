"""Load the service steadily and watch its memory: `python benchmarks/soak.py [MINUTES] [REQUESTS_A_SECOND]`.

Of 20 requests 17 are images, one is no image, one is a large one, one is a batch of ten. Memory is the resident set
of all processes that /metrics reports, every ten seconds. Prints it by minute, and the slope after the first minute.
"""

import asyncio
import re
import sys
import time
from collections import Counter

import httpx
import numpy as np
from images import image
from service import running

EVERY = 10  # seconds


async def soak(address: str, minutes: float, rate: float) -> tuple[list[float], Counter[int]]:
    """Return the resident set (MiB) every ten seconds, and how many responses had which status."""
    small, large = [image(seed) for seed in range(500)], image(0, side=1500)
    memory, codes = [], Counter()
    start = time.perf_counter()
    async with httpx.AsyncClient(base_url=address, timeout=30, limits=httpx.Limits(max_connections=100)) as client:

        async def request(turn: int) -> None:
            path, contents = "/predict/", [small[turn % len(small)]]
            if turn % 20 == 0:
                contents = [b"no image"]
            elif turn % 20 == 1:
                contents = [large]
            elif turn % 20 == 2:
                path, contents = "/predict/batch", small[turn % 490 : turn % 490 + 10]
            codes[(await client.post(path, files=[("data", ("x", content)) for content in contents])).status_code] += 1

        async with asyncio.TaskGroup() as tasks:
            for turn in range(int(minutes * 60 * rate)):
                await asyncio.sleep(start + turn / rate - time.perf_counter())
                tasks.create_task(request(turn))
                if turn % int(EVERY * rate) == 0:
                    found = re.findall(
                        r"^\w*process_resident_memory_bytes (\S+)", (await client.get("/metrics")).text, re.M
                    )
                    memory.append(sum(map(float, found)) / 2**20)
    return memory, codes


def main(minutes: float, rate: float) -> None:
    if minutes < 2:
        sys.exit("a soak takes two minutes at least")
    with running("ours") as address:
        memory, codes = asyncio.run(soak(address, minutes, rate))
    a_minute = 60 // EVERY
    for minute in range(0, len(memory), a_minute):
        print(f"minute {minute // a_minute + 1:2}: {np.mean(memory[minute : minute + a_minute]):6.1f} MiB")
    warm = memory[a_minute:]
    slope = np.polyfit(np.arange(len(warm)) * EVERY / 60, warm, 1)[0]
    print(f"slope after the first minute {slope:+.3f} MiB a minute; responses by status {dict(codes)}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10, float(sys.argv[2]) if len(sys.argv) > 2 else 50)
