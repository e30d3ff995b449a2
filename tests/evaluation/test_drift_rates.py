"""Detection rates of drift tests: false positives at any mixture of the classes, drift in one class of a mixture."""

import numpy as np
import pytest

from lib.evaluation.drift_rates import (
    BATCH_SIZES,
    MIXTURES,
    detection_rates,
    features_test,
    rates_by_share,
    rates_table,
)
from lib.inference.drift import DriftTest

ERROR = 0.01  # of the network's predictions


def images_of(num: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores (N×4) of two classes that differ in all of them, their predicted classes, and which are FAKE."""
    rng = np.random.default_rng(seed)
    label = np.arange(num) % 2
    predicted = np.where(rng.random(num) < ERROR, 1 - label, label)
    return rng.normal(np.where(label, 0.5, -0.5)[:, None], 1, (num, 4)), predicted, label == 0


@pytest.fixture(scope="module")
def by_class() -> DriftTest:
    return DriftTest(*images_of(10_000, seed=0)[:2])


@pytest.mark.parametrize("size", [10, 100, pytest.param(1000, marks=pytest.mark.slow)])
def test_false_positive_rate_is_at_most_alpha_at_any_mixture(by_class: DriftTest, size: int) -> None:
    rates = rates_by_share(by_class, *images_of(20_000, seed=1), batches=200, sizes=(size,))
    assert list(rates) == [f"{share:.0%}" for share in MIXTURES]
    rates = [by_size[str(size)] for by_size in rates.values()]
    assert all(rate["n"] == 200 for rate in rates)
    assert all(rate["ci_low"] <= 0.05 for rate in rates)
    assert 0.02 < np.mean([rate["value"] for rate in rates]) < 0.055


def test_a_test_of_all_images_together_detects_mixtures(by_class: DriftTest) -> None:
    """Show that the rates above are due to the predicted classes."""
    together = DriftTest(by_class.reference, np.zeros(10_000, int))
    images, predicted, group = images_of(6000, seed=1)
    rates = rates_by_share(together, images, 0 * predicted, group, batches=100, sizes=(100,))
    assert rates["50%"]["100"]["value"] < 0.12
    assert min(rates[f"{share}%"]["100"]["value"] for share in (0, 10, 100)) > 0.5


def test_drift_of_one_class_is_detected_in_a_mixture(by_class: DriftTest) -> None:
    images, predicted, is_fake = images_of(6000, seed=2)
    drifted = images + 0.8 * ~is_fake[:, None] * [1, 0, 0, 0]
    kept = np.flatnonzero(is_fake | (np.arange(6000) % 6 == 1))  # a quarter is REAL
    rates = detection_rates(by_class, drifted[kept], predicted[kept], batches=100, sizes=(30, 100, 300))
    detected = [rate["value"] for rate in rates.values()]
    assert detected == sorted(detected)
    assert detected[-1] > 0.95
    p_values = by_class.p_values(drifted[kept], predicted[kept])
    assert p_values["REAL"] < 1e-9
    assert p_values["FAKE"] > 0.05


def test_features_are_tested_on_their_first_components_within_classes() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(40, 40))
    known, fresh = (rng.normal(size=(n, 40)) @ mix for n in (2000, 3000))
    test = features_test(known, np.arange(2000) % 2)
    assert test.reference.shape == (2000, 16)
    predicted = np.arange(3000) % 2
    same = detection_rates(test, fresh, predicted, batches=150, sizes=(10, 100, 1000))
    assert all(rate["ci_low"] <= 0.05 for rate in same.values())
    drifted = detection_rates(test, fresh + mix[0], predicted, batches=20, sizes=(1000,))
    assert drifted["1000"]["value"] == 1.0


def test_what_cannot_be_tested_counts_as_no_batch(by_class: DriftTest) -> None:
    few = [array[:50] for array in images_of(50, seed=3)]
    rates = rates_by_share(by_class, *few, batches=4)
    assert list(rates["50%"]) == [str(size) for size in BATCH_SIZES]
    assert [rate["n"] for rate in rates["50%"].values()] == [4, 4, 0, 0, 0]
    assert [rate["n"] for rate in rates["100%"].values()] == [4, 0, 0, 0, 0], "25 images are FAKE"
    table = rates_table({"statistics": rates})
    assert table.loc[("statistics", "100%"), "30 images"] == "–"
    unknown = DriftTest(by_class.reference[:50], by_class.predicted[:50])
    assert all(rate["n"] == 0 for rate in detection_rates(unknown, *few[:2], batches=4).values())
