"""Compute power spectra, and filter images by frequency: the artefacts of generators are mostly at high frequencies."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from lib.core.rows import ImageRows, equal_pixels

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as in JPEG


def mean_power_spectrum(images: np.ndarray | ImageRows, chunk: int = 2_000) -> np.ndarray:
    """Return the mean power of each spatial frequency of the luma, float64 S×S, zero frequency in the centre.

    `images` is uint8 N×S×S×3, of which the pixels of `chunk` images of 32×32 are read at a time. The mean of each image
    is subtracted, and a Hann window suppresses the high frequencies that its borders would add.
    """
    size = images[0].shape[0]
    window = np.outer(np.hanning(size), np.hanning(size))
    total = np.zeros((size, size))
    step = equal_pixels(chunk, size)
    for start in range(0, len(images), step):
        luma = images[start : start + step] @ _LUMA
        luma -= luma.mean((1, 2), keepdims=True)
        total += (np.abs(np.fft.fft2(luma * window)) ** 2).sum(0)
    return np.fft.fftshift(total / len(images))


def radial_mean(spectrum: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average a centred spectrum over all directions.

    Returns the frequencies in cycles a pixel, 1/S to 1/2, and the mean power at each.
    """
    size = len(spectrum)
    y, x = np.indices(spectrum.shape) - size // 2
    radius = np.hypot(y, x).round().astype(int)
    bins = np.arange(1, size // 2 + 1)
    return bins / size, np.array([spectrum[radius == r].mean() for r in bins])


def keep_frequencies(images: Tensor, high: float, low: float = 0.0) -> Tensor:
    """Keep the spatial frequencies from `low` to `high` (cycles a pixel) and the mean of each channel.

    `images` and the result are uint8 N×3×H×W.
    """
    height, width = images.shape[2:]
    frequency = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None])
    kept = (frequency >= low) & (frequency <= high)
    kept[0, 0] = True
    spectrum = torch.fft.rfft2(images.float()) * kept
    return _uint8(torch.fft.irfft2(spectrum, s=(height, width)))


def fine_detail(images: np.ndarray, sigma: float = 1.0, gain: float = 4.0) -> np.ndarray:
    """Return what a Gaussian blur of `sigma` pixels removes from images (uint8 N×H×W×3), times `gain`, on grey."""
    pixels = images.astype(np.float32)
    detail = pixels - gaussian_filter(pixels, (0, sigma, sigma, 0))
    return np.clip(np.round(128 + gain * detail), 0, 255).astype(np.uint8)


def high_frequency_ratio(spectra: dict[str, np.ndarray], low: float = 0.25) -> float:
    """Return the power of FAKE divided by that of REAL, over all frequencies from `low` cycles a pixel on."""
    side = len(spectra["FAKE"])
    y, x = np.indices((side, side)) - side // 2
    high = np.hypot(y, x) >= low * side
    return float(spectra["FAKE"][high].sum() / spectra["REAL"][high].sum())


def without_luma(images: Tensor) -> Tensor:
    """Replace the luma of each image by its mean and keep the chroma (uint8 N×3×H×W)."""
    luma = (images.float() * torch.tensor(_LUMA, dtype=torch.float32)[:, None, None]).sum(1, keepdim=True)
    return _uint8(images - luma + luma.mean((2, 3), keepdim=True))


def _uint8(x: Tensor) -> Tensor:
    return x.round().clamp(0, 255).to(torch.uint8)
