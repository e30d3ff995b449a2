"""Where a network looks, found without PyTorch: cover a part of the picture, and see how far the verdict moves."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from lib.decode import SIDE

PATCH, STRIDE = 12, 4  # pixels


@dataclass(frozen=True)
class Explanation:
    """Say what a network saw and where it looked.

    `view` is those 32×32 pixels, as a PNG in a data URI; `evidence` are 32 rows of 32 numbers, above 0 for FAKE and
    below 0 for REAL: by how many logits the verdict moves when that part is covered.
    """

    view: str
    evidence: list[list[float]]


def explanation(logits: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> Explanation:
    """Return the explanation of one picture (uint8 32×32×3, RGB), ready for JSON."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    view = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    return Explanation(view, evidence_map(logits, pixels).round(3).tolist())


def evidence_map(logits: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """Return the evidence at each pixel of a picture (uint8 32×32×3, RGB): 32×32, above 0 FAKE, below 0 REAL.

    Occlusion sensitivity (Zeiler & Fergus 2014, arXiv 1311.2901): a square of PATCH pixels takes the picture's mean
    colour, and the evidence there is by how much the margin between both logits falls; a pixel's is the mean over
    the squares that cover it. `logits` returns N×2 for N×32×32×3; it is called once.
    """
    covers = _covers()
    covered = np.where(covers[..., None], pixels.mean((0, 1)).round().astype(np.uint8), pixels)
    margins = -np.diff(logits(np.concatenate([pixels[None], covered])), axis=1)[:, 0]
    falls = margins[0] - margins[1:]
    return np.tensordot(falls, covers, 1) / covers.sum(0)


@cache
def _covers() -> np.ndarray:
    """Return the squares that cover a part of the picture each, some of them cut by its edge: bool N×32×32."""
    starts = np.arange(STRIDE - PATCH, SIDE, STRIDE)
    inside = (starts[:, None] <= np.arange(SIDE)) & (np.arange(SIDE) < starts[:, None] + PATCH)
    return (inside[:, None, :, None] & inside[None, :, None, :]).reshape(-1, SIDE, SIDE)
