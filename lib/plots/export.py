"""Figure of an export: accuracy and throughput of the variants of one network."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from lib.plots.style import COLOURS, NEUTRAL, finished


def accuracy_vs_throughput(entries: dict[str, dict[str, Any]], max_accuracy_drop: float, served: str) -> Figure:
    """Draw the change of accuracy of each variant with its confidence interval, and its throughput (mean ± sd).

    The dashed line is the accuracy drop that is allowed (in points). Variants that can be served are filled; the one
    that is served is red.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 0.34 * len(entries) + 1.1), sharey=True)
    for row, (name, entry) in enumerate(entries.items()):
        change, rate = entry["change"], entry["latency"]["images_per_second"]
        colour = COLOURS["FAKE"] if name == served else COLOURS["REAL"]
        left.plot([100 * change["ci_low"], 100 * change["ci_high"]], [row, row], color=NEUTRAL, lw=1.5)
        left.plot(100 * change["difference"], row, "o", color=colour, mfc=colour if entry["servable"] else "none")
        right.barh(row, rate["mean"], xerr=rate["sd"], color=colour if entry["servable"] else "none", ec=colour)
    left.axvline(-max_accuracy_drop, color=COLOURS["FAKE"], lw=1, ls="--")
    left.set_yticks(range(len(entries)), entries)
    left.invert_yaxis()
    left.set_xscale("symlog", linthresh=1)
    left.set(xlabel="change of validation accuracy (points)", xticks=(-30, -10, -3, -1, 0, 1))
    left.xaxis.set_major_formatter("{x:g}")
    right.set(xlabel="throughput (images/s)")
    return finished(fig)
