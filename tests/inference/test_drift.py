"""Drift tests: p-values within predicted classes, those of scipy; small classes, ties; statistics of known images."""

import numpy as np
import pytest
from scipy import stats

from lib.core.errors import InputError
from lib.inference.drift import ALPHA, STATISTICS, DriftTest, image_statistics, read_reference, save_reference
from lib.inference.drift_monitor import DriftMonitor
from lib.reporting.release import REFERENCE

HALVES = np.repeat([0, 1], 700)


@pytest.mark.parametrize("size", [5, 10, 400])
@pytest.mark.parametrize("digits", [6, 1])
def test_p_values_are_those_of_scipy_within_each_class(size: int, digits: int) -> None:
    rng = np.random.default_rng(0)
    reference, batch = (rng.normal(shift, 1, (2 * n, 5)).round(digits) for shift, n in ((0, 700), (0.1, size)))
    predicted = np.arange(2 * size) % 2
    expected = {}
    for label, name in enumerate(("FAKE", "REAL")):
        pairs = zip(reference[label == HALVES].T, batch[predicted == label].T, strict=True)
        expected[name] = min(1.0, 10 * min(stats.ks_2samp(*pair, method="asymp").pvalue for pair in pairs))
    assert DriftTest(reference, HALVES).p_values(batch, predicted) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("num_fake", "num_real", "tested"),
    [
        (4, 36, ["REAL"]),  # too few images
        (5, 36, ["FAKE", "REAL"]),
        (9, 91, ["REAL"]),  # too small a share
        (10, 90, ["FAKE", "REAL"]),
        (20, 0, ["FAKE"]),
        (3, 4, []),
    ],
)
def test_a_class_of_few_images_is_left_out_and_not_corrected_for(
    num_fake: int, num_real: int, tested: list[str]
) -> None:
    rng = np.random.default_rng(0)
    reference, batch = rng.normal(size=(1400, 3)), rng.normal(size=(num_fake + num_real, 3))
    predicted = np.repeat([0, 1], [num_fake, num_real])
    p_values = DriftTest(reference, HALVES).p_values(batch, predicted)
    assert list(p_values) == tested
    if len(tested) == 1:
        label = ["FAKE", "REAL"].index(tested[0])
        pairs = zip(reference[label == HALVES].T, batch[predicted == label].T, strict=True)
        least = min(stats.ks_2samp(*pair, method="asymp").pvalue for pair in pairs)
        assert p_values[tested[0]] == pytest.approx(min(1.0, 3 * least))


def test_a_class_without_enough_images_in_the_reference_is_left_out() -> None:
    images = np.random.default_rng(0).normal(size=(1400, 3))
    predicted = np.arange(200) % 2
    for num_fake, tested in ((0, ["REAL"]), (99, ["REAL"]), (100, ["FAKE", "REAL"])):
        test = DriftTest(images, (np.arange(1400) >= num_fake).astype(int))
        assert list(test.p_values(images[:200], predicted)) == tested


def test_ties_make_p_values_larger() -> None:
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 4, (1400, 2)).astype(float)
    test = DriftTest(reference, HALVES)
    constant = DriftTest(np.zeros((1400, 2)), HALVES).p_values(np.zeros((60, 2)), np.arange(60) % 2)
    assert constant == {"FAKE": 1.0, "REAL": 1.0}
    batches = (rng.integers(0, 4, (60, 2)).astype(float) for _ in range(400))
    detected = sum(min(test.p_values(batch, np.arange(60) % 2).values()) < ALPHA for batch in batches)
    assert detected <= 0.05 * 400


@pytest.mark.parametrize("size", [5, 20, 100])
@pytest.mark.parametrize("m", [100, 300])
def test_p_values_of_a_small_reference_are_near_the_exact_ones(m: int, size: int) -> None:
    rng, ratios = np.random.default_rng(0), []
    for shift in np.linspace(2, 5, 40) / np.sqrt(size):
        reference, batch = rng.normal(size=m), rng.normal(shift, size=size)
        exact, ours = (stats.ks_2samp(reference, batch, method=method).pvalue for method in ("exact", "asymp"))
        if 0.001 < ours < 0.05:
            ratios.append(exact / ours)
    assert len(ratios) > 3
    assert 0.9 < min(ratios) <= max(ratios) < 1.7


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
    save_reference(tmp_path / "drift.npz", np.ones((5, 8), np.float32), np.array([0, 1, 1, 0, 1]))
    with np.load(tmp_path / "drift.npz", allow_pickle=False) as saved:
        assert saved["names"].tolist() == list(STATISTICS)
        assert saved["statistics"].shape == (5, 8)
        assert saved["predicted"].tolist() == [0, 1, 1, 0, 1]
    assert read_reference(tmp_path / "drift.npz").predicted.tolist() == [0, 1, 1, 0, 1]


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        (None, "drift.npz is of an earlier version, without predicted classes: take it from the same release as the"),
        (np.zeros(4, np.uint8), "drift.npz does not hold one predicted class for each image: .* run 04_evaluate again"),
        (np.full(5, 2, np.uint8), "does not hold one predicted class for each image"),
        (np.zeros(5), "does not hold one predicted class for each image"),
    ],
)
def test_a_reference_without_its_classes_is_refused(tmp_path, predicted: np.ndarray | None, message: str) -> None:
    arrays = {"names": np.array(STATISTICS), "statistics": np.ones((5, 8), np.float32)}
    np.savez(tmp_path / "drift.npz", **arrays, **({} if predicted is None else {"predicted": predicted}))
    with pytest.raises(InputError, match=message):
        read_reference(tmp_path / "drift.npz")


def test_released_reference_is_small_and_of_both_classes() -> None:
    counts = np.bincount(read_reference(REFERENCE / "drift.npz").predicted)
    assert len(counts) == 2
    assert abs(counts[0] - counts[1]) < 0.05 * counts.sum()
    assert (REFERENCE / "drift.npz").stat().st_size <= 400_000


def test_a_monitor_tests_full_windows_by_class_as_the_test_does() -> None:
    test = read_reference(REFERENCE / "drift.npz")
    images = np.random.default_rng(1).integers(0, 256, (70, 32, 32, 3), np.uint8)
    predictions = ["FAKE" if count % 5 else "REAL" for count in range(70)]
    monitor = DriftMonitor(test, 50)
    for count, (image, prediction) in enumerate(zip(images, predictions, strict=True), 1):
        monitor.add(image, prediction)
        monitor.update()
        assert np.isnan(monitor.p_value("FAKE")) == (count < 50), "a part of a window is never tested"
    assert (monitor.num_images("FAKE"), monitor.num_images("REAL")) == (40, 10)
    expected = test.p_values(image_statistics(images[-50:]), np.array([p == "REAL" for p in predictions[-50:]]) * 1)
    assert monitor.p_values == expected
    assert expected.keys() == {"FAKE", "REAL"}
    assert monitor.is_drift
    for _ in range(50):
        monitor.add(images[0], "REAL")
    monitor.update()
    assert np.isnan(monitor.p_value("FAKE")), "no image of the window is of it"
    assert not DriftMonitor(test, 50, {"FAKE": 1.0, "REAL": 0.06}).is_drift
    assert DriftMonitor(test, 50, {"FAKE": 1.0, "REAL": 0.04}).is_drift
