"""Figure of a training run: learning curves."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.plots.style import COLOURS, NEUTRAL, finished


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
