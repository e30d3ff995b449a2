"""The style that all figures share: one colour a class, readable in grey and by colour-blind people."""

import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

# Orange and dark blue differ for every kind of colour vision, and in grey by their lightness (L* 63 and 33).
COLOURS = {"FAKE": "#e6781e", "REAL": "#1b4f8a"}
CLASS_MARKERS = {"FAKE": "o", "REAL": "s"}
CLASS_MAP = LinearSegmentedColormap.from_list("REAL to FAKE", [COLOURS["REAL"], "#f7f7f7", COLOURS["FAKE"]])
MAIN = "#00694e"  # what a figure is about, where that is no class
NEUTRAL = "#6b7280"  # what it is compared with
SERIES = (MAIN, "#cc79a7", "#7a5195", "#9a8c00")  # of equal rank; none is the colour of a class
MARKERS = ("o", "s", "^", "D")
SEQUENTIAL = "YlGn"  # from little to much, monotonic in lightness


def use_style() -> None:
    """Set the style that all figures share, in matplotlib and seaborn."""
    sns.set_theme(context="notebook", style="ticks", font_scale=0.9)
    plt.rcParams.update({"figure.dpi": 100, "axes.spines.top": False, "axes.spines.right": False})
    plt.rcParams.update({"image.interpolation": "nearest", "legend.frameon": False, "axes.titlesize": "medium"})


def finished(fig: Figure) -> Figure:
    """Lay a figure out, close it, and return it."""
    fig.tight_layout()
    plt.close(fig)  # a notebook displays the value of a cell; an open figure would appear twice
    return fig
