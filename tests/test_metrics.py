"""Figures: known values, and simulations where there are none."""

import numpy as np
import pandas as pd
import pytest

from lib.metrics import area_under_roc, calibration_error, evaluate_test, mcnemar, percent, proportion
from lib.pack import Pack
from lib.predictions import LOGITS, load_predictions, probability_fake, save_predictions


def table(logit_fake: np.ndarray, label: np.ndarray, split: str = "test") -> pd.DataFrame:
    columns = {"file": "x.jpg", "split": split, "label": label, "object_class": "cat", "in_train": False}
    return pd.DataFrame({**columns, LOGITS[0]: logit_fake, LOGITS[1]: 0.0})


def test_wilson_interval_of_a_published_example() -> None:
    # Newcombe (1998), Statistics in Medicine 17, table I: 81 of 263.
    figure = proportion(81, 263)
    assert (round(figure["low"], 4), round(figure["high"], 4), figure["n"]) == (0.2553, 0.3662, 263)


def test_probability_of_fake_is_the_softmax() -> None:
    assert probability_fake(table(np.array([0.0, np.log(3.0)]), np.array([0, 1]))).tolist() == [0.5, 0.75]


def test_area_counts_pairs_in_order_and_ties_by_half() -> None:
    label, p_fake = np.array([0, 0, 1, 1]), np.array([0.9, 0.4, 0.4, 0.1])
    assert area_under_roc(label, p_fake)["value"] == pytest.approx(3.5 / 4)


def test_area_interval_is_that_of_theory() -> None:
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], 1000)
    figure = area_under_roc(label, np.where(label == 0, rng.normal(1, 1, 2000), rng.normal(0, 1, 2000)))
    # Hanley & McNeil (1982): the standard error of an area of 0.76 with 1000 images a class.
    a, n = figure["value"], 1000
    q1, q2 = a / (2 - a), 2 * a * a / (1 + a)
    error = np.sqrt((a * (1 - a) + (n - 1) * (q1 - a * a) + (n - 1) * (q2 - a * a)) / n**2)
    assert figure["high"] - figure["low"] == pytest.approx(2 * 1.96 * error, rel=0.15)
    assert figure["low"] < a < figure["high"]


def test_calibration_error_of_honest_and_of_boastful_probabilities() -> None:
    rng = np.random.default_rng(0)
    p_fake = rng.uniform(0, 1, 100_000)
    label = np.where(rng.uniform(0, 1, 100_000) < p_fake, 0, 1)
    assert calibration_error(label, p_fake) < 0.01
    # Always sure, and right three times in four.
    label = np.repeat([0, 0, 0, 1], 25)
    assert calibration_error(label, np.full(100, 0.999)) == pytest.approx(0.249, abs=1e-6)


def test_mcnemar_by_hand() -> None:
    ours = np.array([True] * 90 + [False] * 10)
    theirs = np.array([True] * 80 + [False] * 10 + [True] * 2 + [False] * 8)
    result = mcnemar(ours, theirs)
    assert (result["only_ours"], result["only_theirs"], result["difference"]) == (10, 2, 0.08)
    assert result["p_value"] == pytest.approx(2 * (1 + 12 + 66) / 2**12)  # both tails of a fair coin, 12 tosses
    margin = 1.959964 * np.sqrt(12 - 8**2 / 100) / 100
    assert (result["low"], result["high"]) == pytest.approx((0.08 - margin, 0.08 + margin))
    assert mcnemar(ours, ours)["p_value"] == 1.0


def test_test_figures_leave_out_validation_and_name_the_leak() -> None:
    label = np.tile([0, 1], 50)
    test = table(np.where(label == 0, 2.0, -2.0), label)
    test.loc[0, LOGITS[0]] = -2.0  # one mistake, and it is a copy of a training image
    test.loc[0, "in_train"] = True
    wrong = table(np.where(label == 0, -2.0, 2.0), label, "val")
    figures = evaluate_test(pd.concat([wrong, test], ignore_index=True))
    assert figures["test"]["accuracy"]["value"] == 0.99
    assert figures["test"]["recall"]["FAKE"]["value"] == 0.98
    assert figures["test_not_in_train"]["accuracy"] == proportion(99, 99)
    assert figures["accuracy_by_object_class"]["cat"]["n"] == 100


def test_percent() -> None:
    assert percent({"value": 0.9712, "low": 0.9687, "high": 0.97339}) == "97.12 % [96.87, 97.34]"


@pytest.fixture
def predictions(sample_pack: Pack) -> pd.DataFrame:
    index = sample_pack.index[sample_pack.index["split"] == "test"].reset_index(drop=True)
    logits = np.random.default_rng(0).normal(size=(len(index), 2)).astype(np.float32)
    return index[["file", "split", "label", "object_class", "in_train"]].assign(
        **dict(zip(LOGITS, logits.T, strict=True))
    )


def test_predictions_come_back_exactly(predictions: pd.DataFrame, sample_pack: Pack, tmp_path) -> None:
    save_predictions(tmp_path / "p.csv", predictions)
    loaded = load_predictions(tmp_path / "p.csv", sample_pack.facts)
    assert (loaded[LOGITS].to_numpy(np.float32) == predictions[LOGITS].to_numpy()).all()
    assert loaded.drop(columns=LOGITS).equals(predictions.drop(columns=LOGITS))


def test_predictions_that_cannot_be_right_are_refused(predictions: pd.DataFrame, sample_pack: Pack, tmp_path) -> None:
    path = tmp_path / "p.csv"
    bad = {
        "not finite": predictions.assign(logit_FAKE=np.nan),
        "no column 'label'": predictions.drop(columns="label"),
        "999 test images, not the 1000": predictions.iloc[1:],
    }
    for message, content in bad.items():
        content.to_csv(path, index=False)
        with pytest.raises(ValueError, match=message):
            load_predictions(path, sample_pack.facts)
    with pytest.raises(ValueError, match="is missing: run 04_evaluate"):
        load_predictions(tmp_path / "none.csv", sample_pack.facts)
