"""Train our network and the baselines, each by its own recipe and by the others', within a given time on one machine.

    python benchmarks/baselines.py ARCHIVE --output FOLDER [--deadline SECONDS] [--only PATTERN ...] [--list] …

Runs, in this order (a PATTERN is one of these names, * for anything):
  speed/NETWORK-by-RECIPE        three epochs, for training throughput where nothing else runs
  tuning/OPTIMISER-LR            short trainings of VGG16-BN; the highest validation accuracy chooses its optimiser
  full/NETWORK-by-RECIPE/SEED    whole recipes
  budget/NETWORK-by-RECIPE/N     own recipes with schedules of N epochs of all training images
Test images are used for the figures of full and budget runs alone. A run whose estimated end is past the deadline is
left out; a shorter one may still fit. Every run has a folder in FOLDER/runs with run.json, history.csv, weights and
result.json. Those of full and budget runs also have predictions.npz: the logits, N×2 in class order, of the images of
val then test (`clean`, float32), and of the test images under each corruption (float16). The same command continues
after an interruption, and several with other PATTERNs may share FOLDER. With --archive-to, results.jsonl (a line a
run), baselines.tar.gz and weights.tar.gz are renewed there after each run. With --keep, what 05_compare_vgg reads is
written to a folder at the end; `--keep outputs/reference/baselines` replaces the kept runs.
"""

import argparse
import gc
import json
import shutil
import subprocess
import sys
import tarfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import filelock
import joblib
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from time_to_accuracy import settings_of

from lib.core.files import atomic_file, read_json, remove_file, write_json
from lib.data.dataset import PackedDataset, open_dataset
from lib.data.packing import pack_dataset
from lib.data.source import Source, open_source
from lib.evaluation.baseline_runs import CNN, CORRUPTIONS, OURS, VGG, keep_runs
from lib.evaluation.corruptions import ROBUSTNESS
from lib.evaluation.metrics import proportion
from lib.evaluation.predictions import LOGITS, predict, probability_fake, run_network
from lib.evaluation.robustness import corrupted
from lib.models.device import choose_device
from lib.models.networks import Network
from lib.training.baselines import RECIPES, VGG_CANDIDATES
from lib.training.settings import Settings
from lib.training.train import train

RECIPE_OF = {OURS: "ours", VGG: "vgg16_bn", CNN: "cnn_baseline"}
SPEED_EPOCHS, TUNING_EPOCHS = 3, 6
BUDGETS = (1, 2, 4, 8, 16, 32)
MAX_WEIGHTS, MAX_ARCHIVE = 8 * 2**20, 15 * 2**20  # bytes, of one file of weights and of all in weights.tar.gz
RUN_SECONDS, SECONDS_PER_WEIGHT = 10.0, 2e-8  # of start and evaluation of a run, and of the checkpoints of an epoch


@dataclass(frozen=True)
class Run:
    """A training: a network by a recipe ("vgg16_bn/sgd-0.1" names a candidate of tuning).

    `epochs` are the lengths that may be, in epochs of all training images, the first that fits; none: the recipe's.
    """

    stage: str
    network: str
    recipe: str
    seed: int = 0
    epochs: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        optimizer = self.recipe.partition("/")[2]
        if self.stage == "tuning":
            return f"tuning/{optimizer}"
        pair = f"{self.stage}/{self.network}-by-{self.recipe.partition('/')[0]}"
        return {"speed": pair, "full": f"{pair}/{self.seed}"}.get(self.stage) or f"{pair}/{self.epochs[0]:g}"


def plan() -> Iterator[Run]:
    """Yield all runs, the most useful ones first."""
    pairs = ((VGG, "vgg16_bn/sgd-0.1"), (VGG, "ours"), (CNN, "cnn_baseline"), (OURS, "ours"),
             (OURS, "vgg16_bn/sgd-0.1"), (OURS, "cnn_baseline"))  # fmt: skip
    yield from (Run("speed", network, name, epochs=(SPEED_EPOCHS,)) for network, name in pairs)
    yield from (Run("tuning", VGG, f"vgg16_bn/{name}", epochs=(TUNING_EPOCHS,)) for name in VGG_CANDIDATES)
    yield Run("full", CNN, "cnn_baseline")
    yield Run("full", VGG, "vgg16_bn")
    yield Run("full", VGG, "ours", epochs=(80, 40, 20))
    yield Run("full", OURS, "vgg16_bn")
    budgets = [Run("budget", network, name, epochs=(n,)) for n in BUDGETS for network, name in RECIPE_OF.items()]
    yield from (run for run in budgets if run.epochs < (16,))
    yield Run("full", OURS, "cnn_baseline")
    yield from (run for run in budgets if run.epochs >= (16,))
    yield from (Run("full", OURS, "ours", seed) for seed in (3, 4))
    for seed in (1, 2):
        yield Run("full", CNN, "cnn_baseline", seed)
        yield Run("full", VGG, "vgg16_bn", seed)
        yield Run("full", VGG, "ours", seed, epochs=(80, 40, 20))


