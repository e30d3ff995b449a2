"""Saliency maps by occlusion, without PyTorch: how far the logits move when a part of the image is covered."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from lib.core.decode import IMAGE_SIZE

PATCH, STRIDE = 12, 4  # pixels


@dataclass(frozen=True)
class Explanation:
    """Hold the input of a network and its saliency map, ready for JSON.

    `input_image` are the 32×32 pixels, as a PNG in a data URI; `saliency` are 32 rows of 32 numbers, above 0 for FAKE
    and below 0 for REAL: by how much the margin between the logits drops when that part is covered.
    """

    input_image: str
    saliency: list[list[float]]


def explanation(logits: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> Explanation:
    """Return the explanation of the prediction for one image (uint8 32×32×3, RGB); `logits` as for `saliency_map`."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    input_image = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return Explanation(input_image, saliency_map(logits, pixels).round(3).tolist())


def saliency_map(logits: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """Return the saliency of each pixel of an image (uint8 32×32×3, RGB): float64 32×32, above 0 FAKE, below 0 REAL.

    Occlusion sensitivity (Zeiler & Fergus 2014, arXiv 1311.2901): a square of PATCH pixels takes the image's mean
    colour, and the margin between the logits drops; the saliency of a pixel is the mean drop over the squares that
    cover it. `logits` returns N×2 for N×32×32×3; it is called once.
    """
    covers = _covers()
    covered = np.where(covers[..., None], pixels.mean((0, 1)).round().astype(np.uint8), pixels)
    margins = -np.diff(logits(np.concatenate([pixels[None], covered])), axis=1)[:, 0]
    drops = margins[0] - margins[1:]
    return np.tensordot(drops, covers, 1) / covers.sum(0)


@cache
def _covers() -> np.ndarray:
    """Return the masks of the squares, some of them cut by the image's edge: bool N×32×32."""
    starts = np.arange(STRIDE - PATCH, IMAGE_SIZE, STRIDE)
    inside = (starts[:, None] <= np.arange(IMAGE_SIZE)) & (np.arange(IMAGE_SIZE) < starts[:, None] + PATCH)
    return (inside[:, None, :, None] & inside[None, :, None, :]).reshape(-1, IMAGE_SIZE, IMAGE_SIZE)
