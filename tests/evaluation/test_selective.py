"""Calibration and selective classification: known temperatures; guarantees over many simulated validation sets."""

import numpy as np
import pandas as pd
import pytest

from lib.evaluation.calibration import at_temperature, confidence, fit_temperature
from lib.evaluation.metrics import expected_calibration_error
from lib.evaluation.predictions import LOGITS, is_correct, probability_fake
from lib.evaluation.selective import (
    conformal_quantiles,
    evaluate_conformal,
    evaluate_selective,
    risk_coverage,
    selective_threshold,
)


def simulated(n: int, seed: int, overconfidence: float = 1.0) -> pd.DataFrame:
    """Return predictions of n images that are calibrated, but for logits that are `overconfidence` times too large."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(0, 4, n)
    label = np.where(rng.uniform(size=n) < 1 / (1 + np.exp(-margin)), 0, 1)
    return pd.DataFrame({"label": label, LOGITS[0]: overconfidence * margin, LOGITS[1]: 0.0})


def test_temperature_is_the_factor_of_overconfidence() -> None:
    temperature = fit_temperature(simulated(20_000, 0, overconfidence=2.5))
    assert temperature == pytest.approx(2.5, rel=0.05)
    fresh = simulated(20_000, 1, overconfidence=2.5)
    calibrated = at_temperature(fresh, temperature)
    before, after = (
        expected_calibration_error(table["label"].to_numpy(), probability_fake(table)) for table in (fresh, calibrated)
    )
    assert before > 0.05
    assert after < 0.01
    assert (is_correct(fresh) == is_correct(calibrated)).all()


def test_risk_and_coverage_by_hand() -> None:
    table = pd.DataFrame({"label": [0, 1, 1, 0], LOGITS[0]: [3.0, 2.0, -1.0, 0.5], LOGITS[1]: 0.0})
    coverage, risk = risk_coverage(table)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == [0, 0.5, pytest.approx(1 / 3), 0.25], "the second most confident is the one that is wrong"


@pytest.mark.slow
def test_target_risk_holds_for_nearly_all_validation_sets() -> None:
    population = simulated(200_000, 99)
    confidences, wrong = confidence(population), ~is_correct(population)
    risks = [
        wrong[confidences >= threshold].mean()
        for threshold in (selective_threshold(simulated(2000, seed), 0.05) for seed in range(200))
        if threshold is not None
    ]
    assert len(risks) > 190, "nearly every validation set allows a threshold"
    assert np.mean(np.array(risks) > 0.05) < 0.08  # delta is 5 %, of 200 sets
    assert np.median(risks) > 0.03, "the threshold abstains on far more images than needed"


def test_no_threshold_where_none_gives_the_guarantee() -> None:
    assert selective_threshold(simulated(100, 0), 0.001) is None
    assert selective_threshold(simulated(5000, 0), 0.45) == pytest.approx(0.5, abs=0.01), "all are classified"


def test_selective_metrics_by_hand() -> None:
    table = pd.DataFrame({"label": [0, 0, 1, 1], LOGITS[0]: [3.0, -0.1, 0.2, 4.0], LOGITS[1]: 0.0})
    metrics = evaluate_selective(table, 0.9)
    values = {name: metrics[name]["value"] for name in ("coverage", "risk", "risk_of_abstained")}
    assert values == {"coverage": 0.5, "risk": 0.5, "risk_of_abstained": 1.0}
    assert metrics["coverage_by_class"]["FAKE"]["value"] == 0.5
    assert evaluate_selective(table, np.inf)["risk"]["value"] is None, "no image is classified"


def test_conformal_coverage_of_each_class_is_guaranteed() -> None:
    covered = {"FAKE": [], "REAL": []}
    fresh = simulated(50_000, 77)
    for seed in range(60):
        metrics = evaluate_conformal(fresh, conformal_quantiles(simulated(500, seed), 0.1))
        for name, shares in covered.items():
            shares.append(metrics["coverage"][name]["value"])
        assert sum(metrics[key]["value"] for key in ("singleton", "both_classes", "empty")) == pytest.approx(1)
    for shares in covered.values():
        assert 0.9 <= np.mean(shares) < 0.915  # from 1 − alpha to less than 1 / (n + 1) above it
    few = simulated(5, 0)
    assert 1.0 in conformal_quantiles(few, 0.01).values(), "too few images to exclude a class"
