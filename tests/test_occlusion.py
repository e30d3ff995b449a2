"""Where a network looks: maps that are known beforehand, and the explanation that the service sends."""

import io
import urllib.request
from functools import partial

import numpy as np
import pytest
from conftest import encoded
from fastapi.testclient import TestClient
from PIL import Image

from lib.model import Model, released
from lib.occlusion import PATCH, evidence_map
from lib.service import create_app


def logits_of_corners(pixels: np.ndarray) -> np.ndarray:
    """Say FAKE for a bright upper left quarter, REAL for a bright lower right one, and see nothing else."""
    return np.stack([pixels[:, :16, :16].mean((1, 2, 3)), pixels[:, 16:, 16:].mean((1, 2, 3))], 1)


@pytest.fixture
def corners() -> np.ndarray:
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:16, :16] = pixels[16:, 16:] = 200
    return pixels


def test_the_map_points_at_the_evidence_with_its_sign(corners: np.ndarray) -> None:
    evidence = evidence_map(logits_of_corners, corners)
    assert evidence.shape == (32, 32)
    assert evidence[:16, :16].min() > 0 > evidence[16:, 16:].max()
    assert evidence.max() == evidence[:16, :16].max()
    assert np.allclose(evidence, -evidence[::-1, ::-1]), "both corners weigh the same"
    # A whole square of mean colour (100, where 200 was) takes PATCH² of 16² pixels down by half.
    assert evidence[7, 7] == pytest.approx(100 * (PATCH / 16) ** 2, rel=0.25)


def test_what_no_square_reaches_has_no_evidence(corners: np.ndarray) -> None:
    evidence = evidence_map(lambda pixels: logits_of_corners(pixels) * [1, 0], corners)
    assert (evidence[:16, :16] > 0).all()
    assert (evidence[16 + PATCH :] == 0).all()
    assert (evidence[:, 16 + PATCH :] == 0).all()


def test_the_service_explains_when_asked_to() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    with TestClient(create_app()) as client:
        files = {"data": ("picture", encoded(pixels, "PNG"))}
        plain = client.post("/predict/", files=files).json()
        answer = client.post("/predict/?explain=true", files=files).json()
    explanation = answer.pop("explanation")
    assert answer == plain
    with urllib.request.urlopen(explanation["view"]) as view:
        assert (np.asarray(Image.open(io.BytesIO(view.read()))) == pixels).all()
    thorough = partial(Model(released()).logits, thorough=True)
    assert explanation["evidence"] == evidence_map(thorough, pixels).round(3).tolist()
