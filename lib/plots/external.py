"""Figure of labelled images from elsewhere: what a network makes of each set, at a glance."""

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.core.files import atomic_file
from lib.plots.style import COLOURS, NEUTRAL, finished, use_style


def external_sets(result: dict[str, Any]) -> Figure:
    """Draw for each class of each set the share called FAKE, its AUC, and the shares withheld and out of distribution.

    `result` is what `evaluate_sets` of lib.evaluation.external returns. FAKE sets are above REAL ones; whiskers are
    95 % confidence intervals.
    """
    entries = sorted((entry for entry in result["sets"] if entry["n"]), key=_order, reverse=True)
    fig, (called, auc, held) = plt.subplots(
        1, 3, figsize=(12, 0.3 * len(entries) + 1.2), sharey=True, width_ratios=(2, 1.4, 1.4)
    )
    for row, entry in enumerate(entries):
        _whisker(called, entry["called_fake"], row, COLOURS[entry["class"]], 100)
        if entry["roc_auc"]:
            _whisker(auc, entry["roc_auc"], row, COLOURS[entry["class"]], 1)
        for key, marker in (("withheld", "o"), ("out_of_distribution", "D")):
            if entry[key]:
                name = key.replace("_", " ") if row == 0 else None
                fill = "none" if marker == "D" else None
                held.plot(100 * entry[key]["value"], row, marker, color=NEUTRAL, mfc=fill, label=name)
    called.set_yticks(
        range(len(entries)), [f"{entry['set']}, {entry['class']}, n = {entry['n']:,}" for entry in entries]
    )
    for label, entry in zip(called.get_yticklabels(), entries, strict=True):
        label.set(color=COLOURS[entry["class"]], fontsize=8)
    called.set(xlim=(-2, 102), xlabel="called FAKE (%)")
    auc.set(xlim=(-0.02, 1.02), xlabel="ROC AUC")
    auc.set_title(f"against {result['against']}", fontsize=8)
    auc.axvline(0.5, color=NEUTRAL, lw=1, ls=":")
    held.set(xlim=(-2, 102), xlabel="images (%)")
    if held.lines:
        held.legend(frameon=False, fontsize=8)
    return finished(fig)


def save_external_sets(path: Path, result: dict[str, Any]) -> None:
    """Write the figure of `external_sets` as a PNG."""
    use_style()
    with atomic_file(path) as partial:
        external_sets(result).savefig(partial, format="png", dpi=150, bbox_inches="tight")


def _order(entry: dict[str, Any]) -> tuple[str, float]:
    return entry["class"], -entry["called_fake"]["value"]


def _whisker(ax: Axes, estimate: dict[str, Any], row: int, colour: str, scale: float) -> None:
    ax.plot([scale * estimate["ci_low"], scale * estimate["ci_high"]], [row, row], color=colour, lw=1.5)
    ax.plot(scale * estimate["value"], row, "o", color=colour)
