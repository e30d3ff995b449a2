"""Figures of the data: class counts, examples, pairs of the classes, duplicates, power spectra."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib import CLASSES
from lib.data.spectrum import radial_mean
from lib.plots.style import CLASS_MAP, CLASS_MARKERS, COLOURS, NEUTRAL, finished


def counts(records: pd.DataFrame) -> Figure:
    """Draw the number of images of each object class, by split and class."""
    table = records.assign(label=records["label"].map(dict(enumerate(CLASSES))))
    grid = sns.catplot(
        table, x="object_class", hue="label", hue_order=CLASSES, col="split", col_order=["train", "val", "test"],
        order=sorted(records["object_class"].unique()), kind="count", palette=COLOURS, height=2.6, aspect=1.25,
        saturation=1, sharey=False,
    )  # fmt: skip
    grid.set_axis_labels("", "images").set_titles("{col_name}").tick_params(axis="x", rotation=60)
    sns.move_legend(grid, "upper center", ncol=2, title=None, bbox_to_anchor=(0.5, 1.08))
    plt.close(grid.figure)
    return grid.figure


def examples(images: np.ndarray, labels: np.ndarray, per_class: int = 16) -> Figure:
    """Show the first images of each class (uint8 N×32×32×3), two rows a class."""
    columns = per_class // 2
    fig, axes = plt.subplots(4, columns, figsize=(columns * 1.05, 4.6))
    for label, name in enumerate(CLASSES):
        panel = axes[2 * label : 2 * label + 2].flat
        for ax, image in zip(panel, images[labels == label][:per_class], strict=False):
            ax.imshow(image)
        axes[2 * label, 0].set_title(name, loc="left", color=COLOURS[name], weight="bold", fontsize=11)
    for ax in axes.flat:
        ax.set_axis_off()
    return finished(fig)


def class_pairs(pairs: dict[str, tuple[np.ndarray, np.ndarray]], details: dict[str, np.ndarray]) -> Figure:
    """Show a FAKE and a REAL image of each object class, enlarged, and beneath each its fine detail.

    `pairs` and `details` hold for each class of CLASSES the images and their high frequencies (both uint8 N×32×32×3,
    one an object class); `pairs` names the object classes beside the images.
    """
    columns = len(pairs["FAKE"][0])
    fig, axes = plt.subplots(4, columns, figsize=(1.75 * columns, 7.2))
    for line, name in enumerate(CLASSES):
        objects, images = pairs[name]
        for column in range(columns):
            axes[2 * line, column].imshow(images[column])
            axes[2 * line + 1, column].imshow(details[name][column])
            axes[2 * line, column].set_title(f"{name}, {objects[column]}", color=COLOURS[name], fontsize=10)
    for ax in axes.flat:
        ax.set_axis_off()
    return finished(fig)


def duplicates(images: np.ndarray, titles: list[str], columns: int = 6) -> Figure:
    """Show pairs of images side by side (uint8 N×2×32×32×3), each with its title."""
    rows = max(1, -(-len(images) // columns))
    fig, axes = plt.subplots(rows, columns, figsize=(columns * 2, rows * 1.35), squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, pair, title in zip(axes.flat, images, titles, strict=False):
        ax.imshow(np.concatenate([pair[0], np.full((32, 2, 3), 255, np.uint8), pair[1]], axis=1))
        ax.set_title(title, fontsize=7, parse_math=False)  # a file's name may hold dollar signs
    return finished(fig)


def power_spectra(spectra: dict[str, np.ndarray]) -> Figure:
    """Draw each class's power spectrum (float 32×32) over frequency, and FAKE / REAL, also in the plane."""
    fig, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.5))
    for name, spectrum in spectra.items():
        frequency, power = radial_mean(spectrum)
        left.semilogy(frequency, power, color=COLOURS[name], label=name, marker=CLASS_MARKERS[name], ms=4)
    left.set(xlabel="spatial frequency (cycles/pixel)", ylabel="mean power of luma", title="radial average")
    left.legend()
    frequency, fake = radial_mean(spectra["FAKE"])
    ratio = fake / radial_mean(spectra["REAL"])[1]
    middle.axhline(1, color=NEUTRAL, lw=1)
    for name, above in (("FAKE", ratio > 1), ("REAL", ratio < 1)):
        middle.fill_between(frequency, ratio, 1, where=above, interpolate=True, color=COLOURS[name], alpha=0.35, lw=0)
    middle.plot(frequency, ratio, color="black", lw=1.5)
    middle.set(xlabel="spatial frequency (cycles/pixel)", ylabel="power of FAKE / power of REAL", title="ratio")
    plane = np.log2(spectra["FAKE"] / spectra["REAL"])
    limit = np.abs(plane).max()
    image = right.imshow(plane, cmap=CLASS_MAP, vmin=-limit, vmax=limit, extent=(-0.5, 0.5, -0.5, 0.5))
    right.set(title="log₂ FAKE / REAL", xlabel="horizontal frequency", ylabel="vertical frequency")
    fig.colorbar(image, ax=right, shrink=0.85)
    return finished(fig)
