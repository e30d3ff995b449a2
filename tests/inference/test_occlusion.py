"""Saliency maps by occlusion: maps that are known beforehand, and the explanation that the service returns."""

import io
import urllib.request
from functools import partial

import numpy as np
import pytest
from conftest import encoded
from fastapi.testclient import TestClient
from PIL import Image

from lib.inference.occlusion import PATCH, saliency_map
from lib.inference.predictor import Predictor, default_model_path
from lib.serving.app import create_app


def logits_of_corners(pixels: np.ndarray) -> np.ndarray:
    """Return as logits the mean of the upper left quarter for FAKE, and of the lower right one for REAL."""
    return np.stack([pixels[:, :16, :16].mean((1, 2, 3)), pixels[:, 16:, 16:].mean((1, 2, 3))], 1)


@pytest.fixture
def corners() -> np.ndarray:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :16] = pixels[16:, 16:] = 200
    return pixels


def test_saliency_is_where_the_logits_come_from_with_their_sign(corners: np.ndarray) -> None:
    saliency = saliency_map(logits_of_corners, corners)
    assert saliency.shape == (32, 32)
    assert saliency[:16, :16].min() > 0 > saliency[16:, 16:].max()
    assert saliency.max() == saliency[:16, :16].max()
    assert np.allclose(saliency, -saliency[::-1, ::-1]), "both corners weigh the same"
    # A whole square of mean colour (100, where 200 was) takes PATCH² of 16² pixels down by half.
    assert saliency[7, 7] == pytest.approx(100 * (PATCH / 16) ** 2, rel=0.25)


def test_pixels_beyond_all_relevant_squares_have_no_saliency(corners: np.ndarray) -> None:
    saliency = saliency_map(lambda pixels: logits_of_corners(pixels) * [1, 0], corners)
    assert (saliency[:16, :16] > 0).all()
    assert (saliency[16 + PATCH :] == 0).all()
    assert (saliency[:, 16 + PATCH :] == 0).all()


def test_the_service_returns_an_explanation_on_request() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with TestClient(create_app()) as client:
        files = {"data": ("image", encoded(pixels, "PNG"))}
        plain = client.post("/predict/", files=files).json()
        answer = client.post("/predict/?explain=true", files=files).json()
    explanation = answer.pop("explanation")
    assert answer == plain
    with urllib.request.urlopen(explanation["input_image"]) as image:
        assert (np.asarray(Image.open(io.BytesIO(image.read()))) == pixels).all()
    full_cascade = partial(Predictor(default_model_path()).logits, full_cascade=True)
    assert explanation["saliency"] == saliency_map(full_cascade, pixels).round(3).tolist()
