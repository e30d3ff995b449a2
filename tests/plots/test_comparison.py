"""Figures that compare runs show the numbers of their histories and results."""

import pandas as pd
import pytest

from lib.plots.comparison import error_vs_macs, error_vs_seconds, learning_curves


def history(epochs: int) -> pd.DataFrame:
    accuracy = [0.5 + 0.1 * epoch for epoch in range(epochs)]
    return pd.DataFrame({"epoch": range(1, epochs + 1), "train/acc": accuracy, "val/acc": accuracy})


def test_learning_curves_leave_out_runs_of_one_epoch() -> None:
    figure = learning_curves({"long": history(3), "single": history(1), "short": history(2)})
    shown = [ax for ax in figure.axes if ax.lines]
    assert [ax.get_title() for ax in shown] == ["long", "short"]
    assert shown[0].lines[1].get_ydata() == pytest.approx([50, 40, 30])


def test_errors_are_drawn_over_seconds_with_their_budgets() -> None:
    points = [
        {"epochs": epochs, "seconds": 2.0 * epochs, "whole": epochs == 40,
         "accuracy": {"value": value, "ci_low": value - 0.01, "ci_high": value + 0.01}}
        for epochs, value in ((1, 0.9), (40, 0.98))
    ]  # fmt: skip
    (ax,) = error_vs_seconds({"a": points, "b": points[:1]}, "GPU").axes
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    curves = {line.get_label(): line for line in ax.lines}
    assert curves["a"].get_xdata() == pytest.approx([2, 80])
    assert curves["a"].get_ydata() == pytest.approx([10, 2])
    assert [text.get_text() for text in ax.texts] == ["1", "40", "1"]
    assert "GPU" in ax.get_xlabel()


def test_small_budgets_are_open_marks_with_their_budget_beside() -> None:
    accuracy = {"value": 0.98, "ci_low": 0.97, "ci_high": 0.99}
    entry = {"macs": 2_000_000, "accuracy": accuracy, "budget": "3 epochs × 300 images"}
    (ax,) = error_vs_macs({"a": entry | {"whole": True}, "b": entry | {"whole": False}}, published=False).axes
    marks = [line for line in ax.lines if line.get_marker() not in ("None", None, "")]
    assert [mark.get_ydata()[0] for mark in marks] == pytest.approx([2, 2])
    assert [mark.get_markerfacecolor() == "white" for mark in marks] == [False, True]
    assert [text.get_text() for text in ax.texts] == ["a\n3 epochs × 300 images", "b\n3 epochs × 300 images"]
