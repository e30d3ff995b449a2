"""Degradations: as Pillow, scipy and the definitions do them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from lib.degrade import BLUR, KINDS, NOISE, NORMALS, QUALITY, add_noise, blur, degrade, jpeg, stretches
from lib.pack import Pack


@pytest.fixture(scope="module")
def images(sample_pack: Pack) -> torch.Tensor:
    return torch.from_numpy(sample_pack.images[::40].copy()).permute(0, 3, 1, 2)


def apart(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a.int() - b.int()).abs()


@pytest.mark.parametrize("quality", [30, 40, 75, 95])
def test_jpeg_is_that_of_pillow(images: torch.Tensor, quality: int) -> None:
    expected = []
    for image in images.permute(0, 2, 3, 1).numpy():
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=quality)
        expected.append(np.asarray(Image.open(file)))
    ours = jpeg(images, torch.full((len(images),), float(quality)))
    difference = apart(ours, torch.from_numpy(np.stack(expected)).permute(0, 3, 1, 2))
    assert (difference <= 2).float().mean() > 0.95
    assert difference.float().mean() < 0.5
    assert quality > 75 or apart(ours, images).float().mean() > 2 * difference.float().mean(), "nothing was done"


@pytest.mark.parametrize("sigma", [0.3, 0.6, 1.0])
def test_blur_is_that_of_scipy(images: torch.Tensor, sigma: float) -> None:
    expected = gaussian_filter(images.numpy().astype(float), (0, 0, sigma, sigma), mode="nearest", radius=(0, 0, 5, 5))
    ours = blur(images, torch.full((len(images),), sigma))
    assert np.abs(ours.numpy() - expected).max() < 0.51


def test_noise_has_the_deviation_that_was_asked_for() -> None:
    grey = torch.full((50, 3, 32, 32), 128, dtype=torch.uint8)
    sigma = torch.linspace(0.02, 0.1, 50)
    noisy = add_noise(grey, sigma, torch.randn(50, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(noisy.float().std((1, 2, 3)) / 255, sigma, atol=0.003, rtol=0.05)


def test_stretches_of_noise_are_normal_and_told_by_where_they_begin() -> None:
    start = torch.tensor([0, 17, NORMALS - 3072, 17])
    drawn = stretches(start, 3072)
    assert torch.equal(drawn[1], drawn[3])
    assert torch.equal(drawn[0, 17:], drawn[1, :-17])
    assert (drawn.mean(1).abs() < 0.08).all()
    torch.testing.assert_close(drawn.std(1), torch.ones(4), atol=0.05, rtol=0)


def test_each_image_gets_its_own_kind_and_strength(images: torch.Tensor) -> None:
    images = images[:8]
    kind = torch.arange(8) % len(KINDS)
    strength = torch.tensor([0.0] * 4 + [1.0] * 4)
    start = torch.arange(8) * 5000
    noise = stretches(start, images[0].numel()).view(images.shape)
    degraded = degrade(images, kind, strength, start)
    for i in range(8):
        one, end = images[i : i + 1], i // 4
        expected = {
            "none": one,
            "noise": add_noise(one, torch.tensor([NOISE[end]]), noise[i : i + 1]),
            "jpeg": jpeg(one, torch.tensor([float(QUALITY[1 - end])])),
            "blur": blur(one, torch.tensor([BLUR[end]])),
        }[KINDS[kind[i]]]
        assert torch.equal(degraded[i : i + 1], expected), KINDS[kind[i]]