class Lab:
    """The data, the folder of results and the hardware of all runs."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.output, self.archive_to = arguments.output.resolve(), arguments.archive_to
        self.scale, self.device = arguments.epochs_scale, choose_device(arguments.accelerator)
        self.hardware = {"accelerator": arguments.accelerator, "threads": 0, "precision": "float32"}
        if self.device.type == "cuda":  # Python launches the kernels: more threads only wait
            self.hardware |= {"threads": 1, "precision": "bfloat16"}
        self.lock = filelock.FileLock(self.output / "results.lock")
        self.output.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.output / "dataset.lock"):
            self.dataset = open_or_pack(arguments.archive, self.output / "dataset", arguments.limit)
            self.corrupted_test = {name: self.corrupt(name) for name in CORRUPTIONS}
        self.num_train = len(self.dataset.indices("train"))

    def folder(self, run: Run) -> Path:
        return self.output / "runs" / run.name

    def results(self) -> dict[str, dict[str, Any]]:
        paths = sorted(self.output.glob("runs/**/result.json"), key=lambda path: path.stat().st_mtime)
        return {result["name"]: result for result in map(read_json, paths)}

    def choices(self, run: Run, results: dict[str, dict[str, Any]]) -> list[Settings]:
        """Return the settings of a run, one for each length that it may have; none before VGG16-BN is tuned."""
        name, _, candidate = run.recipe.partition("/")
        values = asdict(settings_of("gpu", {"accelerator": "auto"})) if name == "ours" else RECIPES[name]
        if name == "vgg16_bn":
            candidate = candidate or self.best_candidate(results)
            if not candidate:
                return []
            values = values | VGG_CANDIDATES[candidate]
        values = values | self.hardware | {"network": run.network, "seed": run.seed}
        lengths = [epochs / values["sample_fraction"] for epochs in run.epochs] or [values["epochs"]]
        return [Settings(**values | {"epochs": max(1, round(length * self.scale))}) for length in lengths]

    def best_candidate(self, results: dict[str, dict[str, Any]]) -> str:
        """Return VGG16-BN's candidate of the highest validation accuracy, or "" while one has not been tried."""
        scores = {name: results.get(f"tuning/{name}", {}).get("val_acc") for name in VGG_CANDIDATES}
        return "" if None in scores.values() else max(scores, key=lambda name: scores[name])

    def images(self, settings: Settings) -> int:
        """Return the number of images of a training, repeated ones counted again."""
        return settings.epochs * round(settings.sample_fraction * self.num_train)

    def estimate(self, run: Run, settings: Settings, results: dict[str, dict[str, Any]]) -> float:
        """Return the expected seconds of a run from the throughput of those like it; 0 where there is none.

        Epochs that an interrupted run has behind it are not counted again.
        """
        like = [result for result in results.values() if pair(result) == (run.network, run.recipe.partition("/")[0])]
        if not like:
            return 0.0
        longest = max(like, key=lambda result: result["epochs"])
        rate = longest["images_per_second"] / (slowdown(results) if longest["stage"] == "speed" else 1.0)
        history = self.folder(run) / "history.csv"
        left = max(0, settings.epochs - (len(pd.read_csv(history)) if history.is_file() else 0))
        checkpoint = SECONDS_PER_WEIGHT * longest["network_parameters"]
        return RUN_SECONDS + left * (self.images(settings) / settings.epochs / rate + checkpoint)

    def execute(self, run: Run, settings: Settings) -> None:
        """Train a run, evaluate it, and write its result."""
        start, cuda = time.perf_counter(), self.device.type == "cuda"
        folder = self.folder(run)
        if cuda:
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        network = train(self.dataset, settings, folder, progress=False)
        history, record = pd.read_csv(folder / "history.csv"), read_json(folder / "run.json")
        result = {
            "name": run.name, "stage": run.stage, "network": run.network, "recipe": run.recipe, "seed": run.seed,
            "epochs": settings.epochs, "images": self.images(settings), "train_seconds": record["train_seconds"],
            # The median epoch: the first one captures graphs.
            "images_per_second": self.images(settings) / settings.epochs / max(0.01, history["seconds"].median()),
            "peak_gpu_bytes": torch.cuda.max_memory_allocated() if cuda else None,
            "device": torch.cuda.get_device_name() if cuda else record["processor"],
            **{key: record[key] for key in ("val_acc", "best_epoch", "network_parameters", "macs", "parameters")},
        }  # fmt: skip
        if run.stage in ("full", "budget"):
            result |= self.evaluate(network, folder, corruptions=CORRUPTIONS if run.stage == "full" else ())
        result["wall_seconds"] = time.perf_counter() - start
        write_json(folder / "result.json", result)
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # up to 360 MB
        tested = f", test {100 * result['test']['value']:.2f} %" if "test" in result else ""
        print(f"{run.name}: {result['wall_seconds']:.0f} s, {result['images_per_second']:,.0f} images/s, "
              f"{settings.epochs} epochs, validation {100 * result['val_acc']:.2f} %{tested}")  # fmt: skip

    def evaluate(self, network: Network, folder: Path, corruptions: tuple[str, ...]) -> dict[str, Any]:
        """Write the logits of val and test, and of test under corruptions; return the figures on test."""
        table, _ = predict(network, self.dataset, ("val", "test"), self.hardware["accelerator"], progress=False)
        logits = {"clean": table[LOGITS].to_numpy(np.float32)}
        test = table[table["split"] == "test"].copy()
        figures = {"test": accuracy(test), "test_without_leaks": accuracy(test[~test["leaked"]])}
        figures["test_roc_auc"] = float(roc_auc_score(test["label"] == 0, probability_fake(test)))
        for name in corruptions:
            images = torch.from_numpy(np.load(self.corrupted_test[name])).to(self.device)
            test[LOGITS] = run_network(network, images, progress=False).logits
            logits[name] = test[LOGITS].to_numpy(np.float16)
            figures.setdefault("robustness", {})[name] = accuracy(test)
        with atomic_file(folder / "predictions.npz") as partial, partial.open("wb") as file:
            np.savez_compressed(file, **logits)
        return figures

    def corrupt(self, name: str) -> Path:
        """Return the file of the test images under a corruption, which is computed once for all runs."""
        path = self.output / "corrupted" / f"{name}.npy"
        if not path.is_file():
            images = corrupted(self.dataset.images[self.dataset.indices("test")], ROBUSTNESS[name])
            with atomic_file(path) as partial, partial.open("wb") as file:
                np.save(file, images)
        return path

    def archive(self) -> None:
        """Renew results.jsonl and the archives in `archive_to`, each at once."""
        if not self.archive_to:
            return
        runs = self.output / "runs"
        with self.lock:
            results = self.results()
            with atomic_file(self.archive_to / "results.jsonl") as partial:
                partial.write_text("".join(json.dumps(result) + "\n" for result in results.values()))
            with atomic_file(self.archive_to / "baselines.tar.gz") as partial, tarfile.open(partial, "w:gz") as tar:
                for name in results:
                    for file in ("run.json", "history.csv", "predictions.npz", "result.json"):
                        if (runs / name / file).is_file():
                            tar.add(runs / name / file, f"{name}/{file}")
            with atomic_file(self.archive_to / "weights.tar.gz") as partial, tarfile.open(partial, "w:gz") as tar:
                total = 0
                for name in (name for name, result in results.items() if result["stage"] == "full"):
                    path = runs / name / "weights.safetensors"
                    total += path.stat().st_size if path.stat().st_size < MAX_WEIGHTS else 0
                    if path.stat().st_size < MAX_WEIGHTS and total < MAX_ARCHIVE:
                        tar.add(path, f"{name}/weights.safetensors")


