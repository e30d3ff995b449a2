"""Measure the overhead of a sweep's trial beyond its training, by part.

    python benchmarks/sweep_overhead.py [--rounds N]

Each round runs the same tiny training on the sample five ways, in turn: by papermill's command line; by papermill with
a fresh kernel; and as a trial of a sweep, whose kernel is forked from a process that has done the imports; each of the
last two with W&B's offline log and without. Training takes the `train_seconds` of run.json; the rest is overhead.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import nbformat
import yaml

from lib.core.files import ROOT, read_json
from lib.core.provenance import processor
from lib.data.packing import pack_dataset
from lib.data.source import open_source
from lib.sweep.kernels import Kernels
from lib.sweep.trial import PRELOAD, run_trial

SMALL = {"network": "plain_16_32", "epochs": 1, "max_train_samples": 300, "figures": False}
CELLS = {"imports": "from dataclasses import", "train()": "folder = project_path", "figure": "plots.history"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[dict[str, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as scratch, Kernels(PRELOAD) as forked:
        folder = Path(scratch)
        pack_dataset(open_source("sample", folder / "source"), folder / "dataset", progress=False)
        given = {**SMALL, "upstream": {"01_data": {"dataset": str(folder / "dataset" / "metadata.json")}}}
        run_trial({**given, "wandb": "disabled"}, folder / "first", forked, lambda _: False)  # waits for the imports
        for number in range(rounds):
            here = folder / str(number)
            seconds["papermill's command line, no W&B"].append(by_command(given, here / "command"))
            for mode in ("disabled", "offline"):
                for name, kernels in (("fresh kernel", Kernels()), ("forked kernel", forked)):
                    row = measured(given | {"wandb": mode}, here / f"{name} {mode}", kernels)
                    seconds[f"{name}, W&B {mode}"].append(row)
    print(f"{processor()}, n = {rounds} rounds, seconds, mean ± standard deviation\n")
    print("| a trial by | beyond training | of it kernel, notebook | imports | train() | figure |")
    print("|---|---|---|---|---|---|")
    for name, rows in seconds.items():
        print(f"| {name} | " + " | ".join(spread([row[key] for row in rows]) for key in rows[0]) + " |")


def by_command(given: dict, folder: Path) -> dict[str, float]:
    folder.mkdir(parents=True)
    file = folder / "parameters.yaml"
    file.write_text(yaml.safe_dump({**given, "wandb": "disabled", "product": {"run": str(folder / "run.json")}}))
    command = [sys.executable, "-m", "papermill", "notebooks/02_train.ipynb", str(folder / "02_train.ipynb")]
    start = time.perf_counter()
    subprocess.run([*command, "-f", str(file)], cwd=ROOT, check=True, capture_output=True)
    return parts(folder, time.perf_counter() - start)


def measured(given: dict, folder: Path, kernels: Kernels) -> dict[str, float]:
    start = time.perf_counter()
    run_trial(given, folder, kernels, lambda _: False)
    return parts(folder, time.perf_counter() - start)


def parts(folder: Path, wall: float) -> dict[str, float]:
    """Split `wall` seconds by what they were spent on besides training."""
    training = read_json(folder / "run.json")["train_seconds"]
    cells = [cell for cell in nbformat.read(folder / "02_train.ipynb", 4).cells if cell.cell_type == "code"]
    took = {
        name: sum(cell.metadata.papermill.duration for cell in cells if start in cell.source)
        for name, start in CELLS.items()
    }
    rest = wall - sum(took.values())
    return {"all": wall - training, "rest": rest, **took, "train()": took["train()"] - training}


def spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"


if __name__ == "__main__":
    main()
