"""Figures with their intervals, computed from predictions. FAKE is the positive class."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import torch
from scipy import stats
from sklearn import metrics as sk
from torchmetrics.functional.classification import binary_calibration_error

from lib import CLASSES
from lib.bootstrap import CALIBRATION_BINS, bootstrap
from lib.errors import InputError
from lib.predictions import LOGITS, VIEWS, is_right, probability_fake

SCHEMA = Path(__file__).with_name("metrics.schema.json")

THRESHOLDS = (0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99)

Figure = dict[str, Any]


def proportion(hits: int, n: int) -> Figure:
    """Return a proportion with its 95 % Wilson score interval (Wilson 1927): value, low, high, n, method."""
    if not n:
        return {"value": None, "low": 0.0, "high": 1.0, "n": 0, "method": "wilson"}
    interval = stats.binomtest(int(hits), int(n)).proportion_ci(0.95, method="wilson")
    return {"value": float(hits / n), "low": interval.low, "high": interval.high, "n": int(n), "method": "wilson"}


def calibration_error(label: np.ndarray, p_fake: np.ndarray) -> float:
    """Return the expected calibration error of the probability of FAKE, over 15 equal bins, in [0, 1]."""
    preds, target = torch.from_numpy(p_fake), torch.from_numpy((label == 0).astype(np.int64))
    return float(binary_calibration_error(preds, target, n_bins=CALIBRATION_BINS))


def fpr_at_95_tpr(label: np.ndarray, p_fake: np.ndarray) -> float:
    """Return the share of REAL called FAKE at the highest threshold that finds 95 % of FAKE."""
    fpr, tpr, _ = sk.roc_curve(label == 0, p_fake, drop_intermediate=False)
    return float(fpr[np.argmax(tpr >= 0.95)])


def evaluate(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the figures of one set of images, each with value, low, high, n and the method of its interval.

    Proportions have Wilson intervals, all else bootstrap intervals (lib.bootstrap). Raises InputError for a set
    without images of both classes.
    """
    label, p_fake = predictions["label"].to_numpy(), probability_fake(predictions)
    if len(np.unique(label)) != len(CLASSES):
        raise InputError(f"{len(label)} images of {len(np.unique(label))} classes cannot be judged: both are needed")
    is_fake, called_fake, n = label == 0, p_fake > 0.5, len(label)
    intervals = bootstrap(label, p_fake)

    def by_bootstrap(name: str, value: float) -> Figure:
        low, high = intervals[name]
        return {"value": float(value), "low": low, "high": high, "n": n, "method": "bootstrap"}

    recall = {name: proportion((is_right(predictions) & (label == i)).sum(), (label == i).sum())
              for i, name in enumerate(CLASSES)}  # fmt: skip
    verdicts = {"FAKE": called_fake, "REAL": ~called_fake}
    return {
        "accuracy": proportion(is_right(predictions).sum(), n),
        "balanced_accuracy": by_bootstrap("balanced_accuracy", sk.balanced_accuracy_score(is_fake, called_fake)),
        "recall": recall,
        "specificity": recall["REAL"],
        "precision": {name: proportion((verdict & (label == i)).sum(), verdict.sum())
                      for i, (name, verdict) in enumerate(verdicts.items())},
        "f1": {name: by_bootstrap(f"f1_{name}", sk.f1_score(label == i, verdict, zero_division=0.0))
               for i, (name, verdict) in enumerate(verdicts.items())},
        "roc_auc": by_bootstrap("roc_auc", sk.roc_auc_score(is_fake, p_fake)),
        "average_precision": by_bootstrap("average_precision", sk.average_precision_score(is_fake, p_fake)),
        "brier_score": by_bootstrap("brier_score", sk.brier_score_loss(is_fake, p_fake)),
        "log_loss": by_bootstrap("log_loss", sk.log_loss(is_fake, p_fake)),
        "calibration_error": by_bootstrap("calibration_error", calibration_error(label, p_fake)),
        "fpr_at_95_tpr": by_bootstrap("fpr_at_95_tpr", fpr_at_95_tpr(label, p_fake)),
    }  # fmt: skip


def evaluate_test(predictions: pd.DataFrame) -> dict[str, Any]:
    """Return the figures on all test images, on those not in train, by object class, and with one view and two.

    `predictions` have the columns of VIEWS (lib.predictions).
    """
    test = predictions[predictions["split"] == "test"]
    return {
        "test": evaluate(test),
        "test_not_in_train": evaluate(test[~test["in_train"]]),
        **{
            views: evaluate(test.assign(**{logit: test[of] for logit, of in zip(LOGITS, columns, strict=True)}))
            for views, columns in VIEWS.items()
        },
        "object_class": {name: evaluate(part) for name, part in test.groupby("object_class")},
    }


def threshold_table(predictions: pd.DataFrame, thresholds: tuple[float, ...] = THRESHOLDS) -> pd.DataFrame:
    """Return what calling FAKE from each probability on would give: rates with intervals, for people."""
    is_fake, p_fake = predictions["label"].to_numpy() == 0, probability_fake(predictions)
    rows = {}
    for threshold in thresholds:
        called = p_fake >= threshold
        rows[f"{threshold:g}"] = {
            "accuracy": percent(proportion((called == is_fake).sum(), len(called))),
            "FAKE found": percent(proportion((called & is_fake).sum(), is_fake.sum())),
            "REAL called FAKE": percent(proportion((called & ~is_fake).sum(), (~is_fake).sum())),
            "precision": percent(proportion((called & is_fake).sum(), called.sum())),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("P(FAKE) from")


def mcnemar(ours: np.ndarray, theirs: np.ndarray) -> dict[str, Any]:
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
        "p_value": float(stats.binomtest(only_ours, split).pvalue) if split else 1.0,
        "n": n,
    }


def percent(figure: Figure, digits: int = 2) -> str:
    """Write a proportion for people: "97.12 % [96.87, 97.34]"."""
    if figure["value"] is None:
        return "–"
    value, low, high = (f"{100 * figure[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} % [{low}, {high}]"


def change(test: dict[str, float]) -> str:
    """Write the difference that McNemar's test found for people, in points: "-0.06 [-0.21, +0.09]"."""
    return f"{100 * test['difference']:+.2f} [{100 * test['low']:+.2f}, {100 * test['high']:+.2f}]"


def check_metrics(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a metrics.json if it has the promised form; raise InputError where it departs from it."""
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    if error := jsonschema.exceptions.best_match(validator.iter_errors(content)):
        raise InputError(f"metrics.json departs from {SCHEMA.name} at {error.json_path}: {error.message}")
    return content
