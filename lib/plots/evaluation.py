"""Figures of a network's predictions: error curves, calibration, selective classification, errors, Grad-CAM."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats
from sklearn.metrics import (
    ConfusionMatrixDisplay,
    DetCurveDisplay,
    PrecisionRecallDisplay,
    RocCurveDisplay,
    confusion_matrix,
)

from lib import CLASSES
from lib.evaluation.bootstrap import CALIBRATION_BINS
from lib.evaluation.metrics import proportion
from lib.evaluation.predictions import is_correct, probability_fake
from lib.evaluation.selective import risk_coverage
from lib.plots.style import CLASS_MAP, COLOURS, MAIN, NEUTRAL, SERIES, finished
from lib.plots.tiles import show_tiles

_DET_TICKS = (0.0001, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)


def confusion(predictions: pd.DataFrame) -> Figure:
    """Draw the confusion matrix: counts, and shares of the images of each class."""
    label, predicted = predictions["label"], np.where(probability_fake(predictions) > 0.5, 0, 1)
    fig, ax = plt.subplots(figsize=(3.6, 3.2))
    display = ConfusionMatrixDisplay.from_predictions(
        label, predicted, labels=[0, 1], display_labels=CLASSES, normalize="true", cmap="Greys", colorbar=False,
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
    All are zoomed to ten times the error of the threshold 0.5, where the curves are.
    """
    fig, (roc, pr, det) = plt.subplots(1, 3, figsize=(12, 3.6))
    for (name, predictions), colour, style in zip(tables.items(), SERIES, ("-", "--", ":"), strict=False):
        is_fake, p_fake = predictions["label"] == 0, probability_fake(predictions)
        line = {"color": colour, "ls": style, "label": name}  # without scikit-learn's areas, which round to 1.00
        RocCurveDisplay.from_predictions(is_fake, p_fake, curve_kwargs=line, ax=roc)
        PrecisionRecallDisplay.from_predictions(is_fake, p_fake, curve_kwargs=line, ax=pr)
        DetCurveDisplay.from_predictions(is_fake, p_fake, ax=det, **line)
    smallest = 1 / max((len(table) for table in tables.values()), default=1000)
    error = max((1 - is_correct(table).mean() for table in tables.values()), default=1.0)
    shown = min(1.0, max(10 * error, 0.02))  # the part of each axis that is of interest
    roc.set(xscale="log", xlim=(smallest, 1), ylim=(1 - shown, 1 + shown / 50), aspect="auto", title="ROC")
    roc.set(xlabel="false positive rate", ylabel="true positive rate")
    roc.legend(loc="lower right")
    pr.set(xlim=(1 - shown, 1 + shown / 50), ylim=(1 - shown, 1 + shown / 50), aspect="auto", title="precision–recall")
    pr.set(xlabel="recall", ylabel="precision")
    ticks = [tick for tick in _DET_TICKS if smallest <= tick <= max(shown, 0.05)]
    limits = stats.norm.ppf((max(smallest, 1e-4), min(max(shown, 0.05), 0.9)))
    det.set(xlim=limits, ylim=limits, title="detection error trade-off")
    for axis in (det.xaxis, det.yaxis):
        axis.set_ticks(stats.norm.ppf(ticks), [f"{100 * tick:g}" for tick in ticks])
    det.set(xlabel="false positive rate (%)", ylabel="false negative rate (%)")
    for ax in (pr, det):
        ax.get_legend().remove()
    return finished(fig)


