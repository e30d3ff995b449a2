"""The battery: a network judged on the same images under many conditions, with finished ones kept across a kill."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from tqdm import tqdm

from lib import CLASSES
from lib.bootstrap import bootstrap
from lib.conditions import EVIDENCE, ROBUSTNESS, Condition
from lib.device import choose_device
from lib.drift import image_statistics
from lib.errors import InputError
from lib.files import whole_file
from lib.metrics import percent, proportion
from lib.networks import Network
from lib.pack import Pack
from lib.predictions import LOGITS, probability_fake, run_network
from lib.provenance import lib_hash
from lib.resume import claim

CONDITIONS: dict[str, Condition] = {**ROBUSTNESS, **EVIDENCE}
DRIFT_IMAGES = 2000  # of each condition, whose features are kept for the study of drift
_RESAMPLES = 200
_CHUNK = 1000


def run_battery(
    network: Network,
    pack: Pack,
    weights: Path,
    folder: Path,
    limit: int = 0,
    accelerator: str = "auto",
    conditions: dict[str, Condition] = CONDITIONS,
) -> dict[str, dict[str, Any]]:
    """Judge the network under each condition; return the figures of each by its name.

    `limit` images of each of val and test are taken, a fixed random choice (0: all). What each condition gave stays in
    `folder`, so that a killed battery goes on; what other weights, data or code left there is removed.
    A condition's figures are accuracy, recall of each class and area under ROC of the test images at the threshold of
    0.5, and `refitted`: the same at the threshold that is best on the validation images under this very condition,
    which tells a lost threshold from lost evidence. Raises InputError when `limit` is more than there are.
    """
    device = choose_device(accelerator)
    rows = np.concatenate([_some(pack, split, limit) for split in ("val", "test")])
    table = pack.index.iloc[rows].reset_index(drop=True)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    claim(folder, {**pack.identity(), "weights": digest, "lib_hash": lib_hash(module="battery"), "limit": limit})
    # At random: the first ones are of one class alone, a drift of its own.
    kept = np.random.default_rng(0).permutation(np.flatnonzero(table["split"] == "test"))[:DRIFT_IMAGES]
    figures = {}
    for name, condition in tqdm(conditions.items(), "battery", unit=" conditions"):
        path = _path(folder, name)
        if not path.is_file():
            images = harmed(pack.images[rows], condition)
            outputs = run_network(network, torch.from_numpy(images).to(device), progress=False)
            with whole_file(path) as partial, partial.open("wb") as file:
                np.savez(file, logits=outputs.logits, features=outputs.features[kept],
                         statistics=image_statistics(images[kept]))  # fmt: skip
        with np.load(path) as saved:
            table[LOGITS] = saved["logits"]
        figures[name] = {"group": condition.group, "level": condition.level, **_figures(table)}
    return figures


def load_condition(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Return the `features` and image `statistics` of some test images under a condition of a finished battery."""
    with np.load(_path(folder, name)) as saved:
        return {key: saved[key] for key in ("features", "statistics")}


def harmed(images: np.ndarray, condition: Condition) -> np.ndarray:
    """Return images (uint8 N×32×32×3) under a condition, the same on every machine whatever ran before."""
    parts = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for start in range(0, len(images), _CHUNK):
            chunk = torch.from_numpy(images[start : start + _CHUNK]).permute(0, 3, 1, 2)
            parts.append(condition.apply(chunk).permute(0, 2, 3, 1).numpy())
    return np.ascontiguousarray(np.concatenate(parts))


def battery_table(figures: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return the figures of a battery for people: a row a condition, with intervals."""

    def row(entry: dict[str, Any]) -> dict[str, str]:
        return {
            "accuracy": percent(entry["accuracy"]),
            **{f"{name} recall": percent(recall) for name, recall in entry["recall"].items()},
            "area under ROC (%)": percent(entry["roc_auc"]),
            "accuracy, threshold refitted": percent(entry["refitted"]["accuracy"]),
        }

    return pd.DataFrame.from_dict({name: row(entry) for name, entry in figures.items()}, orient="index")


def _some(pack: Pack, split: str, limit: int) -> np.ndarray:
    rows = pack.rows(split)
    if limit > len(rows):
        raise InputError(f"battery_images is {limit}, but the pack has {len(rows)} {split} images: lower it")
    return np.sort(np.random.default_rng(0).permutation(rows)[: limit or None])


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(' ', '_').replace(',', '')}.npz"


def _figures(table: pd.DataFrame) -> dict[str, Any]:
    val, test = (table[table["split"] == split] for split in ("val", "test"))
    label, p_fake = test["label"].to_numpy(), probability_fake(test)
    low, high = bootstrap(label, p_fake, _RESAMPLES)["roc_auc"]
    area = float(roc_auc_score(label == 0, p_fake))
    threshold = _best_threshold(val)
    return {
        **_at(label, p_fake > 0.5),
        "roc_auc": {"value": area, "low": low, "high": high, "n": len(test), "method": "bootstrap"},
        "refitted": {"threshold": threshold, **_at(label, p_fake >= threshold)},
    }


def _at(label: np.ndarray, called_fake: np.ndarray) -> dict[str, Any]:
    right = called_fake == (label == 0)
    return {
        "accuracy": proportion(right.sum(), len(label)),
        "recall": {name: proportion(right[label == i].sum(), (label == i).sum()) for i, name in enumerate(CLASSES)},
    }


def _best_threshold(val: pd.DataFrame) -> float:
    """Return the probability from which on FAKE is called so that the mean of both recalls is highest."""
    fpr, tpr, thresholds = roc_curve(val["label"] == 0, probability_fake(val))
    return float(min(thresholds[np.argmax(tpr - fpr)], 1.0))