def pair(result: dict[str, Any]) -> tuple[str, str]:
    """Return the network and the recipe of a result; candidates of tuning are of one recipe."""
    return result["network"], result["recipe"].partition("/")[0]


def slowdown(results: dict[str, dict[str, Any]]) -> float:
    """Return by how much longer runs have been slower than the speed runs of the same network and recipe, at most."""
    alone = {pair(result): result["images_per_second"] for result in results.values() if result["stage"] == "speed"}
    longer = [result for result in results.values() if result["epochs"] >= TUNING_EPOCHS]
    others = [result for result in longer if result["stage"] != "speed" and pair(result) in alone]
    return max([1.0, *(alone[pair(result)] / result["images_per_second"] for result in others)])


def accuracy(predictions: pd.DataFrame) -> dict[str, Any]:
    correct = (probability_fake(predictions) <= 0.5) == predictions["label"].to_numpy(bool)
    return proportion(correct.sum(), len(correct))


def open_or_pack(archive: str, folder: Path, limit: int) -> PackedDataset:
    """Open the packed dataset in `folder`, or pack it, of `limit` images of train and of test (0: all)."""
    if (folder / "metadata.json").is_file():
        return open_dataset(folder)
    source = open_source(str(Path(archive).resolve()), folder.parent / "sample")
    start = time.perf_counter()
    pack_dataset(thinned(source, limit) if limit else source, folder, workers=joblib.cpu_count(), progress=False)
    print(f"packed in {time.perf_counter() - start:.0f} s")
    return open_dataset(folder)


