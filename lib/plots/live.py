"""Learning curves, and a figure that is drawn again while a network trains, in a notebook."""

import time
from collections.abc import Callable

import matplotlib.pyplot as plt
import pandas as pd
from IPython import get_ipython
from IPython.display import DisplayHandle
from matplotlib.figure import Figure

from lib.plots.style import MAIN, NEUTRAL, finished

_PART = 0.02  # of the time since the last drawing that a drawing may take
_QUANTITIES = {"loss": "loss: cross-entropy of the label", "acc": "accuracy"}


def learning_curves(table: pd.DataFrame) -> Figure:
    """Draw loss and accuracy of train and val over the epochs, the best epoch marked."""
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.2))
    best = table.loc[table["val/acc"].idxmax()]
    marker = "o" if len(table) <= 20 else ""
    for ax, (quantity, label) in zip(axes, _QUANTITIES.items(), strict=True):
        for stage, colour, style in (("train", NEUTRAL, "--"), ("val", MAIN, "-")):
            values = table[f"{stage}/{quantity}"]
            ax.plot(table["epoch"], values, style, color=colour, marker=marker, ms=3.5, label=stage)
        ax.plot(best["epoch"], best[f"val/{quantity}"], "*", color=MAIN, ms=13, label="best epoch")
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(xlabel="epoch", ylabel=label)
    axes[0].legend()
    return finished(fig)


class LiveFigure:
    """Show what `draw` makes of a history in a notebook, again at each call with a longer one: `on_epoch` of `train`.

    A call draws only if that takes a small part of the time since the last drawing; `finish` draws in any case. Outside
    of a notebook, as in a process of distributed training, nothing is shown.
    """

    def __init__(self, draw: Callable[[pd.DataFrame], Figure]) -> None:
        self.draw = draw
        self.handle: DisplayHandle | None = None
        self.drawn, self.seconds = time.monotonic(), 0.0

    def __call__(self, table: pd.DataFrame) -> None:
        if time.monotonic() - self.drawn >= self.seconds / _PART:
            self.finish(table)

    def finish(self, table: pd.DataFrame) -> None:
        if not get_ipython():
            return
        start = time.monotonic()
        if self.handle:
            self.handle.update(self.draw(table))
        else:
            self.handle = DisplayHandle()
            self.handle.display(self.draw(table))
        self.drawn = time.monotonic()
        self.seconds = self.drawn - start
