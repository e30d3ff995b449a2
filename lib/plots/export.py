"""Figure of an export: accuracy and throughput of the variants of one network."""

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.plots.style import MAIN, NEUTRAL, finished

_SHOWN = 6  # times the tolerated drop: the axis of the change of accuracy ends there


def accuracy_vs_throughput(entries: dict[str, dict[str, Any]], max_accuracy_drop: float, served: str) -> Figure:
    """Draw the change of accuracy of each variant with its confidence interval, and its throughput (mean ± sd).

    The shaded side of the dashed line is a larger drop than is allowed (`max_accuracy_drop`, in points). Eligible
    variants (files that the service can run, whose whole interval is on the other side) are filled and green, all
    others open and grey; a star marks the `served` one. A change beyond the left end is an arrow with its value.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(11.5, 0.32 * len(entries) + 1.4), sharey=True)
    lowest, highest = _limits([entry["change"] for entry in entries.values()], max(max_accuracy_drop, 0.01))
    for row, (name, entry) in enumerate(entries.items()):
        eligible = entry["servable"] and 100 * entry["change"]["ci_low"] >= -max_accuracy_drop
        colour, fill = (MAIN, MAIN) if eligible else (NEUTRAL, "none")
        _change(left, row, entry["change"], (lowest, highest), colour, "*" if name == served else "o", fill)
        rate = entry["latency"]["images_per_second"]
        right.barh(row, rate["mean"], xerr=rate["sd"], color=fill, ec=colour, error_kw={"elinewidth": 1, "capsize": 2})
    left.axvline(0, color="black", lw=0.8)
    left.axvline(-max_accuracy_drop, color="black", lw=1, ls="--")
    left.axvspan(lowest, -max_accuracy_drop, color="0.94", zorder=0)
    left.set_yticks(range(len(entries)), [f"{name}  ★" if name == served else name for name in entries])
    left.invert_yaxis()
    left.set(xlim=(lowest, highest), xlabel="change of validation accuracy (points), 95 % confidence interval")
    left.set_title("eligible: filled, green; served: ★", fontsize=9, loc="left")
    right.set(xlabel="throughput (images/s), mean ± sd")
    return finished(fig)


def _limits(changes: list[dict[str, float]], tolerated: float) -> tuple[float, float]:
    """Return the ends of the axis: what the intervals need, but at most _SHOWN times the tolerated drop."""
    low, high = (100 * pick(change[end] for change in changes) for pick, end in ((min, "ci_low"), (max, "ci_high")))
    longest = _SHOWN * tolerated
    return max(-longest, min(1.15 * low, -1.5 * tolerated)), min(longest, max(1.15 * high, 0.5 * tolerated))


def _change(
    ax: Axes, row: int, change: dict[str, float], limits: tuple[float, float], colour: str, marker: str, fill: str
) -> None:
    value, low, high = (100 * change[key] for key in ("difference", "ci_low", "ci_high"))
    ax.plot(np.clip([low, high], *limits), [row, row], color=colour, lw=1.5)
    if value < limits[0]:
        ax.annotate(f"◀ {value:+.1f}", (limits[0], row), (3, 0), textcoords="offset points", va="center", fontsize=8,
                    color=colour, bbox={"fc": "white", "ec": "none", "pad": 0.8})  # fmt: skip
    else:
        ax.plot(value, row, marker, ms=13 if marker == "*" else 6, color=colour, mfc=fill)
