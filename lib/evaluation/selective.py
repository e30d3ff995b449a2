"""Selective classification: abstain (UNSURE) below a confidence that bounds the risk; conformal prediction sets."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lib import CLASSES
from lib.evaluation.calibration import confidence
from lib.evaluation.metrics import proportion
from lib.evaluation.predictions import is_correct, probability_fake

_MIN_COVERAGE, _STEPS = 0.5, 500  # the coverages that are tested: from a half of the images up to all


def risk_coverage(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return coverage (share of images classified, the most confident first) and risk (error among them), float64 N."""
    order = np.argsort(-confidence(predictions), kind="stable")
    classified = np.arange(1, len(order) + 1)
    return classified / len(order), np.cumsum(~is_correct(predictions)[order]) / classified


def selective_threshold(predictions: pd.DataFrame, target_risk: float, delta: float = 0.05) -> float | None:
    """Return the confidence below which to abstain (UNSURE), or None where no threshold gives the guarantee.

    The guarantee: among the classified images at most the share `target_risk` is wrong, which fails for at most the
    share `delta` of all validation sets that one could have drawn. Thresholds are tested from the strictest to the
    loosest, each by an exact binomial test, up to the first that fails: fixed-sequence testing, so no correction for
    their number is due (Angelopoulos et al. 2021, arXiv 2110.01052, section 4.2.2).
    """
    ordered = np.sort(confidence(predictions))[::-1]
    confidences, wrong = confidence(predictions), ~is_correct(predictions)
    passed = None
    for coverage in np.linspace(_MIN_COVERAGE, 1, _STEPS):
        threshold = ordered[max(0, round(coverage * len(ordered)) - 1)]
        classified = confidences >= threshold
        errors, n = int(wrong[classified].sum()), int(classified.sum())
        if stats.binomtest(errors, n, target_risk, "less").pvalue > delta:
            break
        passed = float(threshold)
    return passed


def evaluate_selective(predictions: pd.DataFrame, threshold: float) -> dict[str, Any]:
    """Return coverage, risk, the risk of the abstained images, and coverage by class at this confidence threshold."""
    classified, label = confidence(predictions) >= threshold, predictions["label"].to_numpy()
    wrong = ~is_correct(predictions)
    return {
        "coverage": proportion(classified.sum(), len(classified)),
        "risk": proportion((wrong & classified).sum(), classified.sum()),
        "risk_of_abstained": proportion((wrong & ~classified).sum(), (~classified).sum()),
        "coverage_by_class": {name: proportion((classified & (label == i)).sum(), (label == i).sum())
                              for i, name in enumerate(CLASSES)},
    }  # fmt: skip


def evaluate_guarantees(val: pd.DataFrame, test: pd.DataFrame, target_risk: float) -> dict[str, dict[str, Any]]:
    """Return `selective` and `conformal`, fitted on calibrated predictions `val` for `target_risk`, and their `test`.

    Where no threshold gives the guarantee, `selective_threshold` is None and every prediction is UNSURE.
    """
    threshold, quantiles = selective_threshold(val, target_risk), conformal_quantiles(val, target_risk)
    predict_from = np.inf if threshold is None else threshold
    selective = {name: evaluate_selective(part, predict_from) for name, part in (("val", val), ("test", test))}
    return {
        "selective": {"target_risk": target_risk, "selective_threshold": threshold, **selective},
        "conformal": {"alpha": target_risk, "quantiles": quantiles, "test": evaluate_conformal(test, quantiles)},
    }


def conformal_quantiles(predictions: pd.DataFrame, alpha: float) -> dict[str, float]:
    """Return for each class the largest nonconformity score with which it belongs to an image's prediction set.

    Class-conditional split conformal prediction (Vovk 2012; Angelopoulos & Bates 2021, arXiv 2107.07511): of new images
    of a class, the set lacks it for at most the share `alpha`. The score is 1 − probability of the class.
    """
    p_fake, label = probability_fake(predictions), predictions["label"].to_numpy()
    quantiles = {}
    for index, (name, p_class) in enumerate(zip(CLASSES, (p_fake, 1 - p_fake), strict=True)):
        scores = np.sort(1 - p_class[label == index])
        rank = int(np.ceil((len(scores) + 1) * (1 - alpha)))
        quantiles[name] = float(scores[rank - 1]) if rank <= len(scores) else 1.0
    return quantiles


def evaluate_conformal(predictions: pd.DataFrame, quantiles: dict[str, float]) -> dict[str, Any]:
    """Return the coverage of each class, and the shares of prediction sets that hold one class, both, or none."""
    p_fake, label = probability_fake(predictions), predictions["label"].to_numpy()
    inside = {name: 1 - p <= quantiles[name] for name, p in zip(CLASSES, (p_fake, 1 - p_fake), strict=True)}
    size, n = sum(included.astype(int) for included in inside.values()), len(label)
    return {
        "coverage": {name: proportion((inside[name] & (label == i)).sum(), (label == i).sum())
                     for i, name in enumerate(CLASSES)},
        "singleton": proportion((size == 1).sum(), n),
        "both_classes": proportion((size == 2).sum(), n),
        "empty": proportion((size == 0).sum(), n),
    }  # fmt: skip
