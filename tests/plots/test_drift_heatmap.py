"""The heat map of drift rates: a row a mixture or corruption; rates of no batch are left blank."""

from lib.evaluation.metrics import proportion
from lib.plots.robustness import drift_heatmap


def test_rates_are_in_percent_and_missing_ones_blank() -> None:
    rates = {
        "0%": {"10": proportion(1, 20), "1000": proportion(0, 0)},
        "50%": dict.fromkeys(("10", "1000"), proportion(1, 4)),
    }
    fig = drift_heatmap({"features": rates, "statistics": rates}, "false positive rate")
    first = fig.axes[0]
    assert first.get_title() == "false positive rate, features (%)"
    assert [label.get_text() for label in first.get_yticklabels()] == ["0%", "50%"]
    assert [text.get_text() for text in first.texts] == ["5", "25", "25"]


def test_no_rate_at_all_is_an_empty_map() -> None:
    drift_heatmap({"features": {"0%": {"10": proportion(0, 0)}}}, "false positive rate")
