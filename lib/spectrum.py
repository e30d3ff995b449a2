"""Where the energy of images lies, and images without a part of it: generators leave their mark at high frequencies."""

import numpy as np
import torch
from torch import Tensor

from lib.decode import SIDE

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in JPEG


def mean_power_spectrum(images: np.ndarray, chunk: int = 2_000) -> np.ndarray:
    """Return the mean power of each spatial frequency of the luma, float64 32×32, zero frequency in the centre.

    `images` is uint8 N×32×32×3. Each image's mean is removed, and a Hann window keeps its borders from posing
    as high frequencies.
    """
    window = np.outer(np.hanning(SIDE), np.hanning(SIDE))
    total = np.zeros((SIDE, SIDE))
    for start in range(0, len(images), chunk):
        luma = images[start : start + chunk] @ _LUMA
        luma -= luma.mean((1, 2), keepdims=True)
        total += (np.abs(np.fft.fft2(luma * window)) ** 2).sum(0)
    return np.fft.fftshift(total / len(images))


def radial_mean(spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average a centred spectrum over all directions.

    Returns the frequency in cycles a pixel, 1/32 to 1/2, and the mean power of each.
    """
    y, x = np.indices(spectrum.shape) - SIDE // 2
    radius = np.hypot(y, x).round().astype(int)
    bins = np.arange(1, SIDE // 2 + 1)
    return bins / SIDE, np.array([spectrum[radius == r].mean() for r in bins])


def keep_frequencies(images: Tensor, high: float, low: float = 0.0) -> Tensor:
    """Keep the spatial frequencies from `low` to `high` (cycles a pixel), and each channel's mean.

    `images` is uint8 N×3×H×W, and so is what is returned.
    """
    height, width = images.shape[2:]
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    kept = (frequency >= low) & (frequency <= high)
    kept[0, 0] = True
    spectrum = torch.fft.rfft2(images.float()) * kept
    return _uint8(torch.fft.irfft2(spectrum, s=(height, width)))


def without_luma(images: Tensor) -> Tensor:
    """Set the luma of each image to its mean, and keep the chroma (uint8 N×3×H×W)."""
    luma = (images.float() * torch.tensor(_LUMA, dtype=torch.float32)[:, None, None]).sum(1, keepdim=True)
    return _uint8(images - luma + luma.mean((2, 3), keepdim=True))


def _uint8(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)
