"""Conditions: what each does to images, held against other libraries and against theory."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from lib import published
from lib.battery import CONDITIONS, harmed
from lib.conditions import ROBUSTNESS, moved_jpeg
from lib.pack import Pack


@pytest.fixture(scope="module")
def images(sample_pack: Pack) -> np.ndarray:
    return np.array(sample_pack.images[:40])


@pytest.mark.parametrize("name", CONDITIONS)
def test_condition_gives_other_images_of_the_same_kind_again_and_again(name: str, images: np.ndarray) -> None:
    torch.manual_seed(1)
    first = harmed(images, CONDITIONS[name])
    torch.manual_seed(2)
    assert np.array_equal(first, harmed(images, CONDITIONS[name]))
    assert (first.shape, first.dtype) == (images.shape, images.dtype)
    assert np.array_equal(first, images) == (name == "clean")


def test_conditions_of_the_published_study_are_there() -> None:
    assert {name for study in published.ROBUSTNESS.values() for name in study} <= set(ROBUSTNESS)


def test_noise_has_its_sigma() -> None:
    grey = np.full((50, 32, 32, 3), 128, np.uint8)
    noise = harmed(grey, ROBUSTNESS["noise 0.1"]).astype(float) - 128
    assert noise.std() == pytest.approx(25.5, rel=0.02)
    assert abs(noise.mean()) < 0.5


def test_jpeg_is_that_of_pillow(images: np.ndarray) -> None:
    file = io.BytesIO()
    Image.fromarray(images[0]).save(file, "JPEG", quality=40)
    assert np.array_equal(harmed(images[:1], ROBUSTNESS["JPEG 40"])[0], np.array(Image.open(file)))


def test_blur_is_that_of_scipy(images: np.ndarray) -> None:
    expected = ndimage.gaussian_filter(images.astype(float), (0, 1.0, 1.0, 0), mode="mirror", truncate=7)
    assert np.abs(harmed(images, ROBUSTNESS["blur 1"]) - expected).max() <= 1


def test_a_moved_grid_puts_block_borders_in_the_middle_of_blocks() -> None:
    ramp = np.tile(np.linspace(0, 255, 32, dtype=np.uint8)[None, None, :, None], (1, 32, 1, 3))
    tensor = torch.from_numpy(ramp).permute(0, 3, 1, 2)
    steps = moved_jpeg(tensor, 5)[0, 0].float().mean(0).diff().abs()
    assert set(steps.topk(4).indices.tolist()) == {3, 11, 19, 27}


def test_turned_twice_by_a_right_angle_is_turned_by_a_straight_one(images: np.ndarray) -> None:
    once = harmed(images, ROBUSTNESS["rotation 90"])
    assert np.array_equal(once, np.rot90(images, axes=(1, 2)))


@pytest.mark.parametrize("cycles", [2, 8, 14])
def test_frequencies_are_kept_or_taken_away(cycles: int) -> None:
    wave = 128 + 60 * np.cos(2 * np.pi * cycles * np.arange(32) / 32)
    image = np.tile(wave.round().astype(np.uint8)[None, None, :, None], (1, 32, 1, 3))
    for name, kept in (("only below 0.2", cycles / 32 <= 0.2), ("only above 0.2", cycles / 32 >= 0.2)):
        spread = harmed(image, CONDITIONS[name]).astype(float).std()
        assert spread == pytest.approx(image.std() if kept else 0, abs=1.0)


def test_luma_and_chroma_alone(images: np.ndarray) -> None:
    grey = harmed(images, CONDITIONS["luma alone"]).astype(int)
    assert (np.ptp(grey, axis=3) == 0).all()
    weights = np.array([0.299, 0.587, 0.114])
    middle = np.clip(images, 60, 190)  # away from clipping
    luma = harmed(middle, CONDITIONS["chroma alone"]) @ weights
    assert (luma.std((1, 2)) < 0.1 * (middle @ weights).std((1, 2))).mean() > 0.9