def reliability_diagram(tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw the share of FAKE over the predicted probability, and below it the histogram of probabilities, by table.

    A bin has the mean of its probabilities; whiskers are the 95 % Wilson interval of its share.
    """
    fig, axes = plt.subplots(2, len(tables), figsize=(4.4 * len(tables), 4.6), height_ratios=(3, 1), sharex=True,
                             sharey="row", squeeze=False)  # fmt: skip
    for (name, predictions), (top, bottom) in zip(tables.items(), axes.T, strict=True):
        is_fake, p_fake = predictions["label"].to_numpy() == 0, probability_fake(predictions)
        top.plot([0, 1], [0, 1], color=NEUTRAL, lw=1, ls=":", label="calibrated")
        chosen = np.minimum((CALIBRATION_BINS * p_fake).astype(int), CALIBRATION_BINS - 1)
        for number in np.unique(chosen):
            inside = chosen == number
            share, x = proportion(is_fake[inside].sum(), inside.sum()), p_fake[inside].mean()
            top.plot([x, x], [share["ci_low"], share["ci_high"]], color=MAIN, lw=1.5)
            top.plot(x, share["value"], "o", color=MAIN, ms=5)
        top.set(title=name)
        bottom.hist(p_fake, bins=CALIBRATION_BINS, range=(0, 1), color=NEUTRAL, log=True)
        bottom.set_xlabel("predicted probability of FAKE")
    axes[0, 0].legend(loc="upper left")
    axes[0, 0].set_ylabel("share of FAKE")
    axes[1, 0].set_ylabel("images")
    return finished(fig)


def risk_coverage_curve(
    val: pd.DataFrame, test: pd.DataFrame, target_risk: float, threshold: float | None, coverage: float
) -> Figure:
    """Draw risk over coverage of val and test, and the guarantee: `target_risk` at `coverage` of val.

    Coverage is from 90 %, or from less where the guarantee needs it.
    """
    fig, ax = plt.subplots(figsize=(6.4, 3.6))
    start = min(0.9, coverage - 0.02) if threshold is not None else 0.5
    highest = target_risk
    for table, name, colour, style in ((val, "validation", NEUTRAL, "--"), (test, "test", MAIN, "-")):
        covered, risk = risk_coverage(table)
        shown = covered >= start
        highest = max(highest, risk[shown].max())
        ax.plot(100 * covered[shown], 100 * risk[shown], color=colour, ls=style, label=name)
    ax.axhline(100 * target_risk, color="black", lw=1, ls=":", label=f"target risk, {100 * target_risk:g} %")
    if threshold is not None:
        ax.axvline(100 * coverage, color="black", lw=1, label=f"UNSURE below a confidence of {threshold:.3f}")
    ax.set(xlabel="coverage (%)", ylabel="risk (%)", ylim=(0, 115 * highest), xlim=(100 * start, 100.2))
    ax.legend(loc="center left", fontsize=9)
    return finished(fig)


def accuracies(estimates: dict[str, dict[str, Any]], title: str = "", metric: str = "accuracy") -> Figure:
    """Draw named values of a metric such as accuracy with their confidence intervals, lowest first."""
    ordered = sorted(estimates.items(), key=lambda item: item[1]["value"])
    fig, ax = plt.subplots(figsize=(6, 0.32 * len(ordered) + 0.9))
    for row, (_, estimate) in enumerate(ordered):
        ax.plot([100 * estimate["ci_low"], 100 * estimate["ci_high"]], [row, row], color=NEUTRAL, lw=1.5)
        ax.plot(100 * estimate["value"], row, "o", color=MAIN)
    ax.set_yticks(range(len(ordered)), [name for name, _ in ordered])
    ax.set(xlabel=f"{metric} (%), 95 % confidence interval", title=title)
    return finished(fig)


def gallery(images: np.ndarray, predictions: pd.DataFrame, columns: int = 6) -> Figure:
    """Show images (uint8 N×S×S×3) with their class and the predicted probability of FAKE."""
    lines = max(1, -(-len(images) // columns))
    fig, ax = plt.subplots(figsize=(columns * 1.75, lines * 2.1))
    names = [CLASSES[label] for label in predictions["label"]]
    titles = [f"{name}, P(FAKE) {p:.3f}" for name, p in zip(names, probability_fake(predictions), strict=True)]
    show_tiles(ax, images, columns, titles, [COLOURS[name] for name in names])
    return finished(fig)


def grad_cam_maps(cases: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Show named cases, each a row of images (uint8 N×S×S×3) and their maps (float N×S×S, −1 REAL to 1 FAKE)."""
    columns = max(len(images) for images, _ in cases.values())
    fig, axes = plt.subplots(2 * len(cases), columns, figsize=(columns * 1.25, len(cases) * 2.7), squeeze=False)
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
    ax.imshow(saliency, cmap=CLASS_MAP, vmin=-1, vmax=1, alpha=0.6)
