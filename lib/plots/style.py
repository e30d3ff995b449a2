"""The style that all figures share."""

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.figure import Figure

COLOURS = {"FAKE": "#d1495b", "REAL": "#2e7da6"}
NEUTRAL = "#5b6470"
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # told apart by colour-blind readers: Okabe & Ito 2008


def use_style() -> None:
    """Set the style that all figures share, in matplotlib and seaborn."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.9)
    plt.rcParams.update({"figure.dpi": 100, "axes.spines.top": False, "axes.spines.right": False})


def finished(fig: Figure) -> Figure:
    """Lay a figure out, close it, and return it."""
    fig.tight_layout()
    plt.close(fig)  # a notebook displays the value of a cell; an open figure would appear twice
    return fig
