"""Figures of robustness: error under corruptions, frequency ablation, drift detection."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.evaluation.published import ROBUSTNESS
from lib.plots.style import MAIN, NEUTRAL, SEQUENTIAL, finished

_PUBLISHED = ("D", "s", "^", "v")  # markers of the studies
_TICKS = (0.5, 1, 2, 5, 10, 20, 50)  # of an axis of errors, in percent


def robustness(metrics: dict[str, dict[str, Any]], published: bool) -> Figure:
    """Draw the error under each corruption on a logarithmic axis, at the fixed and at the retuned threshold.

    Filled markers are the threshold of 0.5, open ones the retuned one; a line joins both, and the dotted one is the
    error on clean images. With `published`, results that others published on CIFAKE are drawn as grey markers.
    """
    names = [name for name in metrics if name != "clean"]
    half = -(-len(names) // 2)
    while 0 < half < len(names) and metrics[names[half]]["group"] == metrics[names[half - 1]]["group"]:
        half += 1  # the severities of a corruption stay together
    fig, axes = plt.subplots(1, 2, figsize=(12, 0.27 * max(half, len(names) - half) + 1.6), sharex=True)
    for ax, part in zip(axes, (names[:half], names[half:]), strict=True):
        for row, name in enumerate(part):
            _dumbbell(ax, row, metrics[name])
            for (study, accuracy), marker in zip(ROBUSTNESS.items(), _PUBLISHED, strict=True):
                if published and name in accuracy:
                    ax.plot(100 - accuracy[name], row, marker, color=NEUTRAL, mfc="none", ms=6, label=_by(study))
        starts = [row for row in range(1, len(part)) if metrics[part[row]]["group"] != metrics[part[row - 1]]["group"]]
        for row in starts:
            ax.axhline(row - 0.5, color="0.9", lw=1, zorder=0)
        ax.axvline(_error(metrics["clean"]["accuracy"]), color="black", lw=1, ls=":", label="clean images")
        ax.set(xscale="log", xlabel="error (%), logarithmic", ylim=(max(1, len(part)) - 0.5, -0.5))
        ax.set_yticks(range(len(part)), part, fontsize=9)
    ticks = [tick for tick in _TICKS if axes[0].get_xlim()[0] < tick < axes[0].get_xlim()[1]]
    axes[0].set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    for ax in axes:
        ax.xaxis.set_minor_formatter("")
        ax.grid(axis="x", color="0.9", lw=0.6)
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(handles.values(), handles, loc="upper center", ncol=4, bbox_to_anchor=(0.5, 0.0), fontsize=9)
    return finished(fig)


def _dumbbell(ax: Axes, row: int, entry: dict[str, Any]) -> None:
    fixed, retuned = _error(entry["accuracy"]), _error(entry["retuned"]["accuracy"])
    ax.plot([fixed, retuned], [row, row], color=MAIN, lw=1.5)
    ax.plot(retuned, row, "o", color=MAIN, mfc="white", ms=6, label="threshold retuned on validation images")
    ax.plot(fixed, row, "o", color=MAIN, ms=6, label="threshold 0.5")


def _error(accuracy: dict[str, Any]) -> float:
    """Return the error in percent; half an image where there was none, which a logarithmic axis can show."""
    return 100 * max(1 - accuracy["value"], 0.5 / accuracy["n"])


def _by(study: str) -> str:
    return f"published: {study}"


def frequency_ablation(metrics: dict[str, dict[str, Any]]) -> Figure:
    """Draw accuracy on images without a part of their frequencies or colours, from chance level to 100 %."""
    groups = {group: {name: entry for name, entry in metrics.items() if entry["group"] == group}
              for group in ("low-pass", "high-pass", "colour")}  # fmt: skip
    lowest = min(entry["accuracy"]["value"] for entry in metrics.values())
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True, width_ratios=(2, 2, 1.2))
    for ax, (group, entries) in zip(axes, groups.items(), strict=True):
        _severities(ax, entries, joined=group != "colour")
        ax.axhline(100 * metrics["clean"]["accuracy"]["value"], color="black", lw=1, ls=":", label="clean images")
        ax.set(title=group, xlabel="cut-off frequency (cycles/pixel)", ylim=(100 * min(lowest, 0.5) - 2, 101))
    axes[2].set(xlabel="", xlim=(-0.5, 1.5))
    axes[2].set_xticks([0, 1], list(groups["colour"]))
    axes[0].set_ylabel("accuracy (%)")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="upper center", ncol=3, bbox_to_anchor=(0.5, 0.02))
    return finished(fig)


def drift_heatmap(rates: dict[str, dict[str, dict[str, dict[str, Any]]]], title: str) -> Figure:
    """Draw a rate of each drift test in percent: a row a mixture or corruption, a column a batch size."""

    def percents(by_size: dict[str, dict[str, Any]]) -> dict[str, float]:
        return {size: np.nan if rate["value"] is None else 100 * rate["value"] for size, rate in by_size.items()}

    tables = {name: pd.DataFrame({row: percents(by_size) for row, by_size in of_test.items()}).T
              for name, of_test in rates.items()}  # fmt: skip
    size = (4.4 * len(tables) + 1, 0.26 * max(len(table) for table in tables.values()) + 1.1)
    fig, axes = plt.subplots(1, len(tables), figsize=size, sharey=True, squeeze=False)
    for ax, (name, table) in zip(axes.flat, tables.items(), strict=True):
        sns.heatmap(table, vmin=0, vmax=100, cmap=SEQUENTIAL, annot=True, fmt=".0f", annot_kws={"size": 9}, cbar=False,
                    linewidths=0.5, ax=ax)  # fmt: skip
        ax.set(title=f"{title}, {name} (%)", xlabel="batch size")
        ax.tick_params(labelsize=8.5)
    return finished(fig)


def _severities(ax: Axes, entries: dict[str, dict[str, Any]], joined: bool) -> None:
    """Draw accuracy over the severities of a group, with intervals, at the fixed and at the retuned threshold."""
    x = np.arange(len(entries))
    for style, key, name in (("-", None, "threshold 0.5"), ("--", "retuned", "threshold retuned on validation images")):
        accuracy = [(entry[key] if key else entry)["accuracy"] for entry in entries.values()]
        value, low, high = (np.array([100 * it[end] for it in accuracy]) for end in ("value", "ci_low", "ci_high"))
        ax.errorbar(x, value, (value - low, high - value), fmt="o", ls=style if joined else "", ms=5, lw=1.5,
                    color=NEUTRAL if key else MAIN, mfc="white" if key else MAIN, label=name)  # fmt: skip
    ax.set_xticks(x, [f"{entry['severity']:g}" for entry in entries.values()])
