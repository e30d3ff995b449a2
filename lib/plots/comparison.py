"""Figures that compare networks: error over MACs, and error over training time."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.evaluation.published import ACCURACY
from lib.plots.style import MAIN, MARKERS, NEUTRAL, SERIES, finished

_ERRORS = (0.5, 1, 1.5, 2, 3, 5, 10, 20, 30, 50)  # ticks of an axis of errors, in percent
_FEW_ERRORS = (0.5, 1, 2, 5, 10, 20, 50)  # of a small figure
_SECONDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_MACS = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)  # millions
_MACS_AT_RIGHT = 2000  # millions; the label of a point beyond is at its left
_LOWEST_ERROR = 0.3  # shown in learning curves: what a network memorises would take most of the axis


def error_vs_macs(networks: dict[str, dict[str, Any]], published: bool) -> Figure:
    """Draw the error of each network, with its confidence interval, over its MACs an image, both logarithmic.

    Each of `networks` has `macs`, `accuracy` (an Estimate), `budget` (its training, in words, written beside it) and
    `whole`: filled markers are whole recipes, open ones small budgets. With `published`, grey diamonds are results that
    others published on CIFAKE.
    """
    fig, ax = plt.subplots(figsize=(8, 4.6))
    for (name, entry), colour, marker in zip(networks.items(), SERIES, MARKERS, strict=False):
        accuracy, macs = entry["accuracy"], entry["macs"] / 1e6
        error = 100 * (1 - accuracy["value"])
        ax.plot([macs, macs], [100 * (1 - accuracy["ci_high"]), 100 * (1 - accuracy["ci_low"])], color=colour)
        ax.plot(macs, error, marker, color=colour, mfc=colour if entry["whole"] else "white", ms=8)
        ax.annotate(f"{name}\n{entry['budget']}", (macs, error), (9, 2), textcoords="offset points", fontsize=8.5,
                    color=colour)  # fmt: skip
    for other in ACCURACY if published else ():
        macs, error = other["macs"] / 1e6, 100 - other["accuracy"]
        offset, align = (-7, "right") if macs > _MACS_AT_RIGHT else (7, "left")
        ax.plot(macs, error, "D", mfc="none", mec=NEUTRAL, ms=5)
        ax.annotate(f"published: {other['network']}", (macs, error), (offset, -3), textcoords="offset points", ha=align,
                    fontsize=8, color=NEUTRAL)  # fmt: skip
    ax.set(xscale="log", yscale="log", xlabel="MACs an image (millions)", ylabel="error on all test images (%)")
    ax.margins(x=0.22, y=0.15)
    ax.set_xticks(*_inside(ax.get_xlim(), _MACS))
    _error_ticks(ax)
    return finished(fig)


def error_vs_seconds(curves: dict[str, list[dict[str, Any]]], machine: str) -> Figure:
    """Draw test error, with its confidence interval, against seconds of training on `machine`: a curve a network.

    `curves` are those of `lib.evaluation.baseline_runs.budget_curves`. Labels are epochs of all training images; filled
    markers are whole recipes, open ones shorter schedules.
    """
    fig, ax = plt.subplots(figsize=(7.5, 4.4))
    for (name, points), colour, marker in zip(curves.items(), SERIES, MARKERS, strict=False):
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
    ax.set_xticks(*_inside(ax.get_xlim(), _SECONDS))
    _error_ticks(ax)
    ax.legend(fontsize=9)
    return finished(fig)


def learning_curves(histories: dict[str, Any]) -> Figure:
    """Draw the error of train and val over the epochs, of each run of two epochs or more, on one logarithmic axis."""
    shown = {name: table for name, table in histories.items() if len(table) > 1}
    columns = min(3, len(shown))
    lines = -(-len(shown) // 3)
    fig, axes = plt.subplots(lines, columns, figsize=(3.6 * columns, 2.9 * lines), sharey=True, squeeze=False)
    for ax, (name, table) in zip(axes.flat, shown.items(), strict=False):
        for stage, colour, style in (("train", NEUTRAL, "--"), ("val", MAIN, "-")):
            ax.plot(table["epoch"], 100 * (1 - table[f"{stage}/acc"]), style, color=colour, lw=1.2, label=stage)
        ax.set_title(name.replace(", ", ",\n", 1), fontsize=9)
        ax.set(xlabel="epoch", yscale="log")
        ax.xaxis.get_major_locator().set_params(integer=True)
    for ax in axes.flat[len(shown) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set_ylabel("error (%)")
    axes[0, 0].set_ylim(bottom=max(_LOWEST_ERROR, axes[0, 0].get_ylim()[0]))
    for ax in axes.flat:
        _error_ticks(ax, _FEW_ERRORS)
    axes[0, 0].legend()
    return finished(fig)


def _inside(limits: tuple[float, float], ticks: tuple[float, ...]) -> tuple[list[float], list[str]]:
    shown = [tick for tick in ticks if limits[0] < tick < limits[1]]
    return shown, [f"{tick:,g}" for tick in shown]


def _error_ticks(ax: Axes, ticks: tuple[float, ...] = _ERRORS) -> None:
    """Label a logarithmic axis of errors in percent."""
    ax.set_yticks(*_inside(ax.get_ylim(), ticks))
    ax.minorticks_off()
