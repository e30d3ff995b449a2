"""Robustness evaluation: a network on the same images under many corruptions, resumable after a kill."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from tqdm import tqdm

from lib import CLASSES
from lib.core.files import atomic_file
from lib.core.provenance import lib_hash
from lib.core.rows import ImageRows, equal_pixels
from lib.core.run_dir import prepare_run_dir
from lib.data.dataset import PackedDataset, sample_size
from lib.evaluation.bootstrap import bootstrap
from lib.evaluation.corruptions import FREQUENCY_ABLATION, ROBUSTNESS, Corruption
from lib.evaluation.metrics import percent, proportion
from lib.evaluation.predictions import LOGITS, predicted_labels, probability_fake, run_network
from lib.inference.drift import image_statistics
from lib.models.device import choose_device
from lib.models.networks import Network

ALL_CORRUPTIONS: dict[str, Corruption] = {**ROBUSTNESS, **FREQUENCY_ABLATION}
DRIFT_IMAGES = 2000  # test images of each corruption whose features are kept for drift detection
_RESAMPLES = 200
_CHUNK = 1000  # images that are corrupted at a time
_PART = 100_000  # images of 32×32 that are in memory at a time, all that a corruption has on CIFAKE


def evaluate_robustness(
    network: Network,
    dataset: PackedDataset,
    weights: Path,
    folder: Path,
    max_samples: int = 0,
    accelerator: str = "auto",
    corruptions: dict[str, Corruption] = ALL_CORRUPTIONS,
) -> dict[str, dict[str, Any]]:
    """Evaluate the network under each corruption; return the metrics of each by its name.

    `max_samples` images of each of val and test are used, a fixed random choice (0, or more than there are: all). The
    outputs under each corruption stay in `folder`, so that a killed evaluation resumes; those of other weights, data or
    code are removed.
    The metrics of a corruption are accuracy and recall of each class of the test images at the threshold of 0.5, their
    ROC AUC, and `retuned`: accuracy and recall at the threshold that is best on the validation images under the same
    corruption. What retuning wins back was a shifted threshold; the rest is lost discrimination.
    """
    device = choose_device(accelerator)
    indices = np.concatenate([_choice(dataset, split, max_samples) for split in ("val", "test")])
    table = dataset.records.iloc[indices].reset_index(drop=True)
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    prepare_run_dir(
        folder,
        {
            **dataset.fingerprint(),
            "weights": digest,
            "lib_hash": lib_hash(module="evaluation.robustness"),
            "max_samples": max_samples,
        },
    )
    # At random: the first ones are of one class alone, a drift of its own.
    kept = np.random.default_rng(0).permutation(np.flatnonzero(table["split"] == "test"))[:DRIFT_IMAGES]
    metrics = {}
    for name, corruption in tqdm(corruptions.items(), "robustness", unit=" corruptions"):
        path = _path(folder, name)
        if not path.is_file():
            logits, features, statistics = _outputs(
                network, ImageRows(dataset.images, indices), kept, corruption, device
            )
            with atomic_file(path) as partial, partial.open("wb") as file:
                np.savez(file, logits=logits, features=features, statistics=statistics,
                         predicted=predicted_labels(pd.DataFrame(logits[kept], columns=LOGITS)))  # fmt: skip
        with np.load(path) as saved:
            table[LOGITS] = saved["logits"]
        metrics[name] = {"group": corruption.group, "severity": corruption.severity, **_metrics(table)}
    return metrics


def _outputs(
    network: Network, images: ImageRows, kept: np.ndarray, corruption: Corruption, device: torch.device
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the logits of all corrupted images, and the features and image statistics of the `kept` ones, in order."""
    logits: list[np.ndarray] = []
    features: dict[int, np.ndarray] = {}
    statistics: dict[int, np.ndarray] = {}
    step = equal_pixels(_PART, images.size)
    for seed, start in enumerate(range(0, len(images), step)):
        part = corrupted(images[start : start + step], corruption, seed)
        outputs = run_network(network, torch.from_numpy(part).to(device), progress=False)
        logits.append(outputs.logits)
        own = kept[(kept >= start) & (kept < start + step)]
        features |= dict(zip(own, outputs.features[own - start], strict=True))
        statistics |= dict(zip(own, image_statistics(part[own - start]), strict=True))
    return np.concatenate(logits), *(np.stack([values[index] for index in kept]) for values in (features, statistics))


