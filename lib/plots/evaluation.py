"""Figures of a network's predictions: error curves, calibration, selective classification, errors, Grad-CAM."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats
from sklearn.calibration import CalibrationDisplay
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    DetCurveDisplay,
    PrecisionRecallDisplay,
    RocCurveDisplay,
    confusion_matrix,
)

from lib import CLASSES
from lib.evaluation.bootstrap import CALIBRATION_BINS
from lib.evaluation.predictions import probability_fake
from lib.evaluation.selective import risk_coverage
from lib.plots.style import COLOURS, NEUTRAL, finished

_DET_LIMITS = stats.norm.ppf((0.001, 0.8))


def confusion(predictions: pd.DataFrame) -> Figure:
    """Draw the confusion matrix: counts, and shares of the images of each class."""
    label, predicted = predictions["label"], np.where(probability_fake(predictions) > 0.5, 0, 1)
    fig, ax = plt.subplots(figsize=(3.6, 3.2))
    display = ConfusionMatrixDisplay.from_predictions(
        label, predicted, labels=[0, 1], display_labels=CLASSES, normalize="true", cmap="Blues", colorbar=False,
        im_kw={"vmin": 0, "vmax": 1}, ax=ax,
    )  # fmt: skip
    counts = confusion_matrix(label, predicted, labels=[0, 1])
    for text, n, share in zip(display.text_.flat, counts.flat, display.confusion_matrix.flat, strict=True):
        text.set_text(f"{n:,}\n{100 * share:.2f} %")
    ax.set(xlabel="predicted class", ylabel="true class")
    return finished(fig)


def roc_pr_det(tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw the ROC, precision–recall and detection error trade-off curves of FAKE of named tables of predictions.

    The false positive rate of the first is logarithmic; both axes of the last are normal deviates (Martin et al. 1997).
    """
    fig, (roc, pr, det) = plt.subplots(1, 3, figsize=(12, 3.6))
    palette = (COLOURS["REAL"], COLOURS["FAKE"], NEUTRAL)
    for (name, predictions), colour in zip(tables.items(), palette, strict=False):
        is_fake, p_fake = predictions["label"] == 0, probability_fake(predictions)
        line = {"color": colour, "label": name}  # without scikit-learn's areas, which two decimals round to 1.00
        RocCurveDisplay.from_predictions(is_fake, p_fake, curve_kwargs=line, ax=roc)
        PrecisionRecallDisplay.from_predictions(is_fake, p_fake, curve_kwargs=line, ax=pr)
        DetCurveDisplay.from_predictions(is_fake, p_fake, ax=det, **line)
    low = 1 / max((len(table) for table in tables.values()), default=1000)
    roc.set(xscale="log", xlim=(low, 1), ylim=(0, 1.01), aspect="auto", title="ROC")
    roc.set(xlabel="false positive rate", ylabel="true positive rate")
    roc.legend(frameon=False, loc="lower right")
    pr.set(xlim=(0, 1.005), aspect="auto", title="precision–recall")
    pr.autoscale(axis="y")
    pr.set(xlabel="recall", ylabel="precision")
    det.set(xlim=_DET_LIMITS, ylim=_DET_LIMITS, title="detection error trade-off")
    det.set(xlabel="false positive rate", ylabel="false negative rate")
    for ax in (pr, det):
        ax.get_legend().remove()
    return finished(fig)


