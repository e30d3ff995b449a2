"""Latency, throughput and memory of a network on the CPU, each network in a process of its own.

`python -m lib.evaluation.latency WEIGHTS THREADS` prints the measurements of one file of weights as JSON.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lib.core.errors import InputError
from lib.core.files import ROOT

BATCH = 256
_CALLS = {1: (20, 100), BATCH: (1, 5)}  # batch size: calls to warm up, calls timed


def measure_latency(weights: Path, threads: int) -> dict[str, float | None]:
    """Measure inference on `threads` threads of the CPU, in PyTorch's eager mode and float32.

    The images have the network's size; those larger than 32×32 are computed in several passes of as many pixels.

    `latency_bs1` and `latency_bs256`: median seconds a batch of that size; `images_per_second`: throughput at the
    larger one; `peak_memory`: bytes by which the largest resident set of the process exceeds that of before the weights
    were loaded (None outside Linux: it is read from /proc); `bytes`: size of the file of weights; `threads`. Raises
    InputError when the measurement fails.
    """
    run = subprocess.run(
        [sys.executable, "-m", "lib.evaluation.latency", str(weights), str(threads)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise InputError(f"{weights} could not be measured: {run.stderr.strip().splitlines()[-1]}")
    return json.loads(run.stdout)


def median_seconds(call: Callable[[Any], Any], images: Any, warm_up: int, calls: int) -> float:
    """Return the median time of `calls` calls of `call(images)` after `warm_up` untimed ones, in seconds."""
    seconds = []
    for _ in range(warm_up + calls):
        start = time.perf_counter()
        call(images)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[warm_up:])


def _measure_here(weights: Path, threads: int) -> dict[str, float | None]:
    import torch

    from lib.core.rows import equal_pixels
    from lib.models.weights import load_weights

    torch.set_num_threads(threads)
    before = _resident("VmRSS")
    _reset_peak()
    network = load_weights(weights).to(memory_format=torch.channels_last)
    latency = {}
    with torch.inference_mode():
        for size, (warm_up, calls) in _CALLS.items():
            images = torch.randint(0, 256, (size, 3, *[network.image_size] * 2), dtype=torch.uint8)
            parts = images.contiguous(memory_format=torch.channels_last).split(equal_pixels(size, network.image_size))
            latency[size] = median_seconds(lambda parts: [network(part) for part in parts], parts, warm_up, calls)
    return {
        "latency_bs1": latency[1],
        "latency_bs256": latency[BATCH],
        "images_per_second": BATCH / latency[BATCH],
        "peak_memory": None if before is None else _resident("VmHWM") - before,
        "bytes": weights.stat().st_size,
        "threads": threads,
    }


def _resident(entry: str) -> int | None:
    """Return the process's current ("VmRSS") or peak ("VmHWM") resident set in bytes; None outside Linux."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith(entry))
    return 1024 * int(line.split()[1])


def _reset_peak() -> None:
    """Reset the peak resident set (proc(5), clear_refs): importing PyTorch takes more than a small network does."""
    clear_refs = Path("/proc/self/clear_refs")
    if clear_refs.exists():
        clear_refs.write_text("5")


if __name__ == "__main__":
    print(json.dumps(_measure_here(Path(sys.argv[1]), int(sys.argv[2]))))
