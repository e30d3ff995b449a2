"""Metrics with their confidence intervals, computed from predictions. FAKE is the positive class."""

import json
from pathlib import Path
from typing import Any

import fastjsonschema
import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn import metrics as sk
from torchmetrics.functional.classification import binary_calibration_error

from lib import CLASSES
from lib.core.errors import InputError
from lib.data.dataset import BALANCED
from lib.evaluation.bootstrap import CALIBRATION_BINS, bootstrap
from lib.evaluation.predictions import LOGITS, TTA_LOGITS, is_correct, probability_fake

SCHEMA = Path(__file__).with_name("metrics.schema.json")
SCHEMA_VERSION = 2  # of metrics.json, its first key

THRESHOLDS = (0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)

Estimate = dict[str, Any]  # value, ci_low, ci_high, n, method


def proportion(hits: int, n: int) -> Estimate:
    """Return `hits` / `n` as an Estimate with its 95 % Wilson score interval (Wilson 1927); value None for n = 0."""
    if not n:
        return {"value": None, "ci_low": 0.0, "ci_high": 1.0, "n": 0, "method": "wilson"}
    interval = stats.binomtest(int(hits), int(n)).proportion_ci(0.95, method="wilson")
    return {"value": float(hits / n), "ci_low": interval.low, "ci_high": interval.high, "n": int(n), "method": "wilson"}


def shares_by_class(flags: np.ndarray, label: np.ndarray) -> dict[str, Estimate]:
    """Return for each class the share of its images (`label`, N) that have a flag (bool N)."""
    return {name: proportion(int(flags[label == i].sum()), int((label == i).sum())) for i, name in enumerate(CLASSES)}


def expected_calibration_error(label: np.ndarray, p_fake: np.ndarray) -> float:
    """Return the expected calibration error of the probability of FAKE, over 15 equal bins, in [0, 1]."""
    preds, target = torch.from_numpy(p_fake), torch.from_numpy((label == 0).astype(np.int64))
    return float(binary_calibration_error(preds, target, n_bins=CALIBRATION_BINS))


def fpr_at_95_tpr(label: np.ndarray, p_fake: np.ndarray) -> float:
    """Return the false positive rate at the highest threshold with a true positive rate of 95 %, in [0, 1]."""
    fpr, tpr, _ = sk.roc_curve(label == 0, p_fake, drop_intermediate=False)
    return float(fpr[np.argmax(tpr >= 0.95)])


