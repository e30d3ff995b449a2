"""Figures of the data: class counts, examples, pairs of the classes, duplicates, power spectra."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure

from lib import CLASSES
from lib.data.spectrum import radial_mean
from lib.plots.style import CLASS_MAP, CLASS_MARKERS, COLOURS, NEUTRAL, finished
from lib.plots.tiles import show_tiles


def counts(records: pd.DataFrame) -> Figure:
    """Draw the number of images of each object class, by split and class."""
    table = records.assign(label=records["label"].map(dict(enumerate(CLASSES))))
    grid = sns.catplot(
        table, x="object_class", hue="label", hue_order=CLASSES, col="split", col_order=["train", "val", "test"],
        order=sorted(records["object_class"].unique()), kind="count", palette=COLOURS, height=2.6, aspect=1.25,
        saturation=1, sharey=False,
    )  # fmt: skip
    grid.set_axis_labels("", "images").set_titles("{col_name}")
    for ax in grid.axes.flat:
        plt.setp(ax.get_xticklabels(), rotation=60, ha="right", rotation_mode="anchor")
    sns.move_legend(grid, "upper center", ncol=2, title=None, bbox_to_anchor=(0.5, 1.08))
    plt.close(grid.figure)
    return grid.figure


def examples(images: np.ndarray, labels: np.ndarray, per_class: int = 16) -> Figure:
    """Show the first images of each class (uint8 N×S×S×3), two rows a class."""
    fig, axes = plt.subplots(2, 1, figsize=(8.4, 4.9))
    for label, (ax, name) in enumerate(zip(axes, CLASSES, strict=True)):
        show_tiles(ax, images[labels == label][:per_class], per_class // 2)
        ax.set_title(name, loc="left", color=COLOURS[name], weight="bold", fontsize=11)
    return finished(fig)


def class_pairs(pairs: dict[str, tuple[np.ndarray, np.ndarray]], details: dict[str, np.ndarray]) -> Figure:
    """Show a FAKE and a REAL image of each object class, enlarged, and beneath each its fine detail.

    `pairs` and `details` hold for each class of CLASSES the images and their high frequencies (both uint8 N×S×S×3,
    one an object class); `pairs` names the object classes beside the images.
    """
    columns = len(pairs["FAKE"][0])
    fig, axes = plt.subplots(2, 1, figsize=(1.75 * columns, 7.4))
    for ax, name in zip(axes, CLASSES, strict=True):
        objects, images = pairs[name]
        between = np.full((columns, 2, images.shape[2], 3), 255, np.uint8)
        tiles = np.concatenate([images, between, details[name]], axis=1)
        show_tiles(ax, tiles, columns, [f"{name}, {it}" for it in objects], [COLOURS[name]] * columns, 10)
    return finished(fig)


def duplicates(images: np.ndarray, titles: list[str], columns: int = 6) -> Figure:
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
    """Draw each class's power spectrum (float S×S) over frequency, and FAKE / REAL, also in the plane."""
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