def load_corruption(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Return `features`, image `statistics` and `predicted` classes of test images under a corruption.

    The evaluation in `folder` must be finished.
    """
    with np.load(_path(folder, name)) as saved:
        return {key: saved[key] for key in ("features", "statistics", "predicted")}


def corrupted(images: np.ndarray, corruption: Corruption, seed: int = 0) -> np.ndarray:
    """Return corrupted images (uint8 N×S×S×3), the same on every machine and in every process."""
    parts = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for start in range(0, len(images), _CHUNK):
            chunk = torch.from_numpy(images[start : start + _CHUNK]).permute(0, 3, 1, 2)
            parts.append(corruption.apply(chunk).permute(0, 2, 3, 1).numpy())
    return np.ascontiguousarray(np.concatenate(parts))


def robustness_table(metrics: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Return the metrics of a robustness evaluation, formatted with intervals: a row a corruption."""

    def row(entry: dict[str, Any]) -> dict[str, str]:
        return {
            "accuracy": percent(entry["accuracy"]),
            **{f"{name} recall": percent(recall) for name, recall in entry["recall"].items()},
            "ROC AUC (%)": percent(entry["roc_auc"]),
            "accuracy, retuned threshold": percent(entry["retuned"]["accuracy"]),
        }

    return pd.DataFrame.from_dict({name: row(entry) for name, entry in metrics.items()}, orient="index")


def describe_worst(metrics: dict[str, dict[str, Any]]) -> str:
    """Return a sentence on the corruption with the lowest accuracy; `metrics` also holds the `clean` images."""
    name, entry = min(metrics.items(), key=lambda item: item[1]["accuracy"]["value"])
    return (
        f"Of {len(metrics) - 1} corruptions {name} is the worst: accuracy {percent(entry['accuracy'])}, "
        f"{percent(entry['retuned']['accuracy'])} with a retuned threshold."
    )


def _choice(dataset: PackedDataset, split: str, max_samples: int) -> np.ndarray:
    """Draw images at random, at least one of each class."""
    shuffled = np.random.default_rng(0).permutation(dataset.indices(split))
    chosen = shuffled[: sample_size("max_robustness_samples", max_samples, len(shuffled))]
    _, first = np.unique(dataset.records["label"].to_numpy()[shuffled], return_index=True)
    return np.union1d(chosen, shuffled[first])


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name.replace(' ', '_').replace(',', '')}.npz"


def _metrics(table: pd.DataFrame) -> dict[str, Any]:
    val, test = (table[table["split"] == split] for split in ("val", "test"))
    label, p_fake = test["label"].to_numpy(), probability_fake(test)
    low, high = bootstrap(label, p_fake, _RESAMPLES)["roc_auc"]
    auc = float(roc_auc_score(label == 0, p_fake))
    threshold = _best_threshold(val)
    return {
        **_accuracy_and_recall(label, p_fake > 0.5),
        "roc_auc": {"value": auc, "ci_low": low, "ci_high": high, "n": len(test), "method": "bootstrap"},
        "retuned": {"threshold": threshold, **_accuracy_and_recall(label, p_fake >= threshold)},
    }


def _accuracy_and_recall(label: np.ndarray, predicted_fake: np.ndarray) -> dict[str, Any]:
    correct = predicted_fake == (label == 0)
    return {
        "accuracy": proportion(correct.sum(), len(label)),
        "recall": {name: proportion(correct[label == i].sum(), (label == i).sum()) for i, name in enumerate(CLASSES)},
    }


def _best_threshold(val: pd.DataFrame) -> float:
    """Return the threshold of P(FAKE) with the highest balanced accuracy."""
    fpr, tpr, thresholds = roc_curve(val["label"] == 0, probability_fake(val))
    return float(min(thresholds[np.argmax(tpr - fpr)], 1.0))
