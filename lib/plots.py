"""The figures. Each function draws one from data that is already computed, and returns it."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from sklearn.calibration import calibration_curve
from sklearn.metrics import confusion_matrix, roc_curve

from lib import CLASSES
from lib.metrics import CALIBRATION_BINS, is_right
from lib.predictions import probability_fake
from lib.spectrum import radial_mean

COLOURS = {"FAKE": "#d1495b", "REAL": "#2e7da6"}
NEUTRAL = "#5b6470"


def use_style() -> None:
    """Set the look that all figures share."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.9)
    plt.rcParams.update({"figure.dpi": 100, "axes.spines.top": False, "axes.spines.right": False})


def counts(index: pd.DataFrame) -> Figure:
    """Show the images of each object class, by split and class."""
    table = index.assign(label=index["label"].map(dict(enumerate(CLASSES))))
    grid = sns.catplot(
        table, x="object_class", hue="label", hue_order=CLASSES, col="split", col_order=["train", "val", "test"],
        order=sorted(index["object_class"].unique()), kind="count", palette=COLOURS, height=3, aspect=1.2, sharey=False,
    )  # fmt: skip
    grid.set_axis_labels("", "images").set_titles("{col_name}").tick_params(axis="x", rotation=60)
    sns.move_legend(grid, "upper center", ncol=2, title=None, bbox_to_anchor=(0.5, 1.08))
    plt.close(grid.figure)
    return grid.figure


def examples(images: np.ndarray, labels: np.ndarray, per_class: int = 16) -> Figure:
    """Show the first images of each class (uint8 N×32×32×3), two rows a class."""
    columns = per_class // 2
    fig, axes = plt.subplots(4, columns, figsize=(columns * 0.95, 4.2))
    for label, name in enumerate(CLASSES):
        panel = axes[2 * label : 2 * label + 2].flat
        for ax, image in zip(panel, images[labels == label][:per_class], strict=False):
            ax.imshow(image)
        axes[2 * label, 0].set_title(name, loc="left", color=COLOURS[name], weight="bold", fontsize=11)
    for ax in axes.flat:
        ax.set_axis_off()
    return _finished(fig)


