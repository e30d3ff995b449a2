"""Learning curves that are drawn again while a network trains, in a notebook."""

import time

import matplotlib.pyplot as plt
import pandas as pd
from IPython import get_ipython
from IPython.display import DisplayHandle
from matplotlib.figure import Figure

from lib.plots.style import MAIN, NEUTRAL, finished

_PART = 0.02  # of the time since the last drawing that a drawing may take
_QUANTITIES = {"loss": "loss: cross-entropy of the label", "acc": "accuracy"}


def run_curves(table: pd.DataFrame) -> Figure:
    """Draw loss and accuracy of train and val over the epochs, the best epoch marked; `table` may be empty."""
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    for ax, (quantity, label) in zip(axes, _QUANTITIES.items(), strict=True):
        for stage, colour, style in (("train", NEUTRAL, "--"), ("val", MAIN, "-")):
            if len(table):
                marker = "o" if len(table) <= 20 else ""
                ax.plot(table["epoch"], table[f"{stage}/{quantity}"], style, color=colour, marker=marker, ms=3.5,
                        label=stage)  # fmt: skip
        if len(table):
            best = table.loc[table["val/acc"].idxmax()]
            ax.plot(best["epoch"], best[f"val/{quantity}"], "*", color=MAIN, ms=13, label="best epoch")
            ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(xlabel="epoch", ylabel=label)
    axes[0].legend(*axes[0].get_legend_handles_labels())
    return finished(fig)


class LiveCurves:
    """Show `run_curves` in a notebook, and draw them again when called with a longer history.

    A call draws only if that takes a small part of the time since the last drawing; `finish` draws in any case. Outside
    of a notebook, as in a process of distributed training, nothing is shown.
    """

    def __init__(self) -> None:
        self.handle = DisplayHandle() if get_ipython() else None
        if self.handle:
            self.handle.display(run_curves(pd.DataFrame()))
        self.drawn, self.seconds = time.monotonic(), 0.0

    def __call__(self, table: pd.DataFrame) -> None:
        if time.monotonic() - self.drawn >= self.seconds / _PART:
            self.finish(table)

    def finish(self, table: pd.DataFrame) -> None:
        if not (self.handle and get_ipython()):
            return
        start = time.monotonic()
        self.handle.update(run_curves(table))
        self.drawn = time.monotonic()
        self.seconds = self.drawn - start


def history() -> LiveCurves:
    """Show empty learning curves in a notebook, and return what fills them: pass it to `train` as `on_epoch`."""
    return LiveCurves()
