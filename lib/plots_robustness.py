"""Figures of how a network fares off its data: conditions, missing evidence, drift, and cost beside other networks."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.plots import COLOURS, NEUTRAL, finished
from lib.published import ACCURACY, ROBUSTNESS

_MARKS = ("D", "s", "^", "v")
_UNITS = {
    "noise": "σ on [0, 1]", "blur": "σ in pixels", "JPEG": "quality", "JPEG, grid moved": "quality", "resize": "pixels",
    "screenshot": "enlarged by", "rotation": "degrees", "crop": "pixels kept",
}  # fmt: skip


def robustness(figures: dict[str, dict[str, Any]], published: bool, columns: int = 4) -> Figure:
    """Show accuracy in each group of conditions over how far it goes, at both thresholds.

    With `published`, what others reached on CIFAKE stands beside it, as open marks.
    """
    clean = figures["clean"]["accuracy"]["value"]
    groups: dict[str, dict[str, dict[str, Any]]] = {}
    for name, entry in figures.items():
        if name != "clean":
            groups.setdefault(entry["group"], {})[name] = entry
    lines = -(-len(groups) // columns)
    fig, axes = plt.subplots(lines, columns, figsize=(3 * columns, 2.5 * lines + 0.5), sharey=True, squeeze=False)
    for ax in axes.flat[len(groups) :]:
        ax.set_axis_off()
    for ax, (group, entries) in zip(axes.flat, groups.items(), strict=False):
        _levels(ax, entries)
        ax.axhline(100 * clean, color=NEUTRAL, lw=1, ls=":")
        for (study, reached), mark in zip(ROBUSTNESS.items(), _MARKS, strict=True):
            known = [(place, reached[name]) for place, name in enumerate(entries) if name in reached]
            if known and published:
                ax.plot(*zip(*known, strict=True), mark, mfc="none", mec=NEUTRAL, ms=5, label=f"published: {study}")
        ax.set(title=group, xlabel=_UNITS.get(group, "factor"), ylim=(45, 101))
    for ax in axes[:, 0]:
        ax.set_ylabel("accuracy (%)")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="lower center", ncol=3, frameon=False, bbox_to_anchor=(0.5, -0.07), fontsize=9)
    return finished(fig)


def evidence(figures: dict[str, dict[str, Any]]) -> Figure:
    """Show what accuracy is left of images without a part of their frequencies or colours."""
    groups = {group: {name: entry for name, entry in figures.items() if entry["group"] == group}
              for group in ("only below", "only above", "colour")}  # fmt: skip
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True, width_ratios=(2, 2, 1.2))
    for ax, (group, entries) in zip(axes, groups.items(), strict=True):
        _levels(ax, entries)
        ax.axhline(100 * figures["clean"]["accuracy"]["value"], color=NEUTRAL, lw=1, ls=":")
        ax.set(title=f"{group} this frequency", xlabel="cycles a pixel", ylim=(45, 101))
    axes[2].set(title="colour", xlabel="", xlim=(-0.5, 1.5))
    axes[2].set_xticks([0, 1], list(groups["colour"]))
    axes[0].set_ylabel("accuracy (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="lower center", ncol=2, frameon=False, bbox_to_anchor=(0.5, -0.09))
    return finished(fig)


def alarms(rates: dict[str, dict[str, dict[str, dict[str, Any]]]]) -> Figure:
    """Show how often each drift test (by name) raises an alarm under each condition, in percent, by size of batch."""

    def shares(of_size: dict[str, dict[str, Any]]) -> dict[str, float]:
        return {size: 100 * rate["value"] for size, rate in of_size.items()}

    tables = {name: pd.DataFrame({condition: shares(of_size) for condition, of_size in by.items()}).T
              for name, by in rates.items()}  # fmt: skip
    size = (4.2 * len(tables) + 1, 0.24 * max(len(table) for table in tables.values()) + 1)
    fig, axes = plt.subplots(1, len(tables), figsize=size, sharey=True, squeeze=False)
    for ax, (name, table) in zip(axes.flat, tables.items(), strict=True):
        sns.heatmap(table, vmin=0, vmax=100, cmap="Blues", annot=True, fmt=".0f", annot_kws={"size": 8}, cbar=False,
                    linewidths=0.5, ax=ax)  # fmt: skip
        ax.set(title=f"alarms by {name} (%)", xlabel="images in a batch")
        ax.tick_params(labelsize=8.5)
    return finished(fig)


def cost_and_accuracy(rows: dict[str, dict[str, Any]], published: bool) -> Figure:
    """Show the accuracy of each network, with its interval, over its multiply-accumulates an image.

    With `published`, what others say they reached on CIFAKE stands beside it, as open marks.
    """
    fig, ax = plt.subplots(figsize=(7, 4))
    for name, row in rows.items():
        figure = row["accuracy"]
        ax.plot([row["macs"] / 1e6] * 2, [100 * figure["low"], 100 * figure["high"]], color=NEUTRAL)
        ax.plot(row["macs"] / 1e6, 100 * figure["value"], "o", color=COLOURS["REAL"])
        ax.annotate(name, (row["macs"] / 1e6, 100 * figure["value"]), (7, -3), textcoords="offset points", fontsize=9)
    for other in ACCURACY if published else ():
        ax.plot(other["macs"] / 1e6, other["accuracy"], "D", mfc="none", mec=NEUTRAL, ms=5)
        ax.annotate(other["network"].replace(", ", "\n"), (other["macs"] / 1e6, other["accuracy"]), (0, -6),
                    textcoords="offset points", ha="center", va="top", fontsize=8, color=NEUTRAL)  # fmt: skip
    ax.set(xscale="log", xlabel="million multiply-accumulates an image", ylabel="accuracy on all test images (%)")
    ticks = (10, 30, 100, 300, 1000, 3000, 10_000)
    ax.margins(x=0.25)
    low, high = ax.get_xlim()
    shown = [tick for tick in ticks if low < tick < high]
    ax.set_xticks(shown, [f"{tick:,}" for tick in shown])
    ax.minorticks_off()
    return finished(fig)


def _levels(ax: Axes, entries: dict[str, dict[str, Any]]) -> None:
    """Draw accuracy over the levels of a group, at the fixed and at the refitted threshold."""
    place = np.arange(len(entries))
    for style, key, name in (("o-", None, "threshold 0.5"), ("o--", "refitted", "threshold refitted on validation")):
        figure = [(entry[key] if key else entry)["accuracy"] for entry in entries.values()]
        colour = COLOURS["REAL"] if key is None else COLOURS["FAKE"]
        low, high = ([100 * value[end] for value in figure] for end in ("low", "high"))
        ax.plot(place, [100 * value["value"] for value in figure], style, ms=4, color=colour, label=name)
        ax.fill_between(place, low, high, color=colour, alpha=0.15, lw=0)
    ax.set_xticks(place, [f"{entry['level']:g}" for entry in entries.values()])