def pairs(images: np.ndarray, titles: list[str], columns: int = 6) -> Figure:
    """Show pairs of images side by side (uint8 N×2×32×32×3), each with its title."""
    rows = max(1, -(-len(images) // columns))
    fig, axes = plt.subplots(rows, columns, figsize=(columns * 2, rows * 1.35), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, pair, title in zip(axes.flat, images, titles, strict=False):
        ax.imshow(np.concatenate([pair[0], np.full((32, 2, 3), 255, np.uint8), pair[1]], axis=1))
        ax.set_title(title, fontsize=7)
    return _finished(fig)


def power_spectra(spectra: dict[str, np.ndarray]) -> Figure:
    """Show the mean power spectrum of each class, their ratio in two dimensions, and both over frequency."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(1.5, 1))
    for name, spectrum in spectra.items():
        frequency, power = radial_mean(spectrum)
        left.semilogy(frequency, power, color=COLOURS[name], label=name, marker="o", ms=3)
    left.set(xlabel="spatial frequency (cycles a pixel)", ylabel="mean power of luma", title="all directions")
    left.legend(frameon=False)
    ratio = np.log2(spectra["FAKE"] / spectra["REAL"])
    limit = np.abs(ratio).max()
    image = right.imshow(ratio, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=(-0.5, 0.5, -0.5, 0.5))
    right.set(title="log₂ FAKE / REAL", xlabel="horizontal frequency", ylabel="vertical frequency")
    fig.colorbar(image, ax=right, shrink=0.85)
    return _finished(fig)


def history(table: pd.DataFrame) -> Figure:
    """Show loss and accuracy of train and val over the epochs."""
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    for ax, quantity in zip(axes, ("loss", "acc"), strict=True):
        for stage, colour in (("train", NEUTRAL), ("val", COLOURS["REAL"])):
            ax.plot(table["epoch"], table[f"{stage}/{quantity}"], color=colour, marker="o", ms=3.5, label=stage)
        ax.set(xlabel="epoch", ylabel=quantity)
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(frameon=False)
    return _finished(fig)


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
    return _finished(fig)


def roc(curves: dict[str, pd.DataFrame]) -> Figure:
    """Show the ROC curve of FAKE of each named table of predictions; the false positive rate is logarithmic."""
    fig, ax = plt.subplots(figsize=(4.4, 3.4))
    for (name, predictions), colour in zip(curves.items(), (COLOURS["REAL"], COLOURS["FAKE"], NEUTRAL), strict=False):
        fpr, tpr, _ = roc_curve(predictions["label"] == 0, probability_fake(predictions))
        ax.plot(fpr, tpr, color=colour, label=name)
    low = 1 / max((len(table) for table in curves.values()), default=1000)
    ax.set(xscale="log", xlim=(low, 1), ylim=(0, 1.01))
    ax.set(xlabel="REAL called FAKE (share)", ylabel="FAKE found (share)")
    ax.legend(frameon=False, loc="lower right")
    return _finished(fig)


def calibration(predictions: pd.DataFrame) -> Figure:
    """Show the share of FAKE among images of like probability, and how often each probability is given."""
    label, p_fake = (predictions["label"] == 0).to_numpy(), probability_fake(predictions)
    observed, predicted = calibration_curve(label, p_fake, n_bins=CALIBRATION_BINS)
    fig, (top, bottom) = plt.subplots(2, 1, figsize=(4, 4.2), height_ratios=(3, 1), sharex=True)
    top.plot([0, 1], [0, 1], color=NEUTRAL, lw=1, ls="--")
    top.plot(predicted, observed, color=COLOURS["FAKE"], marker="o", ms=4)
    top.set(ylabel="share that is FAKE")
    bottom.hist(p_fake, bins=CALIBRATION_BINS, range=(0, 1), color=NEUTRAL, log=True)
    bottom.set(xlabel="probability of FAKE", ylabel="images")
    return _finished(fig)


def accuracies(figures: dict[str, dict[str, float]], title: str = "") -> Figure:
    """Show named proportions with their intervals, lowest first."""
    ordered = sorted(figures.items(), key=lambda item: item[1]["value"])
    fig, ax = plt.subplots(figsize=(6, 0.32 * len(ordered) + 0.9))
    for row, (_, figure) in enumerate(ordered):
        ax.plot([100 * figure["low"], 100 * figure["high"]], [row, row], color=NEUTRAL, lw=1.5)
        ax.plot(100 * figure["value"], row, "o", color=COLOURS["REAL"])
    ax.set_yticks(range(len(ordered)), [name for name, _ in ordered])
    ax.set(xlabel="accuracy (%), 95 % interval", title=title)
    return _finished(fig)


def mistakes(images: np.ndarray, predictions: pd.DataFrame, rows: np.ndarray, columns: int = 8) -> Figure:
    """Show the surest mistakes: `images` are those of `rows` of the table (uint8 N×32×32×3)."""
    lines = max(1, -(-len(rows) // columns))
    fig, axes = plt.subplots(lines, columns, figsize=(columns * 1.15, lines * 1.45), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    p_fake = probability_fake(predictions)
    for ax, image, row in zip(axes.flat, images, rows, strict=False):
        truth = CLASSES[predictions["label"].iloc[row]]
        ax.imshow(image)
        ax.set_title(f"{truth}, P(FAKE) {p_fake[row]:.3f}", fontsize=6, color=COLOURS[truth])
    return _finished(fig)


def trials(table: pd.DataFrame, parameters: list[str], metric: str) -> Figure:
    """Show the metric of each trial of a sweep over each parameter, the best one marked."""
    fig, axes = plt.subplots(1, len(parameters), figsize=(3.2 * len(parameters), 3), sharey=True, squeeze=False)
    best = table["best"]
    for ax, name in zip(axes.flat, parameters, strict=True):
        ax.plot(table[name], table[metric], "o", color=NEUTRAL)
        ax.plot(table.loc[best, name], table.loc[best, metric], "o", color=COLOURS["FAKE"], ms=9)
        values = table[name].unique()
        if pd.api.types.is_numeric_dtype(table[name]):
            ax.set_xscale("log" if values.min() > 0 and values.max() / values.min() >= 4 else "linear")
            if len(values) <= 6:
                ax.set_xticks(values, [f"{value:g}" for value in values])
                ax.minorticks_off()
        ax.set_xlabel(name)
    axes[0, 0].set_ylabel(metric)
    return _finished(fig)


def cost_and_accuracy(rows: dict[str, dict[str, Any]]) -> Figure:
    """Show the accuracy of each network, with its interval, over its multiply-accumulates an image."""
    fig, ax = plt.subplots(figsize=(5.5, 3.4))
    for name, row in rows.items():
        figure = row["accuracy"]
        ax.plot([row["macs"] / 1e6] * 2, [100 * figure["low"], 100 * figure["high"]], color=NEUTRAL)
        ax.plot(row["macs"] / 1e6, 100 * figure["value"], "o", color=COLOURS["REAL"])
        ax.annotate(name, (row["macs"] / 1e6, 100 * figure["value"]), (7, 0), textcoords="offset points")
    ax.set(xscale="log", xlabel="million multiply-accumulates an image", ylabel="accuracy (%)")
    cost = sorted(row["macs"] / 1e6 for row in rows.values())
    ax.set_xticks(cost, [f"{value:.0f}" for value in cost])
    ax.minorticks_off()
    ax.margins(x=0.3)
    return _finished(fig)


def surest_mistakes(predictions: pd.DataFrame, most: int = 24) -> np.ndarray:
    """Return the row numbers of the wrong verdicts, the surest first."""
    p_fake = probability_fake(predictions)
    wrong = np.flatnonzero(~is_right(predictions))
    return wrong[np.argsort(-np.abs(p_fake[wrong] - 0.5), kind="stable")][:most]


def _finished(fig: Figure) -> Figure:
    fig.tight_layout()
    plt.close(fig)  # the notebook shows what a cell returns; an open figure would be shown twice
    return fig
