"""Fakes by signal processing: photographs of which one property is lost, and the others are kept.

Each function takes photographs, others to mix them with (both float N×32×32×3, 0–255), and a random generator, which
draws one strength for all of them; it returns float N×32×32×3. Among them they err in both directions: too smooth and
too grainy, wrong phases, wrong shapes, wrong combinations.
"""

from collections.abc import Callable

import numpy as np
from scipy import fft, ndimage

Resynthesis = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]

_GROUP = 25  # images of one strength


def resynthesise(kind: str, images: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return images (uint8 N×32×32×3) after the function KINDS[kind], which mixes some with `others` (the same)."""
    parts = []
    for start in range(0, len(images), _GROUP):
        group = slice(start, start + _GROUP)
        parts.append(KINDS[kind](images[group].astype(float), others[group].astype(float), rng))
    return np.concatenate(parts).round().clip(0, 255).astype(np.uint8)


def hybrid(images: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replace the high frequencies (of the cosine transform) by those of the others."""
    frequency = np.arange(images.shape[1])
    low = (np.hypot(frequency[:, None], frequency) < rng.uniform(6, 16))[None, :, :, None]
    own, foreign = (fft.dctn(it, axes=(1, 2), norm="ortho") for it in (images, others))
    return fft.idctn(np.where(low, own, foreign), axes=(1, 2), norm="ortho")


def phase(images: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Disturb the phases, the more the higher the frequency; the power spectrum stays."""
    n, height, width, _ = images.shape
    noise = np.fft.rfft2(rng.normal(size=(n, height, width, 1)), axes=(1, 2))
    distance = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.arange(width // 2 + 1))
    strength = 3 * rng.uniform(0.15, 0.7) * np.clip(distance / 16, 0, 1)[None, :, :, None]
    spectrum = np.fft.rfft2(images, axes=(1, 2)) * np.exp(1j * strength * np.angle(noise))
    return np.fft.irfft2(spectrum, s=(height, width), axes=(1, 2))


def quilt(images: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Give three fifths of the squares the texture of others, and leave them their mean colours."""
    side = int(rng.choice([4, 8]))
    n, height, width, _ = images.shape
    own, foreign = (it.reshape(n, height // side, side, width // side, side, 3) for it in (images, others))
    replaced = rng.random((n, height // side, 1, width // side, 1, 1)) < 0.6
    texture = foreign - foreign.mean((2, 4), keepdims=True)
    return np.where(replaced, own.mean((2, 4), keepdims=True) + texture, own).reshape(images.shape)


def elastic(images: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bend the shapes by a smooth random displacement, of up to some pixels."""
    strength = rng.uniform(1.0, 4.0)
    grid = np.mgrid[: images.shape[1], : images.shape[2]]
    bent = np.empty_like(images)
    for image, out in zip(images, bent, strict=True):
        shift = ndimage.gaussian_filter(rng.normal(size=grid.shape), (0, 3.5, 3.5))
        where = grid + shift * strength / shift.std()
        for channel in range(3):
            out[..., channel] = ndimage.map_coordinates(image[..., channel], where, order=3, mode="reflect")
    return bent


def blend(images: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Let each image pass smoothly into another one and back."""
    mask = ndimage.gaussian_filter(rng.normal(size=(*images.shape[:3], 1)), (0, 4, 4, 0))
    share = 1 / (1 + np.exp(-3 * mask / mask.std()))
    return share * images + (1 - share) * others


def shuffle(images: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Move the finest detail to another place of the same image."""
    smooth = ndimage.gaussian_filter(images, (0, 1, 1, 0))
    return smooth + np.roll(images - smooth, rng.integers(4, 28, 2), (1, 2))


def regrain(images: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Replace the finest detail by noise of about its size."""
    sigma = (0, *2 * [rng.uniform(0.6, 1.1)], 0)
    smooth = ndimage.gaussian_filter(images, sigma)
    noise = rng.normal(size=(*images.shape[:3], 1)) * rng.uniform(0.4, 1) + 0.3 * rng.normal(size=images.shape)
    noise -= ndimage.gaussian_filter(noise, sigma)
    size = (images - smooth).std((1, 2, 3), keepdims=True) / noise.std((1, 2, 3), keepdims=True)
    return smooth + noise * size * rng.uniform(0.4, 1.3)


def median(images: np.ndarray, others: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Smooth by a median of 3×3 pixels, which keeps edges."""
    return 0.3 * images + 0.7 * ndimage.median_filter(images, (1, 3, 3, 1))


KINDS: dict[str, Resynthesis] = {
    it.__name__: it for it in (hybrid, phase, quilt, elastic, blend, shuffle, regrain, median)
}
