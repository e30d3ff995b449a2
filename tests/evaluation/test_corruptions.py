"""Corruptions: each compared with other libraries or with theory."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from lib.data.dataset import PackedDataset
from lib.evaluation import published
from lib.evaluation.corruptions import ROBUSTNESS, shifted_jpeg
from lib.evaluation.robustness import ALL_CORRUPTIONS, corrupted


@pytest.fixture(scope="module")
def images(sample_dataset: PackedDataset) -> np.ndarray:
    return np.array(sample_dataset.images[:40])


@pytest.mark.parametrize("name", ALL_CORRUPTIONS)
def test_corruption_changes_images_reproducibly(name: str, images: np.ndarray) -> None:
    torch.manual_seed(1)
    first = corrupted(images, ALL_CORRUPTIONS[name])
    torch.manual_seed(2)
    assert np.array_equal(first, corrupted(images, ALL_CORRUPTIONS[name]))
    assert (first.shape, first.dtype) == (images.shape, images.dtype)
    assert np.array_equal(first, images) == (name == "clean")


def test_corruptions_of_the_published_study_are_included() -> None:
    assert {name for study in published.ROBUSTNESS.values() for name in study} <= set(ROBUSTNESS)


def test_noise_has_its_sigma() -> None:
    grey = np.full((50, 32, 32, 3), 128, np.uint8)
    noise = corrupted(grey, ROBUSTNESS["noise 0.1"]).astype(float) - 128
    assert noise.std() == pytest.approx(25.5, rel=0.02)
    assert abs(noise.mean()) < 0.5
    assert len(np.unique(noise, axis=0)) == 50, "two images have the same noise"


def test_jpeg_is_that_of_pillow(images: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(images[0]).save(file, "JPEG", quality=40)
    assert np.array_equal(corrupted(images[:1], ROBUSTNESS["JPEG 40"])[0], np.array(Image.open(file)))


@pytest.mark.parametrize("sigma", [0.4, 1, 2])
def test_blur_is_that_of_scipy(images: np.ndarray, sigma: float) -> None:
    expected = ndimage.gaussian_filter(images.astype(float), (0, sigma, sigma, 0), mode="nearest", radius=(0, 7, 7, 0))
    assert np.abs(corrupted(images, ROBUSTNESS[f"blur {sigma}"]) - expected).max() < 0.51


def test_shifted_grid_puts_block_borders_in_the_middle_of_blocks() -> None:
    ramp = np.tile(np.linspace(0, 255, 32, dtype=np.uint8)[None, None, :, None], (1, 32, 1, 3))
    tensor = torch.from_numpy(ramp).permute(0, 3, 1, 2)
    steps = shifted_jpeg(tensor, 5)[0, 0].float().mean(0).diff().abs()
    assert set(steps.topk(4).indices.tolist()) == {3, 11, 19, 27}


def test_rotation_by_a_right_angle_is_exact(images: np.ndarray) -> None:
    rotated = corrupted(images, ROBUSTNESS["rotation 90"])
    assert np.array_equal(rotated, np.rot90(images, axes=(1, 2)))


@pytest.mark.parametrize("cycles", [2, 8, 14])
def test_low_pass_and_high_pass(cycles: int) -> None:
    wave = 128 + 60 * np.cos(2 * np.pi * cycles * np.arange(32) / 32)
    image = np.tile(wave.round().astype(np.uint8)[None, None, :, None], (1, 32, 1, 3))
    for name, kept in (("low-pass 0.2", cycles / 32 <= 0.2), ("high-pass 0.2", cycles / 32 >= 0.2)):
        spread = corrupted(image, ALL_CORRUPTIONS[name]).astype(float).std()
        assert spread == pytest.approx(image.std() if kept else 0, abs=1.0)


def test_luma_only_and_chroma_only(images: np.ndarray) -> None:
    grey = corrupted(images, ALL_CORRUPTIONS["luma only"]).astype(int)
    assert (np.ptp(grey, axis=3) == 0).all()
    weights = np.array([0.299, 0.587, 0.114])
    middle = np.clip(images, 60, 190)  # away from clipping
    luma = corrupted(middle, ALL_CORRUPTIONS["chroma only"]) @ weights
    assert (luma.std((1, 2)) < 0.1 * (middle @ weights).std((1, 2))).mean() > 0.9
