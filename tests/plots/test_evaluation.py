"""Figures of predictions show the numbers that the metrics have."""

import numpy as np
import pandas as pd

from lib.evaluation.predictions import LOGITS
from lib.plots.evaluation import accuracies, confusion, reliability_diagram, roc_pr_det

LABEL = np.repeat([0, 1], 100)
# 10 of 100 FAKE and 20 of 100 REAL are misclassified.
MARGIN = np.concatenate([np.linspace(-0.95, 8.95, 100), np.linspace(-7.95, 1.95, 100)])
TABLE = pd.DataFrame({"label": LABEL, LOGITS[0]: MARGIN, LOGITS[1]: 0.0})


def test_confusion_matrix_has_counts_and_shares() -> None:
    (ax,) = confusion(TABLE).axes
    assert [text.get_text() for text in ax.texts] == ["90\n90.00 %", "10\n10.00 %", "20\n20.00 %", "80\n80.00 %"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["FAKE", "REAL"]


def test_error_curves_have_a_line_a_table() -> None:
    roc, pr, det = roc_pr_det({"all": TABLE, "half": TABLE[::2]}).axes
    assert [len(ax.lines) for ax in (roc, pr, det)] == [2, 2, 2]
    assert roc.get_xscale() == "log"
    assert [text.get_text() for text in roc.get_legend().get_texts()] == ["all", "half"]
    fpr, tpr = roc.lines[0].get_data()
    assert np.interp(0.2, fpr, tpr) == 0.9


def test_reliability_diagram_has_a_column_a_table() -> None:
    figure = reliability_diagram({"before": TABLE, "after": TABLE})
    top, _, bottom, _ = figure.axes
    assert top.get_title() == "before"
    assert sum(bar.get_height() for bar in bottom.patches) == len(TABLE)


def test_error_curves_of_a_few_images_without_an_error() -> None:
    few = TABLE.iloc[[90, 91, 92, 100, 101]]
    roc, pr, det = roc_pr_det({"few": few}).axes
    assert [len(ax.lines) for ax in (roc, pr, det)] == [1, 1, 1]


def test_the_metric_drawn_is_named() -> None:
    estimate = {"value": 0.7, "ci_low": 0.6, "ci_high": 0.8}
    (ax,) = accuracies({"cat": estimate}, metric="balanced accuracy").axes
    assert ax.get_xlabel().startswith("balanced accuracy (%)")
