"""A single image far from the known ones is told from them, and blank ones always are."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from lib.core.errors import InputError
from lib.core.files import ROOT
from lib.core.input_rule import InputRule
from lib.inference.images import DecodedImage
from lib.inference.out_of_distribution import fit_distance, from_json, pixel_statistics
from lib.inference.predictor import Calibration, Predictor, default_model_path, warning

RNG = np.random.default_rng(0)


def known(count: int) -> np.ndarray:
    """Return smooth random images of 32×32 with a little noise."""
    smooth = ndimage.gaussian_filter(RNG.uniform(0, 255, (count, 32, 32, 3)), (0, 4, 4, 0))
    stretched = (smooth - smooth.mean()) * 12 + 128 + RNG.normal(0, 4, smooth.shape)
    return np.clip(stretched, 0, 255).astype(np.uint8)


def test_statistics_are_those_that_their_names_say() -> None:
    image = known(1)
    green, colour = image[0, ..., 1].astype(float), image[0, ..., 0].astype(float) - image[0, ..., 2]
    steps = np.diff(green, axis=1)
    details = [np.abs(it).mean() for it in (steps, np.diff(steps, axis=0), np.diff(steps, axis=1))]
    expected = [green.mean(), green.std(), colour.mean(), colour.std(), *np.log1p(details)]
    np.testing.assert_allclose(pixel_statistics(image)[0], expected, rtol=1e-5)


def test_false_alarms_of_each_class_are_as_few_as_asked_for() -> None:
    images, labels = known(1000), np.arange(1000) % 4 == 0
    test = fit_distance(images, labels, 0.05)
    beyond = test.beyond(images)
    assert max(beyond[labels].mean(), beyond[~labels].mean()) == pytest.approx(0.05, abs=0.005)
    assert test.beyond(known(1000)).mean() < 0.08
    assert test.beyond(RNG.integers(0, 256, (100, 32, 32, 3), np.uint8)).all()


def test_a_test_survives_json() -> None:
    test = fit_distance(known(100), np.zeros(100))
    content = json.loads(json.dumps(test.to_json()))
    images = known(20)
    np.testing.assert_array_equal(from_json(content).distances(images), test.distances(images))
    with pytest.raises(ValueError, match="its image statistics are others"):
        from_json(content | {"statistics": ["luma mean"]})


def blank(kind: str) -> np.ndarray:
    colours = np.concatenate([RNG.integers(0, 256, (60, 1, 1, 3)), np.zeros((1, 1, 1, 3)), np.full((1, 1, 1, 3), 255)])
    ramp = np.linspace(0, 1, 32)[:, None, None]
    squares = np.stack([(np.indices((32, 32)) // side).sum(0) % 2 for side in (1, 2, 4, 8, 16)])[..., None]
    images = {
        "constant": colours * np.ones((32, 32, 1)),
        "nearly constant": colours + RNG.normal(0, 1, (62, 32, 32, 3)),
        "a slow gradient": colours + ramp * RNG.uniform(-20, 20, (62, 1, 1, 3)) * np.ones((32, 32, 1)),
        "a checkerboard": np.concatenate([squares * colour + (1 - squares) * (255 - colour) for colour in colours]),
    }
    return np.clip(images[kind].round(), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["constant", "nearly constant", "a slow gradient", "a checkerboard"])
def test_the_released_network_is_unsure_of_blank_images(kind: str) -> None:
    predictions = Predictor(default_model_path()).predict(blank(kind))
    assert all(it.out_of_distribution and it.unsure for it in predictions)
    image = DecodedImage(blank(kind)[0], 32, 32, InputRule())
    assert "far from the training data" in warning(image, predictions[0])


def test_without_a_threshold_nothing_is_said() -> None:
    (prediction,) = Calibration().predictions(known(1), [3.0])
    assert (prediction.prediction, prediction.unsure, prediction.out_of_distribution) == ("FAKE", None, None)
    assert warning(DecodedImage(known(1)[0], 32, 32, InputRule()), prediction) is None
    (sure,) = Calibration(selective_threshold=0.6).predictions(known(1), [3.0])
    assert (sure.unsure, sure.out_of_distribution) == (False, None)


def test_a_network_for_another_input_rule_is_refused(tmp_path: Path) -> None:
    released = default_model_path()
    (tmp_path / "n.onnx").write_bytes(released.read_bytes())
    content = json.loads((ROOT / "outputs" / "reference" / "served.json").read_text(encoding="utf-8"))
    (tmp_path / "n.json").write_text(json.dumps(content | {"input_rule": 99}), encoding="utf-8")
    with pytest.raises(InputError, match="its input rule is 99, not one of 1, 2"):
        Predictor(tmp_path / "n.onnx")