def evaluate(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics of one set of images, each as an Estimate.

    Proportions have Wilson intervals, all else bootstrap intervals (lib.evaluation.bootstrap). Raises InputError for
    a set without images of both classes.
    """
    label, p_fake = predictions["label"].to_numpy(), probability_fake(predictions)
    if len(np.unique(label)) != len(CLASSES):
        raise InputError(f"{len(label)} images of {len(np.unique(label))} classes cannot be evaluated: both are needed")
    is_fake, predicted_fake, n = label == 0, p_fake > 0.5, len(label)
    intervals = bootstrap(label, p_fake)

    def by_bootstrap(name: str, value: float) -> Estimate:
        low, high = intervals[name]
        return {"value": float(value), "ci_low": low, "ci_high": high, "n": n, "method": "bootstrap"}

    recall = {name: proportion((is_correct(predictions) & (label == i)).sum(), (label == i).sum())
              for i, name in enumerate(CLASSES)}  # fmt: skip
    predicted = {"FAKE": predicted_fake, "REAL": ~predicted_fake}
    return {
        "accuracy": proportion(is_correct(predictions).sum(), n),
        "balanced_accuracy": by_bootstrap("balanced_accuracy", sk.balanced_accuracy_score(is_fake, predicted_fake)),
        "majority_class_accuracy": proportion(max((label == i).sum() for i in range(len(CLASSES))), n),
        "recall": recall,
        "specificity": recall["REAL"],
        "precision": {name: proportion((positive & (label == i)).sum(), positive.sum())
                      for i, (name, positive) in enumerate(predicted.items())},
        "f1": {name: by_bootstrap(f"f1_{name}", sk.f1_score(label == i, positive, zero_division=0.0))
               for i, (name, positive) in enumerate(predicted.items())},
        "roc_auc": by_bootstrap("roc_auc", sk.roc_auc_score(is_fake, p_fake)),
        "average_precision": by_bootstrap("average_precision", sk.average_precision_score(is_fake, p_fake)),
        "brier_score": by_bootstrap("brier_score", sk.brier_score_loss(is_fake, p_fake)),
        "log_loss": by_bootstrap("log_loss", sk.log_loss(is_fake, p_fake)),
        "expected_calibration_error": by_bootstrap(
            "expected_calibration_error", expected_calibration_error(label, p_fake)
        ),
        "fpr_at_95_tpr": by_bootstrap("fpr_at_95_tpr", fpr_at_95_tpr(label, p_fake)),
    }  # fmt: skip


def evaluate_test(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the metrics of all test images, of those that are not leaked, by flip TTA, and by object class.

    `predictions` have the columns of TTA_LOGITS (lib.evaluation.predictions). Object classes that lack images of one
    class are left out.
    """
    test = predictions[predictions["split"] == "test"]
    return {
        "test": evaluate(test),
        "test_without_leaks": evaluate(test[~test["leaked"]]),
        **{
            tta: evaluate(test.assign(**{logit: test[of] for logit, of in zip(LOGITS, columns, strict=True)}))
            for tta, columns in TTA_LOGITS.items()
        },
        "object_class": {
            name: evaluate(part)
            for name, part in test.groupby("object_class")
            if part["label"].nunique() == len(CLASSES)
        },
    }


def is_balanced(metrics: dict[str, Any]) -> bool:
    """Return whether both classes have about as many images in `metrics`, as `evaluate` returns them."""
    return metrics["majority_class_accuracy"]["value"] <= BALANCED


def in_order(metrics: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of `evaluate`, balanced accuracy first where the classes are unbalanced."""
    return metrics if is_balanced(metrics) else {"balanced_accuracy": metrics["balanced_accuracy"], **metrics}


def describe_accuracy(metrics: dict[str, Any]) -> str:
    """Compare accuracy with its baseline, the majority class; with unbalanced classes balanced accuracy first.

    `metrics` are those of `evaluate`.
    """
    baseline = metrics["majority_class_accuracy"]["value"]
    sentence = f"Accuracy {_against(metrics['accuracy'], baseline, 'the majority class')}"
    if is_balanced(metrics):
        return sentence
    balanced = f"Balanced accuracy {_against(metrics['balanced_accuracy'], 0.5, 'chance level')}"
    return f"{balanced}; {sentence[0].lower()}{sentence[1:]}"


def _against(estimate: Estimate, baseline: float, name: str) -> str:
    above = "above" if estimate["ci_low"] > baseline else "not significantly above"
    return f"{percent(estimate)} is {above} {name}, {100 * baseline:.2f} %"


def threshold_table(predictions: pd.DataFrame, thresholds: tuple[float, ...] = THRESHOLDS) -> pd.DataFrame:
    """Return accuracy, FAKE recall, false positive rate and precision at each threshold of P(FAKE), formatted."""
    is_fake, p_fake = predictions["label"].to_numpy() == 0, probability_fake(predictions)
    rows = {}
    for threshold in thresholds:
        positive = p_fake >= threshold
        rows[f"{threshold:g}"] = {
            "accuracy": percent(proportion((positive == is_fake).sum(), len(positive))),
            "FAKE recall": percent(proportion((positive & is_fake).sum(), is_fake.sum())),
            "false positive rate": percent(proportion((positive & ~is_fake).sum(), (~is_fake).sum())),
            "precision": percent(proportion((positive & is_fake).sum(), positive.sum())),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("P(FAKE) ≥")


def mcnemar(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Compare two networks on the same images by the exact McNemar test (McNemar 1947).

    `first` and `second` say which images each classifies correctly (bool N). Returns the discordant counts, the
    difference of accuracy (first − second, in [−1, 1]) with its 95 % Wald interval for paired proportions, the p-value,
    and n.
    """
    only_first_correct, only_second_correct, n = int((first & ~second).sum()), int((second & ~first).sum()), len(first)
    discordant = only_first_correct + only_second_correct
    difference = (only_first_correct - only_second_correct) / n
    margin = stats.norm.ppf(0.975) * np.sqrt(discordant - (only_first_correct - only_second_correct) ** 2 / n) / n
    return {
        "only_first_correct": only_first_correct,
        "only_second_correct": only_second_correct,
        "difference": difference,
        "ci_low": difference - margin,
        "ci_high": difference + margin,
        "p_value": float(stats.binomtest(only_first_correct, discordant).pvalue) if discordant else 1.0,
        "n": n,
    }


def percent(estimate: Estimate, digits: int = 2) -> str:
    """Format an estimate in percent with its interval: "97.12 % [96.87, 97.34]"."""
    if estimate["value"] is None:
        return "–"
    value, low, high = (f"{100 * estimate[key]:.{digits}f}" for key in ("value", "ci_low", "ci_high"))
    return f"{value} % [{low}, {high}]"


def change(mcnemar_test: dict[str, float]) -> str:
    """Format the difference of accuracy of a McNemar test in percentage points: "-0.06 [-0.21, +0.09]"."""
    value, low, high = (f"{100 * mcnemar_test[key]:+.2f}" for key in ("difference", "ci_low", "ci_high"))
    return f"{value} [{low}, {high}]"


def check_metrics(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a metrics.json if it conforms to the schema; raise InputError where it does not."""
    validate = fastjsonschema.compile(json.loads(SCHEMA.read_text(encoding="utf-8")), use_default=False)
    try:
        return validate(content, name_prefix="metrics.json")
    except fastjsonschema.JsonSchemaValueException as error:
        raise InputError(f"{error.message}: {SCHEMA.name} has the form of this version") from None
