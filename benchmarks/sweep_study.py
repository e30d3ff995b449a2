"""Compare Bayesian with random search on CIFAKE at equal numbers of trials.

    python benchmarks/sweep_study.py ARCHIVE [--seeds N] [--trials N] [--images N] [--epochs N]

Both search the space of parameters/sweep_bayes.yaml, with sweep seeds 0 … N−1, on the same training images. The metric
of a trial is its loss on all validation images; the test images are not used. Methods and seeds alternate, so that the
results are balanced at any time. They are in outputs/benchmarks/sweep/; a study that was stopped resumes there. A table
is printed after every seed.
"""

import argparse
import statistics
import time
from pathlib import Path

import pandas as pd

from lib.core.files import ROOT, project_path, write_json
from lib.core.provenance import lib_hash, processor
from lib.data.dataset import PackedDataset, open_dataset
from lib.data.packing import pack_dataset
from lib.data.source import open_source
from lib.sweep.engine import run_sweep
from lib.sweep.specification import check_specification, load_specification

FOLDER = ROOT / "outputs" / "benchmarks"
METHODS = ("random", "bayes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=2)
    given = parser.parse_args()

    dataset = opened(given.archive)
    conditions = (
        f"{processor()}, {dataset.metadata['data']}, {given.images:,} training images, {given.epochs} epochs a trial"
    )
    found: dict[tuple[str, int], list[float]] = {}
    for seed in range(given.seeds):
        for method in METHODS:
            start = time.perf_counter()
            found[method, seed] = best_so_far(method, seed, dataset, given)
            print(f"{method}, seed {seed}: best {found[method, seed][-1]:.4f}, {time.perf_counter() - start:.0f} s now")
            write_json(FOLDER / "sweep" / "best.json", {f"{name} {k}": values for (name, k), values in found.items()})
        print(f"\n{conditions}, n = {seed + 1} sweep seeds, best validation loss so far, mean ± standard deviation\n")
        report(found, given.trials, seed + 1)


def opened(archive: str) -> PackedDataset:
    folder = FOLDER / "dataset"
    if (folder / "metadata.json").is_file():
        return open_dataset(folder)
    return pack_dataset(open_source(str(Path(archive).resolve()), FOLDER / "sample"), folder, progress=False)


def best_so_far(method: str, seed: int, dataset: PackedDataset, given: argparse.Namespace) -> list[float]:
    """Return the best validation loss after each trial of one sweep, which is run or resumed."""
    content = load_specification(project_path("parameters/sweep_bayes.yaml")).content
    specification = check_specification({**content, "method": method, "run_cap": given.trials})
    fixed = {"epochs": given.epochs, "max_train_samples": given.images, "wandb": "disabled", "accelerator": "cpu",
             "figures": False}  # fmt: skip
    fixed["upstream"] = {"01_data": {"dataset": str(FOLDER / "dataset" / "metadata.json")}}
    fingerprint = {"dataset": dataset.fingerprint(), "lib_hash": lib_hash(module="training.train")}
    table = run_sweep(specification, fixed, fingerprint, FOLDER / "sweep" / method / str(seed) / "trials", seed)
    losses = table["val/loss"].where(table["state"] == "complete")
    return pd.Series(losses).cummin().ffill().tolist()


def report(found: dict[tuple[str, int], list[float]], trials: int, seeds: int) -> None:
    marks = [n for n in (1, 5, 6, 8, 10, 12, 15, 20, 30, 40) if n < trials] + [trials]
    print("| trials | " + " | ".join(METHODS) + " | bayes − random, same seed | seeds that bayes wins |")
    print("|" + "---|" * (len(METHODS) + 3))
    for n in marks:
        values = {name: [found[name, seed][n - 1] for seed in range(seeds)] for name in METHODS}
        differences = [bayes - random for random, bayes in zip(values["random"], values["bayes"], strict=True)]
        wins = f"{sum(difference < 0 for difference in differences)} of {seeds}"
        cells = [*(spread(values[name]) for name in METHODS), spread(differences), wins]
        print(f"| {n} | " + " | ".join(cells) + " |")
    print(flush=True)


def spread(values: list[float]) -> str:
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.4f} ± {deviation:.4f}"


if __name__ == "__main__":
    main()
