"""Figures of what a training does: augmentation, schedule, network, filters, hard examples."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle

from lib import CLASSES
from lib.models.summary import Layer
from lib.plots.style import CLASS_MARKERS, COLOURS, MAIN, NEUTRAL, SERIES, finished
from lib.plots.tiles import show_tiles


def augmentations(steps: Mapping[str, np.ndarray]) -> Figure:
    """Show a batch (uint8 N×S×S×3) in each named state, a row a state."""
    columns = len(next(iter(steps.values())))
    fig, axes = plt.subplots(len(steps), 1, figsize=(columns + 1.6, 1.02 * len(steps)), squeeze=False)
    for ax, (name, images) in zip(axes.flat, steps.items(), strict=True):
        show_tiles(ax, np.asarray(images), columns)
        ax.text(-0.01, 0.5, name, ha="right", va="center", fontsize=10, transform=ax.transAxes)
    return finished(fig)


def schedule(rates: Mapping[str, np.ndarray], epochs: int) -> Figure:
    """Draw the learning rates, given by name at each step, over the epochs, each as a share of its peak."""
    fig, ax = plt.subplots(figsize=(6.4, 2.8))
    for (name, values), colour, style in zip(rates.items(), SERIES, ("-", "--"), strict=False):
        peak = max(values)
        ax.plot(np.linspace(0, epochs, len(values)), values / peak, style, color=colour, lw=2.5,
                label=f"{name}, peak {peak:.2g}")  # fmt: skip
    ax.set(xlabel="epoch", ylabel="share of the peak", ylim=(0, 1.05), xlim=(0, epochs))
    ax.legend()
    return finished(fig)


def network(layers: Sequence[Layer]) -> Figure:
    """Draw a network as blocks: as high as the feature map, as wide as its channels ask; shape, MACs and parameters."""
    fig, ax = plt.subplots(figsize=(12, 4.2))  # the width follows the number of layers
    x, unit = 0.0, 32 / layers[0].side
    for layer in layers:
        width, height = 0.5 + np.log2(layer.channels) / 2.2, max(unit * layer.side, 1.6)
        colour = MAIN if layer.macs else "white"
        depth = min(0.35 * width, 1.2)
        ax.add_patch(Rectangle((x, -height / 2), width, height, fc=colour, ec="black", alpha=0.85, lw=0.8))
        top = [(x, height / 2), (x + depth, height / 2 + depth), (x + width + depth, height / 2 + depth)]
        right = x + width
        side = [(right, -height / 2), (right + depth, -height / 2 + depth), (right + depth, height / 2 + depth)]
        for corners in ([*top, (x + width, height / 2)], [*side, (x + width, height / 2)]):
            ax.add_patch(Polygon(corners, fc=colour, ec="black", alpha=0.45, lw=0.8))
        size = f"{layer.side}²×{layer.channels}" if layer.side > 1 else f"{layer.channels}"
        ax.text(x + width / 2, 18.5, layer.kind, ha="left", va="bottom", fontsize=9, rotation=35)
        ax.text(x + width / 2, -18, f"{size}\n{_short(layer.macs)}\n{_short(layer.parameters)}", ha="center", va="top",
                fontsize=8.5)  # fmt: skip
        x += max(width + 1.55, 4.3)
    ax.text(-1.2, -18, "output\nMACs\nparameters", ha="right", va="top", fontsize=8.5, color=NEUTRAL)
    ax.set(xlim=(-5, x + 0.8), ylim=(-26, 29))
    fig.set_figwidth(0.17 * (x + 5.8))
    ax.set_axis_off()
    return finished(fig)


def whitened_filters(patterns: np.ndarray, deviation: np.ndarray) -> Figure:
    """Show patterns of image patches (float K×3×h×w, the most frequent first), and the `deviation` of each (K)."""
    fig, (left, right) = plt.subplots(1, 2, figsize=(12, 3.6), width_ratios=(1, 1.9))
    left.semilogy(np.arange(1, len(deviation) + 1), deviation, "o", color=MAIN, ms=4, label="in the images")
    left.axhline(1, color=NEUTRAL, ls="--", lw=1, label="after whitening")
    left.set(xlabel="pattern, by its strength", ylabel="standard deviation")
    left.legend()
    scaled = 0.5 + 0.5 * patterns / np.abs(patterns).max((1, 2, 3), keepdims=True)
    show_tiles(right, (255 * scaled).round().astype(np.uint8).transpose(0, 2, 3, 1), 12)
    right.set_title(f"the {len(patterns)} patterns: strongest first, read by line")
    return finished(fig)


def hard_examples(
    images: np.ndarray, indices: np.ndarray, labels: np.ndarray, losses: np.ndarray, columns: int = 8
) -> Figure:
    """Draw the distribution of losses by class, and show the images of highest and lowest loss.

    `indices` (int N) says which of `images` (uint8 M×S×S×3) the `labels` and finite `losses` (float N) belong to.
    """
    fig, (ax, right) = plt.subplots(1, 2, figsize=(12, 4), width_ratios=(1, 1.9))
    for label, name in enumerate(CLASSES):
        own = np.sort(losses[labels == label])[::-1]
        shown = np.unique(np.geomspace(1, len(own), 40).astype(int)) - 1
        ax.loglog(100 * (shown + 1) / len(own), np.maximum(own[shown], 1e-6), color=COLOURS[name], label=name,
                  marker=CLASS_MARKERS[name], ms=4)  # fmt: skip
    ax.axhline(np.log(2), color=NEUTRAL, ls=":", lw=1)
    ax.text(0.98, np.log(2) * 1.1, "a coin's loss", ha="right", fontsize=8, color=NEUTRAL,
            transform=ax.get_yaxis_transform())  # fmt: skip
    ax.set(xlabel="hardest images (%)", ylabel="loss above which they are")
    ax.set_xticks(ticks := [tick for tick in (0.1, 1, 10, 100) if tick >= 50 / len(losses)], [f"{t:g}" for t in ticks])
    ax.legend(loc="lower left")
    order = np.argsort(-losses, kind="stable")
    chosen = np.concatenate([order[: 2 * columns], order[-2 * columns :]])
    titles = [f"{CLASSES[labels[it]]} {losses[it]:.2f}" for it in chosen]
    colours = [COLOURS[CLASSES[labels[it]]] for it in chosen]
    show_tiles(right, images[indices[chosen]], columns, titles, colours, 8)
    right.set_title("the hardest images, above, and the easiest, with their losses")
    return finished(fig)


def _short(number: int) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.1f} M"
    return f"{number / 1e3:.1f} k" if number >= 1e3 else (str(number) if number else "–")
