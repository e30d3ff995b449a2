"""Measure the time and memory of packing a source: `python benchmarks/packing.py ARCHIVE [RUNS]`.

Prints a row a run: seconds to open, seconds to pack, images a second, peak memory of this process and of its workers.
"""

import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

from lib.core.provenance import processor
from lib.data.packing import pack_dataset
from lib.data.source import open_source


def main(archive: str, runs: int) -> None:
    seconds = []
    print(f"{processor()}\nrun  open_s  pack_s  images_per_s  peak_MB  worker_peak_MB")
    for run in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            source = open_source(str(Path(archive).resolve()), Path(folder) / "sample")
            opened = time.perf_counter()
            pack_dataset(source, Path(folder) / "dataset", progress=False)
            done = time.perf_counter()
        seconds.append(done - opened)
        peaks = [resource.getrusage(who).ru_maxrss / 1e3 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        rate = len(source.records) / seconds[-1]
        print(f"{run:3}  {opened - start:6.2f}  {seconds[-1]:6.2f}  {rate:12,.0f}  {peaks[0]:7.0f}  {peaks[1]:14.0f}")
    print(f"median of {runs}: {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 3)
