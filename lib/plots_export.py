"""The figure of an export: what variants of one network gain in speed, and lose in accuracy."""

from typing import Any

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from lib.plots import COLOURS, NEUTRAL, finished


def speed_and_change(entries: dict[str, dict[str, Any]], max_loss: float, served: str) -> Figure:
    """Show the change of accuracy of each variant with its interval, and the images that it answers a second.

    The dashed line is the loss that is tolerated; what can be served is filled, what is served is red.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 0.34 * len(entries) + 1.1), sharey=True)
    for row, (name, entry) in enumerate(entries.items()):
        change, rate = entry["change"], entry["cost"]["images_per_second"]
        colour = COLOURS["FAKE"] if name == served else COLOURS["REAL"]
        left.plot([100 * change["low"], 100 * change["high"]], [row, row], color=NEUTRAL, lw=1.5)
        left.plot(100 * change["difference"], row, "o", color=colour, mfc=colour if entry["servable"] else "none")
        right.barh(row, rate["mean"], xerr=rate["sd"], color=colour if entry["servable"] else "none", ec=colour)
    left.axvline(-max_loss, color=COLOURS["FAKE"], lw=1, ls="--")
    left.set_yticks(range(len(entries)), entries)
    left.invert_yaxis()
    left.set_xscale("symlog", linthresh=1)
    left.set(xlabel="change of accuracy (points), validation", xticks=(-30, -10, -3, -1, 0, 1))
    left.xaxis.set_major_formatter("{x:g}")
    right.set(xlabel="images/s")
    return finished(fig)