def thinned(source: Source, limit: int) -> Source:
    """Return a source of `limit` images of train and of test, as many of each class, drawn at random."""
    rng, records = np.random.default_rng(0), []
    for split in ("train", "test"):
        for label in (0, 1):
            part = [record for record in source.records if (record.split, record.label) == (split, label)]
            records += [part[i] for i in sorted(rng.permutation(len(part))[: limit // 2])]
    return replace(source, records=tuple(records))


def next_run(lab: Lab, runs: list[Run], left: float, announced: set[str]) -> tuple[Run, Settings] | None:
    """Return the first unfinished run that fits into the seconds `left`, with its settings, or None."""
    results = lab.results()
    for run in runs:
        choices = lab.choices(run, results)
        if run.name in results and any(results[run.name]["parameters"] == asdict(choice) for choice in choices):
            continue
        estimates = [lab.estimate(run, choice, results) for choice in choices]
        for choice, seconds in zip(choices, estimates, strict=True):
            if seconds <= left:
                return run, choice
        if run.name not in announced:
            announced.add(run.name)
            reason = f"needs {min(estimates):.0f} s, {left:.0f} s are left" if choices else "VGG16-BN is not tuned yet"
            print(f"{run.name}: {reason}")
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", help="a folder or a zip in the layout of CIFAKE")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--archive-to", type=Path, help="a folder for results.jsonl and the archives")
    parser.add_argument("--keep", type=Path, help="a folder for what is kept of the runs")
    parser.add_argument("--deadline", type=float, default=float("inf"), metavar="SECONDS", help="from now on")
    parser.add_argument("--limit", type=int, default=0, metavar="N", help="images of train and of test (0: all)")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="names of runs")
    parser.add_argument("--skip", action="append", default=[], metavar="NAME", help="a run to leave out")
    parser.add_argument("--accelerator", default="auto", choices=["auto", "cpu", "gpu"])
    parser.add_argument("--epochs-scale", type=float, default=1.0, metavar="FACTOR", help="of all epochs, for a trial")
    parser.add_argument("--list", action="store_true", help="print the names of the runs, and train nothing")
    arguments = parser.parse_args()
    runs = [run for run in plan() if any(fnmatch(run.name, pattern) for pattern in arguments.only)]
    runs = [run for run in runs if run.name not in arguments.skip]
    if arguments.list:
        print(*(run.name for run in runs), sep="\n")
        return

    end = time.monotonic() + arguments.deadline
    lab = Lab(arguments)
    lab.archive()
    announced: set[str] = set()
    while found := next_run(lab, runs, end - time.monotonic(), announced):
        run, settings = found
        runs.remove(run)
        try:
            lab.execute(run, settings)
        except Exception:
            error = traceback.format_exc()
            print(f"{run.name} FAILED\n{error}", flush=True)
            lab.folder(run).mkdir(parents=True, exist_ok=True)
            (lab.folder(run) / "error.txt").write_text(error)
            # In a new process: an error on a GPU can spoil all later work of this one.
            again = ["--skip", run.name, "--deadline", str(end - time.monotonic())]
            sys.exit(subprocess.call([sys.executable, *sys.argv, *again]))
        remove_file(lab.folder(run) / "error.txt")
        lab.archive()
    if arguments.keep:
        keep_runs(lab.output / "runs", arguments.keep)


if __name__ == "__main__":
    main()
