"""Images for the load tests, all different."""

import io

import numpy as np
from PIL import Image


def image(seed: int, side: int = 32) -> bytes:
    """Return a JPEG of smooth noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG")
    return file.getvalue()
