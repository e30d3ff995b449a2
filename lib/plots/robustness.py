"""Figures of robustness (corruptions, frequency ablation, drift detection), and of accuracy over MACs."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.evaluation.published import ACCURACY, ROBUSTNESS
from lib.plots.style import COLOURS, NEUTRAL, finished

_MARKERS = ("D", "s", "^", "v")
_UNITS = {
    "noise": "σ on [0, 1]", "blur": "σ in pixels", "JPEG": "quality", "JPEG, grid shifted": "quality",
    "resize": "pixels", "screenshot": "upscaling factor", "rotation": "degrees", "crop": "pixels kept",
}  # fmt: skip


def robustness(metrics: dict[str, dict[str, Any]], published: bool, columns: int = 4) -> Figure:
    """Draw accuracy over severity for each group of corruptions, at the fixed and at the retuned threshold.

    With `published`, results that others published on CIFAKE are drawn as open markers.
    """
    clean = metrics["clean"]["accuracy"]["value"]
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for name, entry in metrics.items():
        if name != "clean":
            groups.setdefault(entry["group"], {})[name] = entry
    lines = -(-len(groups) // columns)
    fig, axes = plt.subplots(lines, columns, figsize=(3 * columns, 2.5 * lines + 0.5), sharey=True, squeeze=False)
    for ax in axes.flat[len(groups) :]:
        ax.set_axis_off()
    for ax, (group, entries) in zip(axes.flat, groups.items(), strict=False):
        _severities(ax, entries)
        ax.axhline(100 * clean, color=NEUTRAL, lw=1, ls=":")
        for (study, accuracy), marker in zip(ROBUSTNESS.items(), _MARKERS, strict=True):
            points = [(x, accuracy[name]) for x, name in enumerate(entries) if name in accuracy]
            if points and published:
                ax.plot(*zip(*points, strict=True), marker, mfc="none", mec=NEUTRAL, ms=5, label=f"published: {study}")
        ax.set(title=group, xlabel=_UNITS.get(group, "factor"), ylim=(None, 101))
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy (%)")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="lower center", ncol=3, frameon=False, bbox_to_anchor=(0.5, -0.07), fontsize=9)
    return finished(fig)


def frequency_ablation(metrics: dict[str, dict[str, Any]]) -> Figure:
    """Draw accuracy on images without a part of their frequencies or colours."""
    groups = {group: {name: entry for name, entry in metrics.items() if entry["group"] == group}
              for group in ("low-pass", "high-pass", "colour")}  # fmt: skip
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True, width_ratios=(2, 2, 1.2))
    for ax, (group, entries) in zip(axes, groups.items(), strict=True):
        _severities(ax, entries)
        ax.axhline(100 * metrics["clean"]["accuracy"]["value"], color=NEUTRAL, lw=1, ls=":")
        ax.set(title=group, xlabel="cut-off frequency (cycles/pixel)", ylim=(None, 101))
    axes[2].set(xlabel="", xlim=(-0.5, 1.5))
    axes[2].set_xticks([0, 1], list(groups["colour"]))
    axes[0].set_ylabel("accuracy (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="lower center", ncol=2, frameon=False, bbox_to_anchor=(0.5, -0.09))
    return finished(fig)


def drift_heatmap(rates: dict[str, dict[str, dict[str, dict[str, Any]]]], title: str) -> Figure:
    """Draw a rate of each drift test in percent: a row a mixture or corruption, a column a batch size."""

    def percents(by_size: dict[str, dict[str, Any]]) -> dict[str, float]:
        return {size: np.nan if rate["value"] is None else 100 * rate["value"] for size, rate in by_size.items()}

    tables = {name: pd.DataFrame({row: percents(by_size) for row, by_size in of_test.items()}).T
              for name, of_test in rates.items()}  # fmt: skip
    size = (4.2 * len(tables) + 1, 0.24 * max(len(table) for table in tables.values()) + 1)
    fig, axes = plt.subplots(1, len(tables), figsize=size, sharey=True, squeeze=False)
    for ax, (name, table) in zip(axes.flat, tables.items(), strict=True):
        sns.heatmap(table, vmin=0, vmax=100, cmap="Blues", annot=True, fmt=".0f", annot_kws={"size": 8}, cbar=False,
                    linewidths=0.5, ax=ax)  # fmt: skip
        ax.set(title=f"{title}, {name} (%)", xlabel="batch size")
        ax.tick_params(labelsize=8.5)
    return finished(fig)


def accuracy_vs_macs(networks: dict[str, dict[str, Any]], published: bool) -> Figure:
    """Draw the accuracy of each network, with its confidence interval, over its MACs an image.

    With `published`, results that others published on CIFAKE are drawn as open markers.
    """
    fig, ax = plt.subplots(figsize=(7, 4))
    for name, entry in networks.items():
        accuracy = entry["accuracy"]
        ax.plot([entry["macs"] / 1e6] * 2, [100 * accuracy["ci_low"], 100 * accuracy["ci_high"]], color=NEUTRAL)
        ax.plot(entry["macs"] / 1e6, 100 * accuracy["value"], "o", color=COLOURS["REAL"])
        ax.annotate(
            name,
            (entry["macs"] / 1e6, 100 * accuracy["ci_high"]),
            (0, 4),
            textcoords="offset points",
            fontsize=9,
            ha="center",
        )
    for other in ACCURACY if published else ():
        ax.plot(other["macs"] / 1e6, other["accuracy"], "D", mfc="none", mec=NEUTRAL, ms=5)
        ax.annotate(other["network"].replace(", ", "\n"), (other["macs"] / 1e6, other["accuracy"]), (5, -3),
                    textcoords="offset points", va="top", fontsize=8, color=NEUTRAL)  # fmt: skip
    ax.set(xscale="log", xlabel="MACs an image (millions)", ylabel="accuracy on all test images (%)")
    ticks = (10, 30, 100, 300, 1000, 3000, 10_000)
    ax.margins(x=0.25, y=0.15)
    low, high = ax.get_xlim()
    shown = [tick for tick in ticks if low < tick < high]
    ax.set_xticks(shown, [f"{tick:,}" for tick in shown])
    ax.minorticks_off()
    return finished(fig)


def _severities(ax: Axes, entries: dict[str, dict[str, Any]]) -> None:
    """Draw accuracy over the severities of a group, at the fixed and at the retuned threshold."""
    x = np.arange(len(entries))
    for style, key, name in (("o-", None, "threshold 0.5"), ("o--", "retuned", "threshold retuned on validation")):
        accuracy = [(entry[key] if key else entry)["accuracy"] for entry in entries.values()]
        colour = COLOURS["REAL"] if key is None else COLOURS["FAKE"]
        low, high = ([100 * value[end] for value in accuracy] for end in ("ci_low", "ci_high"))
        ax.plot(x, [100 * value["value"] for value in accuracy], style, ms=4, color=colour, label=name)
        ax.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    ax.set_xticks(x, [f"{entry['severity']:g}" for entry in entries.values()])