def reliability_diagram(tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw the share of FAKE over the predicted probability, and below it the histogram of probabilities, by table."""
    fig, axes = plt.subplots(2, len(tables), figsize=(4 * len(tables), 4.2), height_ratios=(3, 1), sharex=True,
                             sharey="row", squeeze=False)  # fmt: skip
    for (name, predictions), (top, bottom) in zip(tables.items(), axes.T, strict=True):
        is_fake, p_fake = predictions["label"] == 0, probability_fake(predictions)
        CalibrationDisplay.from_predictions(
            is_fake, p_fake, n_bins=CALIBRATION_BINS, ax=top, color=COLOURS["FAKE"], marker="o", ms=4
        )
        top.get_legend().remove()
        top.set(title=name, xlabel="", ylabel="")
        bottom.hist(p_fake, bins=CALIBRATION_BINS, range=(0, 1), color=NEUTRAL, log=True)
        bottom.set_xlabel("predicted probability of FAKE")
    axes[0, 0].set_ylabel("share of FAKE")
    axes[1, 0].set_ylabel("images")
    return finished(fig)


def risk_coverage_curve(
    val: pd.DataFrame, test: pd.DataFrame, target_risk: float, threshold: float | None, coverage: float
) -> Figure:
    """Draw risk over coverage of val and test, and the guarantee: `target_risk` at `coverage` of val."""
    fig, ax = plt.subplots(figsize=(5.5, 3.2))
    for table, name, colour in ((val, "validation", NEUTRAL), (test, "test", COLOURS["REAL"])):
        covered, risk = risk_coverage(table)
        start = len(covered) // 10  # before, the curve is a few single errors
        ax.plot(100 * covered[start:], 100 * risk[start:], color=colour, label=name)
    ax.axhline(100 * target_risk, color=COLOURS["FAKE"], lw=1, ls="--", label="target risk")
    if threshold is not None:
        ax.axvline(100 * coverage, color=COLOURS["FAKE"], lw=1, label=f"UNSURE below {threshold:.3f}")
    ax.set(xlabel="coverage (%)", ylabel="risk (%)", ylim=(0, None))
    ax.legend(frameon=False)
    return finished(fig)


def accuracies(estimates: dict[str, dict[str, Any]], title: str = "", metric: str = "accuracy") -> Figure:
    """Draw named values of a metric such as accuracy with their confidence intervals, lowest first."""
    ordered = sorted(estimates.items(), key=lambda item: item[1]["value"])
    fig, ax = plt.subplots(figsize=(6, 0.32 * len(ordered) + 0.9))
    for row, (_, estimate) in enumerate(ordered):
        ax.plot([100 * estimate["ci_low"], 100 * estimate["ci_high"]], [row, row], color=NEUTRAL, lw=1.5)
        ax.plot(100 * estimate["value"], row, "o", color=COLOURS["REAL"])
    ax.set_yticks(range(len(ordered)), [name for name, _ in ordered])
    ax.set(xlabel=f"{metric} (%), 95 % confidence interval", title=title)
    return finished(fig)


def gallery(images: np.ndarray, predictions: pd.DataFrame, columns: int = 8) -> Figure:
    """Show images (uint8 N×S×S×3) with their class and the predicted probability of FAKE."""
    lines = max(1, -(-len(images) // columns))
    fig, axes = plt.subplots(lines, columns, figsize=(columns * 1.15, lines * 1.45), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image, label, p in zip(
        axes.flat, images, predictions["label"], probability_fake(predictions), strict=False
    ):
        ax.imshow(image)
        ax.set_title(f"{CLASSES[label]}, P(FAKE) {p:.3f}", fontsize=6, color=COLOURS[CLASSES[label]])
    return finished(fig)


def grad_cam_maps(cases: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Show named cases, each a row of images (uint8 N×S×S×3) and their maps (float N×S×S, −1 REAL to 1 FAKE)."""
    columns = max(len(images) for images, _ in cases.values())
    fig, axes = plt.subplots(2 * len(cases), columns, figsize=(columns * 1.05, len(cases) * 2.25), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for line, (name, (images, maps)) in enumerate(cases.items()):
        axes[2 * line, 0].set_title(name, loc="left", fontsize=10, color=COLOURS[name[:4]], weight="bold")
        for column, (image, saliency) in enumerate(zip(images, maps, strict=True)):
            axes[2 * line, column].imshow(image)
            _overlay(axes[2 * line + 1, column], image, saliency)
    return finished(fig)


def _overlay(ax: Axes, image: np.ndarray, saliency: np.ndarray) -> None:
    ax.imshow(image.mean(2), cmap="gray", vmin=0, vmax=255)
    ax.imshow(saliency, cmap="RdBu_r", vmin=-1, vmax=1, alpha=0.55)
