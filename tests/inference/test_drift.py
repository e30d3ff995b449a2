"""Drift tests: the same p-values as scipy's, no more false positives than stated, and statistics of known images."""

import numpy as np
import pytest
from scipy import stats

from lib.evaluation.drift_rates import detection_rates, features_test, rates_table
from lib.inference.drift import STATISTICS, DriftTest, image_statistics, save_reference


@pytest.mark.parametrize("size", [2, 10, 400])
@pytest.mark.parametrize("digits", [6, 1])
def test_p_value_is_that_of_scipy(size: int, digits: int) -> None:
    rng = np.random.default_rng(0)
    reference, batch = (rng.normal(shift, 1, (n, 5)).round(digits) for shift, n in ((0, 700), (0.1, size)))
    pairs = zip(reference.T, batch.T, strict=True)
    least = min(stats.ks_2samp(*pair, method="asymp").pvalue for pair in pairs)
    assert DriftTest(reference).p_value(batch) == pytest.approx(min(1.0, 5 * least))


@pytest.mark.slow
def test_false_positives_are_no_more_than_stated_and_drift_is_detected() -> None:
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(40, 40))
    known, fresh = (rng.normal(size=(n, 40)) @ mix for n in (2000, 5000))
    test = features_test(known)
    assert test.reference.shape == (2000, 16)
    same = detection_rates(test, fresh, batches=300, sizes=(10, 100, 1000))
    assert all(rate["value"] <= 0.05 + 0.03 for rate in same.values())
    drifted = detection_rates(test, fresh + mix[0], batches=100, sizes=(10, 100, 1000))
    detected = [rate["value"] for rate in drifted.values()]
    assert detected == sorted(detected)
    assert detected[-1] == 1.0


def test_no_batch_is_larger_than_the_number_of_images() -> None:
    images = np.random.default_rng(0).normal(size=(50, 3))
    rates = detection_rates(DriftTest(images), images, batches=4)
    assert list(rates) == ["10", "30"]
    table = rates_table({"few": rates, "many": {**rates, "100": rates["10"]}})
    assert table.loc["few", "100 images"] == "–"


def test_statistics_of_known_images() -> None:
    def of(image: np.ndarray) -> dict[str, float]:
        return dict(zip(STATISTICS, image_statistics(image[None].astype(np.uint8))[0].tolist(), strict=True))

    flat = of(np.full((32, 32, 3), 90))
    assert flat.pop("luma mean") == pytest.approx(90, abs=1e-3)
    assert all(abs(value) < 1e-3 for value in flat.values())
    blue = of(np.broadcast_to([0, 0, 255], (32, 32, 3)))
    assert (blue["blue"], blue["red"]) == (pytest.approx(127.5, abs=0.1), pytest.approx(-20.7, abs=0.1))
    place = np.arange(32)
    blocks = of(np.broadcast_to((100 + 20 * (place // 8 % 2))[None, :, None], (32, 32, 3)))
    assert blocks["blockiness"] == pytest.approx(np.log(21), abs=0.01)
    board = of(np.broadcast_to(((place[:, None] + place) % 2 * 40)[:, :, None], (32, 32, 3)))
    assert board["finest detail"] == pytest.approx(np.log(81), abs=0.01)
    assert board["sharpness"] > blocks["sharpness"]


def test_reference_can_be_read_without_the_project(tmp_path) -> None:
    save_reference(tmp_path / "drift.npz", np.ones((5, 8), np.float32))
    with np.load(tmp_path / "drift.npz", allow_pickle=False) as saved:
        assert saved["names"].tolist() == list(STATISTICS)
        assert saved["statistics"].shape == (5, 8)
