"""Figures of the data: class counts, examples, duplicate pairs, power spectra."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib import CLASSES
from lib.data.spectrum import radial_mean
from lib.plots.style import COLOURS, finished


def counts(records: pd.DataFrame) -> Figure:
    """Draw the number of images of each object class, by split and class."""
    table = records.assign(label=records["label"].map(dict(enumerate(CLASSES))))
    grid = sns.catplot(
        table, x="object_class", hue="label", hue_order=CLASSES, col="split", col_order=["train", "val", "test"],
        order=sorted(records["object_class"].unique()), kind="count", palette=COLOURS, height=3, aspect=1.2,
        sharey=False,
    )  # fmt: skip
    grid.set_axis_labels("", "images").set_titles("{col_name}").tick_params(axis="x", rotation=60)
    sns.move_legend(grid, "upper center", ncol=2, title=None, bbox_to_anchor=(0.5, 1.08))
    plt.close(grid.figure)
    return grid.figure


def examples(images: np.ndarray, labels: np.ndarray, per_class: int = 16) -> Figure:
    """Show the first images of each class (uint8 N×S×S×3), two rows a class."""
    columns = per_class // 2
    fig, axes = plt.subplots(4, columns, figsize=(columns * 0.95, 4.2))
    for label, name in enumerate(CLASSES):
        panel = axes[2 * label : 2 * label + 2].flat
        for ax, image in zip(panel, images[labels == label][:per_class], strict=False):
            ax.imshow(image)
        axes[2 * label, 0].set_title(name, loc="left", color=COLOURS[name], weight="bold", fontsize=11)
    for ax in axes.flat:
        ax.set_axis_off()
    return finished(fig)


def pairs(images: np.ndarray, titles: list[str], columns: int = 6) -> Figure:
    """Show pairs of images side by side (uint8 N×2×S×S×3), each with its title."""
    rows = max(1, -(-len(images) // columns))
    fig, axes = plt.subplots(rows, columns, figsize=(columns * 2, rows * 1.35), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, pair, title in zip(axes.flat, images, titles, strict=False):
        ax.imshow(np.concatenate([pair[0], np.full((len(pair[0]), 2, 3), 255, np.uint8), pair[1]], axis=1))
        ax.set_title(title, fontsize=7, parse_math=False)  # a file's name may hold dollar signs
    return finished(fig)


def power_spectra(spectra: dict[str, np.ndarray]) -> Figure:
    """Draw the radial average of each class's power spectrum (float S×S), and the ratio of both spectra."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(1.5, 1))
    for name, spectrum in spectra.items():
        frequency, power = radial_mean(spectrum)
        left.semilogy(frequency, power, color=COLOURS[name], label=name, marker="o", ms=3)
    left.set(xlabel="spatial frequency (cycles/pixel)", ylabel="mean power of luma", title="radial average")
    left.legend(frameon=False)
    ratio = np.log2(spectra["FAKE"] / spectra["REAL"])
    limit = np.abs(ratio).max()
    image = right.imshow(ratio, cmap="RdBu_r", vmin=-limit, vmax=limit, extent=(-0.5, 0.5, -0.5, 0.5))
    right.set(title="log₂ FAKE / REAL", xlabel="horizontal frequency", ylabel="vertical frequency")
    fig.colorbar(image, ax=right, shrink=0.85)
    return finished(fig)
