"""Figures with their intervals, computed from predictions."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn.metrics import roc_auc_score
from torchmetrics.functional.classification import binary_calibration_error

from lib import CLASSES
from lib.predictions import probability_fake

CALIBRATION_BINS = 15


def proportion(hits: int, n: int) -> dict[str, float]:
    """Return a proportion with its 95 % Wilson score interval (Wilson 1927): value, low, high, n."""
    interval = stats.binomtest(int(hits), int(n)).proportion_ci(0.95, method="wilson")
    return {"value": hits / n, "low": interval.low, "high": interval.high, "n": int(n)}


def area_under_roc(label: np.ndarray, p_fake: np.ndarray, resamples: int = 1000) -> dict[str, float]:
    """Return the area under the ROC curve of FAKE with its 95 % percentile bootstrap interval.

    A resample keeps the number of images of each class. The area is the share of pairs in order (Mann–Whitney).
    """
    fake, real = p_fake[label == 0], p_fake[label == 1]
    levels, ranks = np.unique(p_fake, return_inverse=True)
    rank_fake, rank_real = ranks[label == 0], ranks[label == 1]
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(resamples):
        count_fake = np.bincount(rng.choice(rank_fake, len(fake)), minlength=len(levels))
        count_real = np.bincount(rng.choice(rank_real, len(real)), minlength=len(levels))
        below = np.cumsum(count_real) - count_real / 2  # a tie counts half
        areas.append((count_fake * below).sum() / (len(fake) * len(real)))
    low, high = np.quantile(areas, [0.025, 0.975])
    return {"value": float(roc_auc_score(label == 0, p_fake)), "low": low, "high": high, "n": len(label)}


def calibration_error(label: np.ndarray, p_fake: np.ndarray) -> float:
    """Return the expected calibration error of the probability of FAKE, over 15 equal bins, in [0, 1]."""
    preds, target = torch.from_numpy(p_fake), torch.from_numpy((label == 0).astype(np.int64))
    return float(binary_calibration_error(preds, target, n_bins=CALIBRATION_BINS))


def evaluate(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return accuracy, recall of each class, area under ROC and calibration error of one set of images."""
    label, p_fake = predictions["label"].to_numpy(), probability_fake(predictions)
    right = is_right(predictions)
    return {
        "accuracy": proportion(right.sum(), len(right)),
        "recall": {name: proportion(right[label == i].sum(), (label == i).sum()) for i, name in enumerate(CLASSES)},
        "roc_auc": area_under_roc(label, p_fake),
        "calibration_error": {"value": calibration_error(label, p_fake), "bins": CALIBRATION_BINS, "n": len(label)},
    }


def evaluate_test(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the figures on all test images, on those not in train, and the accuracy by object class."""
    test = predictions[predictions["split"] == "test"]
    by_object = test.assign(right=is_right(test)).groupby("object_class")["right"]
    return {
        "test": evaluate(test),
        "test_not_in_train": evaluate(test[~test["in_train"]]),
        "accuracy_by_object_class": {name: proportion(right.sum(), len(right)) for name, right in by_object},
    }


def is_right(predictions: pd.DataFrame) -> np.ndarray:
    """Tell for each image whether the likelier class is its label (bool N)."""
    return (probability_fake(predictions) <= 0.5) == predictions["label"].to_numpy(bool)


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """Compare two networks on the same images by the exact McNemar test (McNemar 1947).

    `ours` and `theirs` tell which images each has right (bool N). Returns the counts of images that only one
    has right, the difference of accuracy with its 95 % Wald interval for paired proportions, and the p-value.
    """
    only_ours, only_theirs, n = int((ours & ~theirs).sum()), int((theirs & ~ours).sum()), len(ours)
    split = only_ours + only_theirs
    difference = (only_ours - only_theirs) / n
    margin = stats.norm.ppf(0.975) * np.sqrt(split - (only_ours - only_theirs) ** 2 / n) / n
    return {
        "only_ours": only_ours,
        "only_theirs": only_theirs,
        "difference": difference,
        "low": difference - margin,
        "high": difference + margin,
        "p_value": stats.binomtest(only_ours, split).pvalue if split else 1.0,
        "n": n,
    }


def percent(figure: dict[str, float], digits: int = 2) -> str:
    """Write a proportion for people: "97.12 % [96.87, 97.34]"."""
    value, low, high = (f"{100 * figure[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} % [{low}, {high}]"
