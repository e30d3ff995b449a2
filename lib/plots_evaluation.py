"""Figures of a network's answers: curves, calibration, mistakes, where it looks. Each is drawn from predictions."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from lib import CLASSES
from lib.bootstrap import CALIBRATION_BINS
from lib.plots import COLOURS, NEUTRAL, finished
from lib.predictions import probability_fake
from lib.selective import risk_coverage

_DET_TICKS = (0.001, 0.01, 0.05, 0.2, 0.5, 0.8)


def confusion(predictions: pd.DataFrame) -> Figure:
    """Show how many images of each class got which verdict."""
    verdict = np.where(probability_fake(predictions) > 0.5, 0, 1)
    matrix = confusion_matrix(predictions["label"], verdict, labels=[0, 1])
    share = matrix / matrix.sum(1, keepdims=True)
    text = [[f"{n:,}\n{100 * s:.2f} %" for n, s in zip(*rows, strict=True)] for rows in zip(matrix, share, strict=True)]
    fig, ax = plt.subplots(figsize=(3.6, 3.2))
    sns.heatmap(share, annot=text, fmt="", cmap="Blues", cbar=False, vmin=0, vmax=1, square=True, ax=ax,
                xticklabels=CLASSES, yticklabels=CLASSES)  # fmt: skip
    ax.set(xlabel="verdict", ylabel="truth")
    return finished(fig)


def curves(tables: dict[str, pd.DataFrame]) -> Figure:
    """Show the ROC, precision–recall and detection error trade-off curves of FAKE of named tables of predictions.

    The false positive rate of the first is logarithmic; both axes of the last are normal deviates (Martin et al. 1997).
    """
    fig, (roc, pr, det) = plt.subplots(1, 3, figsize=(12, 3.6))
    palette = (COLOURS["REAL"], COLOURS["FAKE"], NEUTRAL)
    for (name, predictions), colour in zip(tables.items(), palette, strict=False):
        is_fake, p_fake = predictions["label"] == 0, probability_fake(predictions)
        fpr, tpr, _ = roc_curve(is_fake, p_fake)
        precision, recall, _ = precision_recall_curve(is_fake, p_fake)
        roc.plot(fpr, tpr, color=colour, label=name)
        pr.plot(recall, precision, color=colour)
        inside = (fpr > 0) & (fpr < 1) & (tpr > 0) & (tpr < 1)
        det.plot(stats.norm.ppf(fpr[inside]), stats.norm.ppf(1 - tpr[inside]), color=colour)
    low = 1 / max((len(table) for table in tables.values()), default=1000)
    roc.set(xscale="log", xlim=(low, 1), ylim=(0, 1.01), title="ROC")
    roc.set(xlabel="REAL called FAKE (share)", ylabel="FAKE found (share)")
    roc.legend(frameon=False, loc="lower right")
    pr.set(xlim=(0.5, 1.005), xlabel="FAKE found (recall)", ylabel="precision", title="precision–recall")
    places = stats.norm.ppf(_DET_TICKS)
    for axis in (det.xaxis, det.yaxis):
        axis.set_ticks(places, [f"{100 * tick:g} %" for tick in _DET_TICKS])
    det.set(xlim=places[[0, -1]], ylim=places[[0, -1]], title="detection error trade-off")
    det.set(xlabel="REAL called FAKE", ylabel="FAKE missed")
    return finished(fig)


def calibration(tables: dict[str, pd.DataFrame]) -> Figure:
    """Show the share of FAKE among images of like probability, and how often each probability is given, by table."""
    fig, axes = plt.subplots(2, len(tables), figsize=(4 * len(tables), 4.2), height_ratios=(3, 1), sharex=True,
                             sharey="row", squeeze=False)  # fmt: skip
    for (name, predictions), (top, bottom) in zip(tables.items(), axes.T, strict=True):
        label, p_fake = (predictions["label"] == 0).to_numpy(), probability_fake(predictions)
        observed, predicted = calibration_curve(label, p_fake, n_bins=CALIBRATION_BINS)
        top.plot([0, 1], [0, 1], color=NEUTRAL, lw=1, ls="--")
        top.plot(predicted, observed, color=COLOURS["FAKE"], marker="o", ms=4)
        top.set_title(name)
        bottom.hist(p_fake, bins=CALIBRATION_BINS, range=(0, 1), color=NEUTRAL, log=True)
        bottom.set_xlabel("probability of FAKE")
    axes[0, 0].set_ylabel("share that is FAKE")
    axes[1, 0].set_ylabel("images")
    return finished(fig)


def unsure(val: pd.DataFrame, test: pd.DataFrame, error: float, threshold: float | None, coverage: float) -> Figure:
    """Show the error among the images answered over their share, and the promise: `error` at `coverage` of val."""
    fig, ax = plt.subplots(figsize=(5.5, 3.2))
    for table, name, colour in ((val, "validation", NEUTRAL), (test, "test", COLOURS["REAL"])):
        answered, risk = risk_coverage(table)
        start = len(answered) // 10  # before, a single mistake is a leap
        ax.plot(100 * answered[start:], 100 * risk[start:], color=colour, label=name)
    ax.axhline(100 * error, color=COLOURS["FAKE"], lw=1, ls="--", label="stated error")
    if threshold is not None:
        ax.axvline(100 * coverage, color=COLOURS["FAKE"], lw=1, label=f"UNSURE below {threshold:.3f}")
    ax.set(xlabel="images answered (%)", ylabel="errors among them (%)", ylim=(0, None))
    ax.legend(frameon=False)
    return finished(fig)


def accuracies(figures: dict[str, dict[str, Any]], title: str = "") -> Figure:
    """Show named proportions with their intervals, lowest first."""
    ordered = sorted(figures.items(), key=lambda item: item[1]["value"])
    fig, ax = plt.subplots(figsize=(6, 0.32 * len(ordered) + 0.9))
    for row, (_, figure) in enumerate(ordered):
        ax.plot([100 * figure["low"], 100 * figure["high"]], [row, row], color=NEUTRAL, lw=1.5)
        ax.plot(100 * figure["value"], row, "o", color=COLOURS["REAL"])
    ax.set_yticks(range(len(ordered)), [name for name, _ in ordered])
    ax.set(xlabel="accuracy (%), 95 % interval", title=title)
    return finished(fig)


def gallery(images: np.ndarray, predictions: pd.DataFrame, columns: int = 8) -> Figure:
    """Show images (uint8 N×32×32×3) with the truth and the probability that the network gave."""
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


def evidence_maps(rows: dict[str, tuple[np.ndarray, np.ndarray]]) -> Figure:
    """Show named rows of images (uint8 N×32×32×3), and under each image its map (float N×32×32, −1 REAL to 1 FAKE)."""
    columns = max(len(images) for images, _ in rows.values())
    fig, axes = plt.subplots(2 * len(rows), columns, figsize=(columns * 1.05, len(rows) * 2.25), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for line, (name, (images, maps)) in enumerate(rows.items()):
        axes[2 * line, 0].set_title(name, loc="left", fontsize=10, color=COLOURS[name[:4]], weight="bold")
        for column, (image, evidence) in enumerate(zip(images, maps, strict=True)):
            axes[2 * line, column].imshow(image)
            _overlay(axes[2 * line + 1, column], image, evidence)
    return finished(fig)


def _overlay(ax: Axes, image: np.ndarray, evidence: np.ndarray) -> None:
    ax.imshow(image.mean(2), cmap="gray", vmin=0, vmax=255)
    ax.imshow(evidence, cmap="RdBu_r", vmin=-1, vmax=1, alpha=0.55)
