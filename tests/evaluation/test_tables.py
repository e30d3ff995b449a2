"""Tables for people: percentages with intervals, log loss in nats."""

from lib.evaluation.metrics import proportion
from lib.evaluation.tables import guarantees_table, metrics_table

ESTIMATE = {"value": 0.03, "ci_low": 0.02, "ci_high": 0.04, "n": 100}


def test_log_loss_is_no_percentage() -> None:
    group = {
        "accuracy": proportion(97, 100),
        "majority_class_accuracy": proportion(50, 100),
        "recall": {"FAKE": ESTIMATE, "REAL": ESTIMATE},
        "log_loss": ESTIMATE,
    }
    table = metrics_table({"all": group})
    assert table["all"].to_dict() == {
        "images": "100", "accuracy": "97.00 % [91.55, 98.97]", "majority class accuracy": "50.00 % [40.38, 59.62]",
        "recall FAKE": "3.00 % [2.00, 4.00]", "recall REAL": "3.00 % [2.00, 4.00]",
        "log loss": "0.0300 [0.0200, 0.0400]",
    }  # fmt: skip


def test_guarantees_have_their_target_in_the_title() -> None:
    test = {"coverage": ESTIMATE, "risk": ESTIMATE, "risk_of_abstained": proportion(0, 0)}
    sets = {"coverage": {"FAKE": ESTIMATE}, "both_classes": ESTIMATE}
    table = guarantees_table({"target_risk": 0.01, "test": test}, {"test": sets})
    assert table.name == "test, target risk 1.0%"
    assert table.index.tolist() == [
        "coverage", "selective risk", "risk of the UNSURE", "conformal sets, coverage of FAKE",
        "conformal sets, both classes",
    ]  # fmt: skip
    assert table["risk of the UNSURE"] == "–"
