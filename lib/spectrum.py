"""Where the energy of images lies: generators leave their mark at high spatial frequencies."""

import numpy as np

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
