"""Metrics: known values, and simulations where there are none."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sk

from lib.core.errors import InputError
from lib.core.files import project_path, read_json
from lib.evaluation.bootstrap import METRICS, bootstrap, weighted_metrics
from lib.evaluation.metrics import (
    SCHEMA,
    SCHEMA_VERSION,
    check_metrics,
    describe_accuracy,
    evaluate,
    evaluate_test,
    expected_calibration_error,
    fpr_at_95_tpr,
    in_order,
    is_balanced,
    mcnemar,
    percent,
    proportion,
    threshold_table,
)
from lib.evaluation.predictions import LOGITS, TTA_LOGITS, probability_fake


def table(logit_fake: np.ndarray, label: np.ndarray, split: str = "test") -> pd.DataFrame:
    columns = {"file": "x.jpg", "split": split, "label": label, "object_class": "cat", "leaked": False}
    return pd.DataFrame({**columns, LOGITS[0]: logit_fake, LOGITS[1]: 0.0})


def test_wilson_interval_of_a_published_example() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263.
    estimate = proportion(81, 263)
    assert (round(estimate["ci_low"], 4), round(estimate["ci_high"], 4), estimate["n"]) == (0.2553, 0.3662, 263)


def test_probability_of_fake_is_the_softmax() -> None:
    assert probability_fake(table(np.array([0.0, np.log(3.0)]), np.array([0, 1]))).tolist() == [0.5, 0.75]


LIBRARY = {
    "balanced_accuracy": lambda y, p: sk.balanced_accuracy_score(y, p > 0.5),
    "f1_FAKE": lambda y, p: sk.f1_score(y, p > 0.5),
    "f1_REAL": lambda y, p: sk.f1_score(~y, p <= 0.5),
    "roc_auc": sk.roc_auc_score,
    "average_precision": sk.average_precision_score,
    "brier_score": sk.brier_score_loss,
    "log_loss": sk.log_loss,
    "expected_calibration_error": lambda y, p: expected_calibration_error(1 - y, p),
    "fpr_at_95_tpr": lambda y, p: fpr_at_95_tpr(1 - y, p),
}


@pytest.mark.parametrize("digits", [None, 2, 0])
def test_metrics_of_a_resample_are_those_of_the_libraries(digits: int | None) -> None:
    rng = np.random.default_rng(0)
    label = rng.permutation(np.repeat([0, 1], [300, 200]))
    p_fake = 1 / (1 + np.exp(-rng.normal(np.where(label == 0, 1, -1), 2)))
    p_fake = p_fake if digits is None else p_fake.round(digits)  # ties, and at 0 digits nothing but 0 and 1
    weights = np.stack([np.ones(500), rng.integers(0, 3, 500)])
    computed = weighted_metrics(label, p_fake, weights)
    assert set(computed) == set(LIBRARY) == set(METRICS)
    for row, weight in enumerate(weights.astype(int)):
        images = np.repeat(np.arange(500), weight)
        for name, function in LIBRARY.items():
            expected = function(label[images] == 0, p_fake[images])
            assert computed[name][row] == pytest.approx(expected, abs=1e-6), name


def test_bootstrap_interval_has_the_width_of_theory() -> None:
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 1000)
    p_fake = 1 / (1 + np.exp(-np.where(label == 0, rng.normal(1, 1, 2000), rng.normal(0, 1, 2000))))
    low, high = bootstrap(label, p_fake)["roc_auc"]
    # Hanley & McNeil (1982): the standard error of a ROC AUC of 0.76 with 1000 images a class.
    a, n = sk.roc_auc_score(label == 0, p_fake), 1000
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = np.sqrt((a * (1 - a) + (n - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / n**2)
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert low < a < high


def test_interval_of_the_calibration_error_is_corrected_for_bias() -> None:
    # Calibrated probabilities: resampling alone would put the whole interval above the error of the images themselves.
    rng = np.random.default_rng(0)
    p_fake = rng.uniform(0, 1, 1000)
    label = np.where(rng.uniform(0, 1, 1000) < p_fake, 0, 1)
    low, high = bootstrap(label, p_fake)["expected_calibration_error"]
    assert low < expected_calibration_error(label, p_fake) < high


def test_fpr_at_95_tpr_by_hand() -> None:
    label = np.array([0] * 20 + [1] * 10)
    p_fake = np.concatenate([np.linspace(0.99, 0.80, 20), np.linspace(0.815, 0.2, 10)])
    assert fpr_at_95_tpr(label, p_fake) == 0.1, "at 0.81, 19 of 20 are true positives and one of ten a false positive"


def test_calibration_error_of_calibrated_and_of_overconfident_probabilities() -> None:
    rng = np.random.default_rng(0)
    p_fake = rng.uniform(0, 1, 100_000)
    label = np.where(rng.uniform(0, 1, 100_000) < p_fake, 0, 1)
    assert expected_calibration_error(label, p_fake) < 0.01
    # A confidence of 0.999, correct three times in four.
    label = np.repeat([0, 0, 0, 1], 25)
    assert expected_calibration_error(label, np.full(100, 0.999)) == pytest.approx(0.249, abs=1e-6)


def test_mcnemar_by_hand() -> None:
    first = np.array([True] * 90 + [False] * 10)
    second = np.array([True] * 80 + [False] * 10 + [True] * 2 + [False] * 8)
    result = mcnemar(first, second)
    assert (result["only_first_correct"], result["only_second_correct"], result["difference"]) == (10, 2, 0.08)
    assert result["p_value"] == pytest.approx(2 * (1 + 12 + 66) / 2**12)  # both tails of a fair coin, 12 tosses
    margin = 1.959964 * np.sqrt(12 - 8**2 / 100) / 100
    assert (result["ci_low"], result["ci_high"]) == pytest.approx((0.08 - margin, 0.08 + margin))
    assert mcnemar(first, first)["p_value"] == 1.0


def test_test_metrics_exclude_validation_and_separate_the_leaks() -> None:
    label = np.tile([0, 1], 50)
    test = table(np.where(label == 0, 2.0, -2.0), label)
    test.loc[0, LOGITS[0]] = -2.0  # one error, on a copy of a training image
    test.loc[0, "leaked"] = True
    wrong = table(np.where(label == 0, -2.0, 2.0), label, "val")
    predictions = pd.concat([wrong, test], ignore_index=True)
    for columns in TTA_LOGITS.values():
        predictions[columns] = predictions[LOGITS]
    predictions.loc[101, TTA_LOGITS["without_tta"][0]] = 2.0  # and one error that flip TTA corrects
    metrics = evaluate_test(predictions)
    assert metrics["test"]["accuracy"] == proportion(99, 100)
    assert metrics["test"]["recall"]["FAKE"] == proportion(49, 50)
    assert metrics["test"]["precision"] == {"FAKE": proportion(49, 49), "REAL": proportion(50, 51)}
    assert metrics["test"]["specificity"] == proportion(50, 50)
    assert metrics["test_without_leaks"]["accuracy"] == proportion(99, 99)
    assert metrics["without_tta"]["accuracy"] == proportion(98, 100)
    assert metrics["with_tta"] == metrics["test"]
    assert metrics["object_class"]["cat"]["accuracy"]["n"] == 100


def test_one_class_alone_is_an_input_error() -> None:
    with pytest.raises(InputError, match="10 images of 1 classes cannot be evaluated"):
        evaluate(table(np.ones(10), np.zeros(10, int)))


def unbalanced(found: int, accused: int = 0) -> dict[str, object]:
    """Return the metrics of a network that predicts FAKE for `found` of 60 FAKE and for `accused` of 900 REAL."""
    margin = np.concatenate(
        [np.repeat([2.0, -2.0], [found, 60 - found]), np.repeat([2.0, -2.0], [accused, 900 - accused])]
    )
    return evaluate(table(margin, np.repeat([0, 1], [60, 900])))


def test_the_baseline_is_the_majority_class() -> None:
    metrics = unbalanced(found=0)
    assert metrics["majority_class_accuracy"] == metrics["accuracy"] == proportion(900, 960)
    assert describe_accuracy(metrics).startswith(
        "Balanced accuracy 50.00 % [50.00, 50.00] is not significantly above chance level, 50.00 %; accuracy 93.75 % "
        "[92.04, 95.11] is not significantly above the majority class"
    )
    assert next(iter(in_order(metrics))) == "balanced_accuracy"
    # The rare class is found, at the price of an accuracy below that of the majority class.
    text = describe_accuracy(unbalanced(found=60, accused=90))
    assert "is not significantly above the majority class, 93.75 %" in text
    assert "is above chance level" in text
    assert "is above the majority class, 93.75 %" in describe_accuracy(unbalanced(found=55))


@pytest.mark.parametrize(("fake", "real", "expected"), [(100, 100, True), (9622, 10_000, True), (60, 900, False)])
def test_balanced_accuracy_is_shown_where_classes_are_unbalanced(fake: int, real: int, expected: bool) -> None:
    metrics = {"accuracy": proportion(real, fake + real), "majority_class_accuracy": proportion(real, fake + real)}
    metrics["balanced_accuracy"] = proportion(1, 2)
    assert is_balanced(metrics) is expected
    assert ("alanced accuracy" in describe_accuracy(metrics)) is not expected


def test_an_object_class_of_one_class_alone_is_left_out() -> None:
    predictions = table(np.tile([1.0, -1.0], 20), np.tile([0, 1], 20))
    predictions.loc[::4, "object_class"] = "ship"  # FAKE alone
    for columns in TTA_LOGITS.values():
        predictions[columns] = predictions[LOGITS]
    assert list(evaluate_test(predictions)["object_class"]) == ["cat"]


def test_threshold_table_by_hand() -> None:
    rows = threshold_table(table(np.array([3.0, 0.5, -0.5, -3.0]), np.array([0, 1, 0, 1])), (0.3, 0.5, 0.99))
    assert rows["FAKE recall"].str.split(" %").str[0].tolist() == ["100.00", "50.00", "0.00"]
    assert rows["false positive rate"].str.split(" %").str[0].tolist() == ["50.00", "50.00", "0.00"]
    assert rows["precision"].iloc[-1] == "–", "nothing is predicted FAKE"


def test_percent() -> None:
    assert percent({"value": 0.9712, "ci_low": 0.9687, "ci_high": 0.97339}) == "97.12 % [96.87, 97.34]"


def test_schema_has_the_version_that_is_written() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    assert schema["properties"]["schema_version"]["const"] == SCHEMA_VERSION
    assert schema["required"] == list(schema["properties"])
    released = read_json(project_path("outputs/reference/metrics.json"))
    assert check_metrics(released) is released
    with pytest.raises(InputError, match=r"metrics.json.schema_version must be"):
        check_metrics(released | {"schema_version": SCHEMA_VERSION + 1})
