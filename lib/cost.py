"""What an answer costs: latency, throughput and memory of a network on the CPU, each in a process of its own.

`python -m lib.cost WEIGHTS THREADS` prints the figures of one file of weights as JSON.
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from lib.errors import InputError
from lib.files import ROOT

BATCH = 256
_CALLS = {1: (20, 100), BATCH: (1, 5)}  # batch size: calls to warm up, calls timed


def measure(weights: Path, threads: int) -> dict[str, float | None]:
    """Return the cost of answering on `threads` threads of the CPU, with PyTorch as it comes (eager, float32).

    `latency_1` and `latency_256`: median seconds of a call with so many images; `images_per_second`: of the larger
    calls; `peak_memory`: bytes by which the largest resident set of the process exceeds that of before the weights were
    loaded (None where the system does not tell: it is read from Linux's /proc); `bytes`: size of the file of
    weights. Raises InputError when it fails.
    """
    run = subprocess.run(
        [sys.executable, "-m", "lib.cost", str(weights), str(threads)], cwd=ROOT, capture_output=True, text=True
    )
    if run.returncode:
        raise InputError(f"{weights} could not be measured: {run.stderr.strip().splitlines()[-1]}")
    return json.loads(run.stdout)


def _measure_here(weights: Path, threads: int) -> dict[str, float | None]:
    import torch

    from lib.weights import load_weights

    torch.set_num_threads(threads)
    before = _resident("VmRSS")
    _forget_peak()
    network = load_weights(weights).to(memory_format=torch.channels_last)
    latency = {}
    with torch.inference_mode():
        for size, (warm_up, calls) in _CALLS.items():
            images = torch.randint(0, 256, (size, 3, 32, 32), dtype=torch.uint8)
            images = images.contiguous(memory_format=torch.channels_last)
            seconds = []
            for _ in range(warm_up + calls):
                start = time.perf_counter()
                network(images)
                seconds.append(time.perf_counter() - start)
            latency[size] = statistics.median(seconds[warm_up:])
    return {
        "latency_1": latency[1],
        "latency_256": latency[BATCH],
        "images_per_second": BATCH / latency[BATCH],
        "peak_memory": None if before is None else _resident("VmHWM") - before,
        "bytes": weights.stat().st_size,
        "threads": threads,
    }


def _resident(entry: str) -> int | None:
    """Return the process's resident set now ("VmRSS") or at its peak ("VmHWM"), in bytes; None outside Linux."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith(entry))
    return 1024 * int(line.split()[1])


def _forget_peak() -> None:
    """Let the peak begin anew (proc(5), clear_refs): importing PyTorch takes more than a small network does."""
    forget = Path("/proc/self/clear_refs")
    if forget.exists():
        forget.write_text("5")


if __name__ == "__main__":
    print(json.dumps(_measure_here(Path(sys.argv[1]), int(sys.argv[2]))))
