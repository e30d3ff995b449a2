"""Figures that the notebooks teach with show what they are given."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from lib.evaluation.metrics import proportion
from lib.plots import live
from lib.plots.export import accuracy_vs_throughput
from lib.plots.robustness import robustness
from lib.plots.style import COLOURS, MAIN, NEUTRAL, SERIES
from lib.plots.tiles import show_tiles
from lib.plots.training import augmentations, hard_examples, network, schedule


def grey(colour: str) -> float:
    """Return the luma (ITU-R BT.601) of a colour, from 0 to 1."""
    return float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114)))


def test_classes_are_told_apart_in_grey_and_no_series_looks_like_a_class() -> None:
    assert abs(grey(COLOURS["FAKE"]) - grey(COLOURS["REAL"])) > 0.25
    for colour in (MAIN, NEUTRAL, *SERIES):
        assert min(np.abs(np.subtract(to_rgb(colour), to_rgb(of_class))).max() for of_class in COLOURS.values()) > 0.15


def entry(difference: float, low: float, high: float, servable: bool = True) -> dict:
    rate = {"mean": 100.0, "sd": 1.0}
    return {"change": {"difference": difference, "ci_low": low, "ci_high": high}, "servable": servable,
            "latency": {"images_per_second": rate}}  # fmt: skip


def test_eligible_variants_are_filled_and_the_served_one_is_a_star() -> None:
    entries = {
        "first": entry(0, 0, 0), "good": entry(0, -0.0005, 0.0005), "interval too wide": entry(0, -0.002, 0.002),
        "not for the service": entry(0, 0, 0, servable=False), "far off": entry(-0.3, -0.31, -0.29),
    }  # fmt: skip
    left, _ = accuracy_vs_throughput(entries, 0.1, "good").axes
    marks = {line.get_ydata()[0]: line for line in left.lines if line.get_marker() in ("o", "*")}
    assert [marks[row].get_markerfacecolor() for row in range(4)] == [MAIN, MAIN, "none", "none"]
    assert [row for row, mark in marks.items() if mark.get_marker() == "*"] == [1]
    assert [text.get_text() for text in left.texts] == ["◀ -30.0"]
    low, high = left.get_xlim()
    assert low == pytest.approx(-0.6) and 0.05 < high < 1, "the axis shows the eligible ones"


def test_robustness_has_errors_of_both_thresholds() -> None:
    clean = {"accuracy": proportion(990, 1000), "group": "clean", "retuned": {"accuracy": proportion(990, 1000)}}
    noise = {"accuracy": proportion(900, 1000), "group": "noise", "retuned": {"accuracy": proportion(1000, 1000)}}
    left, _ = robustness({"clean": clean, "noise 0.1": noise}, published=True).axes
    fixed, retuned = (
        next(line for line in left.lines if line.get_label().startswith(label)).get_xdata()[0]
        for label in ("threshold 0.5", "threshold retuned")
    )
    assert (fixed, retuned) == pytest.approx((10, 0.05)), "no error is drawn as half an image"
    assert sum(line.get_label().startswith("published") for line in left.lines) == 4


def test_hard_examples_come_first() -> None:
    images = np.zeros((40, 32, 32, 3), np.uint8)
    losses, labels = np.linspace(0, 3.9, 40), np.arange(40) % 2
    figure = hard_examples(images, np.arange(40), labels, losses)
    titles = [text.get_text() for text in figure.axes[1].texts]
    assert len(titles) == 32 and (titles[0], titles[-1]) == ("REAL 3.90", "FAKE 0.00")


def test_few_hard_examples_leave_tiles_empty() -> None:
    hard_examples(np.zeros((3, 32, 32, 3), np.uint8), np.arange(3), np.array([0, 1, 1]), np.array([1.0, 0.0, 2.0]))


def test_live_figure_shows_nothing_outside_of_a_notebook() -> None:
    curves = live.LiveFigure(live.learning_curves)
    curves(pd.DataFrame())
    curves.finish(pd.DataFrame())
    assert curves.handle is None


def test_live_figure_draws_no_more_than_its_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, drawn = iter(range(100)), []
    monkeypatch.setattr(live, "get_ipython", lambda: True)
    monkeypatch.setattr(live.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(live.DisplayHandle, "display", lambda self, figure: drawn.append("display"))
    monkeypatch.setattr(live.DisplayHandle, "update", lambda self, figure: drawn.append("update"))
    table = pd.DataFrame({"epoch": [1], "train/loss": [0.5], "val/loss": [0.4], "train/acc": [0.7], "val/acc": [0.8]})
    curves = live.LiveFigure(live.learning_curves)
    for _ in range(20):
        curves(table)
    assert drawn == ["display"], "a drawing takes a tick, so the next one is due after fifty"
    curves.finish(table)
    assert drawn == ["display", "update"]


def test_drawings_have_a_row_a_step_a_line_a_rate_and_a_label_a_layer() -> None:
    from lib.models.summary import Layer

    steps = {"as stored": np.zeros((4, 32, 32, 3), np.uint8), "flip": np.zeros((4, 32, 32, 3), np.uint8)}
    figure = augmentations(steps)
    assert [ax.texts[0].get_text() for ax in figure.axes] == list(steps)
    (ax,) = schedule({"lr": np.array([0.1, 0.2])}, 1).axes
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["lr, peak 0.2"]
    (ax,) = network([Layer("image", 3, 32, 0, 0), Layer("conv 3×3", 64, 32, 1_769_472, 1728)]).axes
    assert "32²×64\n1.8 M\n1.7 k" in [text.get_text() for text in ax.texts]


def test_tiles_are_in_lines_with_their_titles() -> None:
    images = np.stack([np.full((8, 8, 3), value, np.uint8) for value in (10, 20, 30)])
    ax = Figure().subplots()
    show_tiles(ax, images, 2, ["a", "b", "c"], ["black"] * 3)
    canvas = np.asarray(ax.images[0].get_array())
    assert [text.get_text() for text in ax.texts] == ["a", "b", "c"]
    assert (canvas == 20).all(2).sum() == 64 and (canvas[12:, :8] == 30).all(2).sum() == 64
    show_tiles(ax, images[:0], 2)
