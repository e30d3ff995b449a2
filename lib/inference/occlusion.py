"""Saliency maps by occlusion, without PyTorch: how far the logits move when a part of the image is covered."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from lib.core.input_rule import IMAGE_SIZE
from lib.core.rows import equal_pixels

PATCH, STRIDE = 12, 4  # pixels of an image of 32×32, and in proportion of others: 100 squares


@dataclass(frozen=True)
class Explanation:
    """Hold the input of a network and its saliency map, ready for JSON.

    `input_image` are the S×S pixels, as a PNG in a data URI; `saliency` are S rows of S numbers, above 0 for FAKE and
    below 0 for REAL: by how much the margin between the logits drops when that part is covered.
    """

    input_image: str
    saliency: list[list[float]]


def explanation(logits: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> Explanation:
    """Return the explanation of the prediction for one image (uint8 S×S×3, RGB); `logits` as for `saliency_map`."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    input_image = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return Explanation(input_image, saliency_map(logits, pixels).round(3).tolist())


def saliency_map(logits: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """Return the saliency of each pixel of an image (uint8 S×S×3, RGB): float64 S×S, above 0 FAKE, below 0 REAL.

    Occlusion sensitivity (Zeiler & Fergus 2014, arXiv 1311.2901): a square of PATCH pixels takes the image's mean
    colour, and the margin between the logits drops; the saliency of a pixel is the mean drop over the squares that
    cover it. `logits` returns N×2 for N×S×S×3; it is called once, for images larger than 32×32 in
    parts.
    """
    covers = _covers(len(pixels))
    covered = np.where(covers[..., None], pixels.mean((0, 1)).round().astype(np.uint8), pixels)
    images = np.concatenate([pixels[None], covered])
    step = equal_pixels(len(images), len(pixels))
    parts = [logits(images[start : start + step]) for start in range(0, len(images), step)]
    margins = -np.diff(np.concatenate(parts), axis=1)[:, 0]
    drops = margins[0] - margins[1:]
    return np.tensordot(drops, covers, 1) / covers.sum(0)


@cache
def _covers(size: int) -> np.ndarray:
    """Return the masks of the squares, some of them cut by the image's edge: bool N×S×S, for a multiple S of 16."""
    patch, stride = (pixels * size // IMAGE_SIZE for pixels in (PATCH, STRIDE))
    starts, position = np.arange(stride - patch, size, stride), np.arange(size)
    inside = (starts[:, None] <= position) & (position < starts[:, None] + patch)
    return (inside[:, None, :, None] & inside[None, :, None, :]).reshape(-1, size, size)
