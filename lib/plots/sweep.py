"""Figures of a sweep, drawn from the table of its trials."""

# Not those of optuna.visualization: W&B's agents have no study, and they mark neither the best trial nor pruned ones.

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path

from lib.plots.style import MAIN, NEUTRAL, finished

_MOST_LINES = 10  # of parallel coordinates: more hide each other


def parallel_coordinates(table: pd.DataFrame, parameters: list[str], metric: str, maximise: bool = False) -> Figure:
    """Draw the best complete trials as lines through their parameters to their metric, coloured by it, best on top."""
    complete = table[table["state"] == "complete"].sort_values(metric, ascending=maximise)
    names = [*parameters, metric]
    fig, ax = plt.subplots(figsize=(1.4 * len(names) + 1, 3.6))
    heights = np.stack([_axis(ax, x, complete[name]) for x, name in enumerate(names)], axis=1)
    heights, complete = heights[-_MOST_LINES:], complete.tail(_MOST_LINES)  # axes are of all trials
    values = complete[metric].to_numpy(float)
    colours = ScalarMappable(Normalize(values.min(), values.max()), "viridis" if maximise else "viridis_r")
    # The worst is drawn first, so that the best lies on top.
    for line, value, best in zip(heights, values, complete["best"], strict=True):
        curve = PathPatch(_smooth(line), fill=False, lw=2.6 if best else 1.3, alpha=1 if best else 0.75)
        curve.set_edgecolor(colours.to_rgba(value))
        ax.add_patch(curve)
    ax.set(xlim=(-0.25, len(names) - 0.75), ylim=(-0.06, 1.06), yticks=[])
    ax.set_xticks(range(len(names)), names)
    ax.tick_params(axis="x", length=0, pad=8)
    ax.spines[:].set_visible(False)
    fig.colorbar(colours, ax=ax, label=metric, pad=0.03)
    return finished(fig)


def progress(table: pd.DataFrame, metric: str, maximise: bool = False) -> Figure:
    """Draw the metric of each trial in order, and the best so far."""
    complete = table[table["state"] == "complete"]
    fig, ax = plt.subplots(figsize=(6.4, 3.2))
    ax.plot(complete["trial"], complete[metric], "o", color=NEUTRAL, label="complete")
    pruned = table[table["state"] == "pruned"]
    if len(pruned):
        ax.plot(pruned["trial"], pruned[metric], "x", color=NEUTRAL, alpha=0.6, label="pruned, at its last epoch")
    best = complete[metric].cummax() if maximise else complete[metric].cummin()
    ax.step(complete["trial"], best, where="post", color=MAIN, label="best so far")
    ax.set(xlabel="trial", ylabel=metric)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(frameon=False)
    return finished(fig)


def importance(fractions: pd.Series) -> Figure:
    """Draw the fraction of the metric's variance that each parameter explains; `fractions` may be empty."""
    fig, ax = plt.subplots(figsize=(6.4, 0.5 * max(1, len(fractions)) + 1.2))
    ax.barh(fractions.index[::-1].astype(str), fractions[::-1], color=MAIN)
    for row, fraction in enumerate(fractions[::-1]):
        ax.text(fraction + 0.01, row, f"{fraction:.2f}", va="center", fontsize=9)
    if fractions.empty:
        ax.text(0.5, 0.5, "too few distinct trials", ha="center", va="center")
        ax.set_yticks([])
    ax.set(xlabel="importance", xlim=(0, 1.08))
    return finished(fig)


def trials(table: pd.DataFrame, parameters: list[str], metric: str) -> Figure:
    """Draw the metric of each complete trial over each parameter, the best one marked."""
    complete = table[table["state"] == "complete"]
    columns = min(4, len(parameters))
    rows = -(-len(parameters) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(3 * columns, 2.7 * rows), sharey=True, squeeze=False)
    for ax in axes.flat[len(parameters) :]:
        ax.set_axis_off()
    for ax, name in zip(axes.flat, parameters, strict=False):
        ax.plot(complete[name], complete[metric], "o", color=NEUTRAL)
        ax.plot(*complete.loc[complete["best"], [name, metric]].to_numpy().T, "o", color=MAIN, ms=9)
        values = complete[name].unique()
        if _is_number(complete[name]):
            ax.set_xscale("log" if _spans_scales(complete[name]) else "linear")
            if len(values) <= 6 or _spans_scales(complete[name]):
                few = values if len(values) <= 6 else np.geomspace(values.min(), values.max(), 3)
                ax.set_xticks(few, [f"{value:.2g}" if value < 10 else f"{value:.0f}" for value in few])
                ax.minorticks_off()
        ax.set_xlabel(name)
    for ax in axes[:, 0]:
        ax.set_ylabel(metric)
    return finished(fig)


def _is_number(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def _spans_scales(values: pd.Series) -> bool:
    """Return whether the values span enough of a range for a logarithmic axis."""
    return bool(values.min() > 0 and values.max() / values.min() >= 4)


def _axis(ax: Axes, x: int, values: pd.Series) -> np.ndarray:
    """Draw the axis of one parameter at `x`, and return the height of each value on it, from 0 to 1."""
    if _is_number(values):
        log = _spans_scales(values)
        scaled = np.log(values.to_numpy(float)) if log else values.to_numpy(float)
        low, width = scaled.min(), np.ptp(scaled) or 1
        marks = np.linspace(low, low + width, 4)
        ticks = np.unique(np.exp(marks).round(12) if log else marks)
        if pd.api.types.is_integer_dtype(values):
            ticks = np.unique(ticks.round())
        places = ((np.log(ticks) if log else ticks) - low) / width
        labels, heights = [f"{tick:.3g}" for tick in ticks], (scaled - low) / width
    else:
        names = sorted(values.astype(str).unique())
        places = (np.arange(len(names)) + 0.5) / len(names)
        labels, heights = names, places[[names.index(value) for value in values.astype(str)]]
    ax.axvline(x, color="0.75", lw=1, zorder=0)
    for place, label in zip(places, labels, strict=True):
        box = {"fc": "white", "ec": "none", "alpha": 0.7, "pad": 0.6}
        ax.text(x + 0.03, place, label, fontsize=8, va="center", zorder=5, bbox=box)
    return np.asarray(heights, float)


def _smooth(heights: np.ndarray) -> Path:
    """Return a curve through one height per axis, at right angles to the axes."""
    points, codes = [(0.0, heights[0])], [Path.MOVETO]
    for x, (start, end) in enumerate(itertools.pairwise(heights)):
        points += [(x + 0.45, start), (x + 0.55, end), (x + 1.0, end)]
        codes += [Path.CURVE4] * 3
    return Path(points, codes)
