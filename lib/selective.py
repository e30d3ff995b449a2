"""Say UNSURE rather than guess: which verdicts to withhold so that the others err no more than stated."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lib import CLASSES
from lib.calibration import confidence
from lib.metrics import proportion
from lib.predictions import is_right, probability_fake

_FIRST, _STEPS = 0.5, 500  # of the coverages that are tried: from a half of the images up to all


def risk_coverage(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return coverage (share of images answered, the surest first) and the share of errors among them, float64 N."""
    order = np.argsort(-confidence(predictions), kind="stable")
    answered = np.arange(1, len(order) + 1)
    return answered / len(order), np.cumsum(~is_right(predictions)[order]) / answered


def unsure_below(predictions: pd.DataFrame, error: float, doubt: float = 0.05) -> float | None:
    """Return the confidence below which to answer UNSURE, or None where no threshold keeps the promise.

    The promise: among the images answered at most the share `error` is wrong, and that fails for at most the share
    `doubt` of all validation sets that one could have had. Thresholds are tested from the strictest to the loosest,
    each by an exact binomial test, up to the first that fails: fixed-sequence testing, so no correction for
    their number is due (Angelopoulos et al. 2021, arXiv 2110.01052, section 4.2.2).
    """
    ordered = np.sort(confidence(predictions))[::-1]
    sure, wrong = confidence(predictions), ~is_right(predictions)
    kept = None
    for coverage in np.linspace(_FIRST, 1, _STEPS):
        threshold = ordered[max(0, round(coverage * len(ordered)) - 1)]
        answered = sure >= threshold
        if stats.binomtest(int(wrong[answered].sum()), int(answered.sum()), error, "less").pvalue > doubt:
            break
        kept = float(threshold)
    return kept


def evaluate_unsure(predictions: pd.DataFrame, threshold: float) -> dict[str, Any]:
    """Return the share of images answered at this confidence, the error among them, and each class's share answered."""
    answered, label = confidence(predictions) >= threshold, predictions["label"].to_numpy()
    wrong = ~is_right(predictions)
    return {
        "coverage": proportion(answered.sum(), len(answered)),
        "error": proportion((wrong & answered).sum(), answered.sum()),
        "error_of_unsure": proportion((wrong & ~answered).sum(), (~answered).sum()),
        "coverage_of": {name: proportion((answered & (label == i)).sum(), (label == i).sum())
                        for i, name in enumerate(CLASSES)},
    }  # fmt: skip


def conformal_quantiles(predictions: pd.DataFrame, miss: float) -> dict[str, float]:
    """Return for each class how improbable it may be called and still stay in an image's set of possible classes.

    Split conformal prediction within each class (Vovk 2012; Angelopoulos & Bates 2021, arXiv 2107.07511): of new
    images of a class, the set lacks it for at most the share `miss`. The score is 1 − probability of the class.
    """
    p_fake, label = probability_fake(predictions), predictions["label"].to_numpy()
    quantiles = {}
    for index, (name, p_class) in enumerate(zip(CLASSES, (p_fake, 1 - p_fake), strict=True)):
        scores = np.sort(1 - p_class[label == index])
        rank = int(np.ceil((len(scores) + 1) * (1 - miss)))
        quantiles[name] = float(scores[rank - 1]) if rank <= len(scores) else 1.0
    return quantiles


def evaluate_conformal(predictions: pd.DataFrame, quantiles: dict[str, float]) -> dict[str, Any]:
    """Return how often each class is in its images' sets, and how often a set is one class, both, or empty."""
    p_fake, label = probability_fake(predictions), predictions["label"].to_numpy()
    inside = {name: 1 - p <= quantiles[name] for name, p in zip(CLASSES, (p_fake, 1 - p_fake), strict=True)}
    size, n = sum(held.astype(int) for held in inside.values()), len(label)
    return {
        "coverage": {name: proportion((inside[name] & (label == i)).sum(), (label == i).sum())
                     for i, name in enumerate(CLASSES)},
        "one_class": proportion((size == 1).sum(), n),
        "both_classes": proportion((size == 2).sum(), n),
        "no_class": proportion((size == 0).sum(), n),
    }  # fmt: skip
