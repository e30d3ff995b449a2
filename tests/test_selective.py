"""Calibration and UNSURE: temperatures that are known, and promises kept over many simulated validation sets."""

import numpy as np
import pandas as pd
import pytest

from lib.calibration import at_temperature, confidence, fit_temperature
from lib.metrics import calibration_error
from lib.predictions import LOGITS, is_right, probability_fake
from lib.selective import (
    conformal_quantiles,
    evaluate_conformal,
    evaluate_unsure,
    risk_coverage,
    unsure_below,
)


def simulated(n: int, seed: int, boast: float = 1.0) -> pd.DataFrame:
    """Return n images whose probabilities are honest, but for logits that are `boast` times too large."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(0, 4, n)
    label = np.where(rng.uniform(size=n) < 1 / (1 + np.exp(-margin)), 0, 1)
    return pd.DataFrame({"label": label, LOGITS[0]: boast * margin, LOGITS[1]: 0.0})


def test_temperature_finds_by_how_much_a_network_boasts() -> None:
    boasting = simulated(20_000, 0, boast=2.5)
    temperature = fit_temperature(boasting)
    assert temperature == pytest.approx(2.5, rel=0.05)
    fresh = simulated(20_000, 1, boast=2.5)
    honest = at_temperature(fresh, temperature)
    before, after = (calibration_error(table["label"].to_numpy(), probability_fake(table)) for table in (fresh, honest))
    assert before > 0.05
    assert after < 0.01
    assert (is_right(fresh) == is_right(honest)).all()


def test_risk_and_coverage_by_hand() -> None:
    table = pd.DataFrame({"label": [0, 1, 1, 0], LOGITS[0]: [3.0, 2.0, -1.0, 0.5], LOGITS[1]: 0.0})
    coverage, risk = risk_coverage(table)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert risk.tolist() == [0, 0.5, pytest.approx(1 / 3), 0.25], "the second surest is the one that is wrong"


def test_stated_error_is_kept_for_nearly_all_validation_sets() -> None:
    population = simulated(200_000, 99)
    sure, wrong = confidence(population), ~is_right(population)
    truth = [
        wrong[sure >= threshold].mean()
        for threshold in (unsure_below(simulated(2000, seed), 0.05) for seed in range(200))
        if threshold is not None
    ]
    assert len(truth) > 190, "nearly every validation set allows a threshold"
    assert np.mean(np.array(truth) > 0.05) < 0.08  # 5 % promised, 200 sets
    assert np.median(truth) > 0.03, "a threshold that withholds far more than it must is no use"


def test_no_threshold_where_none_can_keep_the_promise() -> None:
    assert unsure_below(simulated(100, 0), 0.001) is None
    assert unsure_below(simulated(5000, 0), 0.45) == pytest.approx(0.5, abs=0.01), "all are answered"


def test_what_a_threshold_withholds_by_hand() -> None:
    table = pd.DataFrame({"label": [0, 0, 1, 1], LOGITS[0]: [3.0, -0.1, 0.2, 4.0], LOGITS[1]: 0.0})
    found = evaluate_unsure(table, 0.9)
    values = {name: found[name]["value"] for name in ("coverage", "error", "error_of_unsure")}
    assert values == {"coverage": 0.5, "error": 0.5, "error_of_unsure": 1.0}
    assert found["coverage_of"]["FAKE"]["value"] == 0.5
    assert evaluate_unsure(table, np.inf)["error"]["value"] is None, "none is answered"


def test_conformal_sets_hold_each_class_as_often_as_promised() -> None:
    covered = {"FAKE": [], "REAL": []}
    fresh = simulated(50_000, 77)
    for seed in range(60):
        found = evaluate_conformal(fresh, conformal_quantiles(simulated(500, seed), 0.1))
        for name, shares in covered.items():
            shares.append(found["coverage"][name]["value"])
        assert sum(found[key]["value"] for key in ("one_class", "both_classes", "no_class")) == pytest.approx(1)
    for shares in covered.values():
        assert 0.9 <= np.mean(shares) < 0.915  # at least 1 − miss, and not idle: the surplus is below 1 / (n + 1)
    few = simulated(5, 0)
    assert 1.0 in conformal_quantiles(few, 0.01).values(), "too few images to exclude anything"
