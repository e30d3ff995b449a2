"""Figures of training runs: learning curves, and test error against training time."""

from typing import Any

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.plots.style import COLOURS, NEUTRAL, SERIES, finished

_MARKERS = ("o", "s", "^", "D")
_ERRORS = (0.5, 1, 2, 5, 10, 20, 30, 50)  # ticks of an axis of errors, in percent
_LOWEST_ERROR = 0.3  # shown in learning curves: what a network memorises would take most of the axis
_SECONDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def history(table: pd.DataFrame) -> Figure:
    """Draw loss and accuracy of train and val over the epochs."""
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    for ax, quantity in zip(axes, ("loss", "acc"), strict=True):
        for stage, colour in (("train", NEUTRAL), ("val", COLOURS["REAL"])):
            ax.plot(table["epoch"], table[f"{stage}/{quantity}"], color=colour, marker="o", ms=3.5, label=stage)
        ax.set(xlabel="epoch", ylabel=quantity)
        ax.xaxis.get_major_locator().set_params(integer=True)
    axes[0].legend(frameon=False)
    return finished(fig)


def learning_curves(histories: dict[str, pd.DataFrame]) -> Figure:
    """Draw the error of train and val over the epochs, of each run of two epochs or more, on one logarithmic axis."""
    shown = {name: table for name, table in histories.items() if len(table) > 1}
    columns = min(3, len(shown))
    lines = -(-len(shown) // 3)
    fig, axes = plt.subplots(lines, columns, figsize=(3.6 * columns, 2.9 * lines), sharey=True, squeeze=False)
    for ax, (name, table) in zip(axes.flat, shown.items(), strict=False):
        for stage, colour in (("train", NEUTRAL), ("val", COLOURS["REAL"])):
            ax.plot(
                table["epoch"], 100 * (1 - table[f"{stage}/acc"]), color=colour, marker=".", ms=4, lw=1, label=stage
            )
        ax.set_title(name.replace(", ", ",\n", 1), fontsize=9)
        ax.set(xlabel="epoch", yscale="log")
        ax.xaxis.get_major_locator().set_params(integer=True)
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("error (%)")
    axes[0, 0].set_ylim(bottom=max(_LOWEST_ERROR, axes[0, 0].get_ylim()[0]))
    for ax in axes.flat:
        _error_ticks(ax)
    axes[0, 0].legend(frameon=False)
    return finished(fig)


def error_vs_seconds(curves: dict[str, list[dict[str, Any]]], machine: str) -> Figure:
    """Draw test error, with its confidence interval, against seconds of training on `machine`: a curve a network.

    `curves` are those of `lib.evaluation.baseline_runs.budget_curves`. Labels are epochs of all training images; filled
    markers are whole recipes, open ones shorter schedules.
    """
    fig, ax = plt.subplots(figsize=(7.5, 4.4))
    for (name, points), colour, marker in zip(curves.items(), SERIES, _MARKERS, strict=False):
        seconds = [point["seconds"] for point in points]
        accuracy = [point["accuracy"] for point in points]
        error = [100 * (1 - value["value"]) for value in accuracy]
        low, high = ([100 * (1 - value[end]) for value in accuracy] for end in ("ci_high", "ci_low"))
        ax.fill_between(seconds, low, high, color=colour, alpha=0.15, lw=0)
        ax.plot(seconds, error, color=colour, marker=marker, ms=6, mfc="white", label=name)
        for x, y, point in zip(seconds, error, points, strict=True):
            if point["whole"]:
                ax.plot(x, y, color=colour, marker=marker, ms=8)
            ax.annotate(f"{point['epochs']:.0f}", (x, y), (0, 7), textcoords="offset points", ha="center", fontsize=8,
                        color=colour)  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel=f"seconds of training on one {machine}",
           ylabel="error on all test images (%)")  # fmt: skip
    low, high = ax.get_xlim()
    ticks = [tick for tick in _SECONDS if low < tick < high]
    ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    _error_ticks(ax)
    ax.legend(frameon=False, fontsize=9)
    return finished(fig)


def _error_ticks(ax: Axes) -> None:
    """Label a logarithmic axis of errors in percent."""
    low, high = ax.get_ylim()
    ticks = [tick for tick in _ERRORS if low < tick < high]
    ax.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    ax.minorticks_off()
