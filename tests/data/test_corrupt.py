"""Corruptions: equal to Pillow, scipy and their definitions."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from lib.data.corrupt import (
    BLUR_SIGMA,
    CORRUPTION_TYPES,
    JPEG_QUALITY,
    NOISE_SIGMA,
    NORMALS,
    corrupt,
    gaussian_blur,
    gaussian_noise,
    jpeg,
    noise_slice,
)
from lib.data.dataset import PackedDataset


@pytest.fixture(scope="module")
def images(sample_dataset: PackedDataset) -> torch.Tensor:
    return torch.from_numpy(sample_dataset.images[::40].copy()).permute(0, 3, 1, 2)


def absolute_difference(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.int() - b.int()).abs()


@pytest.mark.parametrize("quality", [30, 40, 75, 95])
def test_jpeg_agrees_with_pillow(images: torch.Tensor, quality: int) -> None:
    decoded = []
    for image in images.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        decoded.append(np.asarray(Image.open(file)))
    expected = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2)
    ours = jpeg(images, torch.full((len(images),), float(quality)))
    error, change = absolute_difference(ours, expected), absolute_difference(ours, images)
    assert (error <= 2).float().mean() > 0.95
    assert error.float().mean() < 0.5
    assert quality > 75 or change.float().mean() > 2 * error.float().mean(), "the images are unchanged"


@pytest.mark.parametrize("sigma", [0.3, 0.6, 1.0])
def test_gaussian_blur_agrees_with_scipy(images: torch.Tensor, sigma: float) -> None:
    expected = gaussian_filter(images.numpy().astype(float), (0, 0, sigma, sigma), mode="nearest", radius=(0, 0, 5, 5))
    ours = gaussian_blur(images, torch.full((len(images),), sigma))
    assert np.abs(ours.numpy() - expected).max() < 0.51


def test_gaussian_noise_has_the_given_standard_deviation() -> None:
    grey = torch.full((50, 3, 32, 32), 128, dtype=torch.uint8)
    sigma = torch.linspace(0.02, 0.1, 50)
    noisy = gaussian_noise(grey, sigma, torch.randn(50, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(noisy.float().std((1, 2, 3)) / 255, sigma, atol=0.003, rtol=0.05)


def test_noise_slices_are_standard_normal_and_depend_on_their_start() -> None:
    start = torch.tensor([0, 17, NORMALS - 3072, 17])
    noise = noise_slice(start, 3072)
    assert torch.equal(noise[1], noise[3])
    assert torch.equal(noise[0, 17:], noise[1, :-17])
    assert (noise.mean(1).abs() < 0.08).all()
    torch.testing.assert_close(noise.std(1), torch.ones(4), atol=0.05, rtol=0)


def test_each_image_has_its_own_corruption_type_and_severity(images: torch.Tensor) -> None:
    images = images[:8]
    corruption_type = torch.arange(8) % len(CORRUPTION_TYPES)
    severity = torch.tensor([0.0] * 4 + [1.0] * 4)
    noise_start = torch.arange(8) * 5000
    noise = noise_slice(noise_start, images[0].numel()).view(images.shape)
    corrupted = corrupt(images, corruption_type, severity, noise_start)
    for i in range(8):
        image, end = images[i : i + 1], i // 4
        expected = {
            "none": image,
            "noise": gaussian_noise(image, torch.tensor([NOISE_SIGMA[end]]), noise[i : i + 1]),
            "jpeg": jpeg(image, torch.tensor([float(JPEG_QUALITY[1 - end])])),
            "blur": gaussian_blur(image, torch.tensor([BLUR_SIGMA[end]])),
        }[CORRUPTION_TYPES[corruption_type[i]]]
        assert torch.equal(corrupted[i : i + 1], expected), CORRUPTION_TYPES[corruption_type[i]]
