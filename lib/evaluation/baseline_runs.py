"""Kept runs of our network and the baselines on one GPU: predictions, histories, and accuracy at several budgets.

`benchmarks/baselines.py --keep` writes them to outputs/reference/baselines: a folder NETWORK-by-RECIPE for each whole
recipe, and runs.json, the results of all other runs by name.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lib.core.errors import InputError
from lib.core.files import ROOT, atomic_dir, atomic_file, read_json, write_json
from lib.data.dataset import PackedDataset
from lib.evaluation.predictions import IMAGE_COLUMNS, LOGITS

FOLDER = ROOT / "outputs" / "reference" / "baselines"
CORRUPTIONS = ("noise 0.1", "JPEG 40", "blur 0.6", "blur 1")  # those of lib.evaluation.published
OURS, VGG, CNN = "texture_net_x2", "vgg16_bn", "plain_64_128"
NAMES = {
    f"{VGG}-by-vgg16_bn": "VGG16-BN",
    f"{CNN}-by-cnn_baseline": "CNN baseline (student project)",
    f"{OURS}-by-vgg16_bn": f"{OURS}, by VGG16-BN's recipe",
    f"{OURS}-by-cnn_baseline": f"{OURS}, by the CNN baseline's recipe",
    f"{VGG}-by-ours": "VGG16-BN, by our recipe, untuned",
}
_BUDGETS = {
    "ours": f"{OURS}-by-ours",
    NAMES[f"{VGG}-by-vgg16_bn"]: f"{VGG}-by-vgg16_bn",
    NAMES[f"{CNN}-by-cnn_baseline"]: f"{CNN}-by-cnn_baseline",
}
# Parameters that cost a step next to nothing.
_SAME_SPEED = ("epochs", "seed", "accelerator", "threads", "optimizer", "lr", "weight_decay")


@dataclass(frozen=True)
class BaselineRun:
    """A kept run: its run.json, history.csv, result.json, and its predictions for val and test.

    The table of predictions has IMAGE_COLUMNS and LOGITS. Only the difference of the two logits was kept, on which all
    metrics depend: that of REAL is 0.
    """

    run: dict[str, Any]
    history: pd.DataFrame
    result: dict[str, Any]
    predictions: pd.DataFrame


def keep_runs(runs: Path, folder: Path) -> None:
    """Write to `folder` what is kept of the `runs` of benchmarks/baselines.py, and replace what it held.

    Seed 0 of each whole recipe is kept; all other runs leave their results alone. Logits are kept as the difference
    FAKE − REAL in float16, which preserves each sign and is half the size.
    """
    results = {path.parent: read_json(path) for path in sorted(runs.glob("**/result.json"))}
    with atomic_dir(folder) as partial:
        for name in NAMES:
            source, target = runs / "full" / name / "0", partial / name
            target.mkdir()
            write_json(target / "result.json", results.pop(source))
            for file in ("run.json", "history.csv"):
                shutil.copy(source / file, target)
            with np.load(source / "predictions.npz") as saved:
                margin = (saved["clean"][:, 0] - saved["clean"][:, 1]).astype(np.float16)
            with atomic_file(target / "predictions.npz") as file, file.open("wb") as opened:
                np.savez_compressed(opened, margin=margin)
        write_json(partial / "runs.json", {result["name"]: result for result in results.values()})


def load_runs(dataset: PackedDataset, folder: Path = FOLDER) -> dict[str, BaselineRun]:
    """Return the kept runs by name. Raises InputError unless `dataset` is what they were trained on, split alike."""
    runs = {}
    for name, label in NAMES.items():
        run = read_json(folder / name / "run.json")
        if any(run["data"][key] != value for key, value in dataset.fingerprint().items()):
            raise InputError(
                f"baselines is 'reference', but the kept runs in {folder} are of all of CIFAKE with val_fraction "
                f"{run['data']['val_fraction']} and split_seed {run['data']['split_seed']}, not of this "
                f"{dataset.metadata['data']}: set baselines to 'train'"
            )
        predictions = dataset.records.iloc[np.concatenate([dataset.indices(split) for split in ("val", "test")])]
        predictions = predictions[IMAGE_COLUMNS].reset_index(drop=True)
        with np.load(folder / name / "predictions.npz") as saved:
            predictions[LOGITS[0]] = saved["margin"].astype(np.float64)
        predictions[LOGITS[1]] = 0.0
        history = pd.read_csv(folder / name / "history.csv")
        runs[label] = BaselineRun(run, history, read_json(folder / name / "result.json"), predictions)
    return runs


def training_cost(run: dict[str, Any], num_train_images: int, folder: Path | None = None) -> dict[str, Any]:
    """Return the `machine` of a training, its `images`, repeated ones counted again, `seconds` and `images_per_second`.

    `num_train_images` is the number of training images; a run with a `max_train_samples` of 0, or larger, uses all.
    With the `folder` of the kept runs, seconds are images ÷ the throughput of the same steps on the same machine with
    nothing beside them, where that was measured (`alone`).
    """
    parameters = run["parameters"]
    trained_on = min(parameters["max_train_samples"] or num_train_images, num_train_images)
    images = parameters["epochs"] * round(parameters["sample_fraction"] * trained_on)
    machine = run["gpu"] if run["device"] == "cuda" else f"{run['processor']}, {run['threads']} threads"
    seconds, rate = run["train_seconds"], _rate_alone(run, folder) if folder else None
    seconds = images / rate if rate else seconds
    return {"machine": machine, "images": images, "seconds": seconds, "images_per_second": images / seconds,
            "alone": rate is not None}  # fmt: skip


def budget_curves(folder: Path = FOLDER) -> dict[str, list[dict[str, Any]]]:
    """Return for each network, by its own recipe, its runs from the shortest to the longest, all on one machine.

    Each has `epochs` (of all training images), `seconds` of training (images ÷ throughput where nothing ran beside),
    `accuracy` (an Estimate on all test images) and `whole`, whether it is the whole recipe and not a budget. That of
    ours is the release beside `folder`, left out where it was trained on another machine.
    """
    results = read_json(folder / "runs.json")
    curves = {}
    for name, pair in _BUDGETS.items():
        speed = results[f"speed/{pair}"]
        points = [(result, False) for key, result in results.items() if key.startswith(f"budget/{pair}/")]
        points += [(whole, True) for whole in [_whole(pair, speed, folder)] if whole]
        num_train_images = speed["images"] / speed["epochs"] / speed["parameters"]["sample_fraction"]
        curves[name] = [
            {
                "epochs": result["images"] / num_train_images,
                "seconds": result["images"] / speed["images_per_second"],
                "accuracy": result["test"],
                "whole": whole,
            }
            for result, whole in sorted(points, key=lambda point: point[0]["images"])
        ]
    return curves


def _whole(pair: str, speed: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """Return `images` and `test` of the run by the whole recipe."""
    if pair in NAMES:
        return read_json(folder / pair / "result.json")
    run = read_json(folder.parent / "run.json")
    if run["gpu"] != speed["device"]:
        return None
    per_epoch = speed["images"] / speed["epochs"]
    images = round(run["parameters"]["epochs"] * per_epoch)
    return {"images": images, "test": read_json(folder.parent / "metrics.json")["test"]["accuracy"]}


def _rate_alone(run: dict[str, Any], folder: Path) -> float | None:
    """Return the throughput, in images/s, measured alone on the run's GPU for such steps of its network, or None."""
    for key, result in read_json(folder / "runs.json").items():
        same = all(
            result["parameters"][name] == value for name, value in run["parameters"].items() if name not in _SAME_SPEED
        )
        if key.startswith("speed/") and result["device"] == run["gpu"] and same:
            return result["images_per_second"]
    return None
