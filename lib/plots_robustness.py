"""Figures of how a network fares off its data: conditions, missing evidence, drift, and cost beside other networks."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
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


def alarms(rates: dict[str, dict[str, dict[str, Any]]], level: float, columns: int = 5) -> Figure:
    """Show how often each drift test (by name) raises an alarm under each condition, over the size of a batch."""
    conditions = list(next(iter(rates.values())))
    lines = -(-len(conditions) // columns)
    fig, axes = plt.subplots(lines, columns, figsize=(2.4 * columns, 2.1 * lines + 0.4), sharex=True, sharey=True,
                             squeeze=False)  # fmt: skip
    for ax in axes.flat[len(conditions) :]:
        ax.set_axis_off()
    for ax, condition in zip(axes.flat, conditions, strict=False):
        for (name, by_condition), colour in zip(rates.items(), (COLOURS["REAL"], COLOURS["FAKE"]), strict=True):
            of_size = by_condition[condition]
            sizes = [int(size) for size in of_size]
            ax.plot(sizes, [100 * rate["value"] for rate in of_size.values()], "o-", ms=3.5, color=colour, label=name)
            low, high = ([100 * rate[end] for rate in of_size.values()] for end in ("low", "high"))
            ax.fill_between(sizes, low, high, color=colour, alpha=0.15, lw=0)
        ax.axhline(100 * level, color=NEUTRAL, lw=1, ls=":")
        ax.set(xscale="log", title=condition, ylim=(-3, 103))
        ax.title.set_fontsize(10)
    for ax in axes[:, 0]:
        ax.set_ylabel("alarms (%)")
    for ax in axes[-1]:
        ax.set_xlabel("images in a batch")
    axes[0, 0].legend(frameon=False, fontsize=8)
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
        ax.annotate(other["network"], (other["macs"] / 1e6, other["accuracy"]), (7, -3), textcoords="offset points",
                    fontsize=8, color=NEUTRAL)  # fmt: skip
    ax.set(xscale="log", xlabel="million multiply-accumulates an image", ylabel="accuracy on all test images (%)")
    ticks = (10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)
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
