"""Decode image files to 32×32 RGB pixels."""

import hashlib
import io
from collections import Counter

import numpy as np
from PIL import Image

from lib.errors import InputError

SIDE = 32


def decode(files: list[tuple[str, bytes]]) -> tuple[np.ndarray, list[bytes], Counter[str]]:
    """Decode `(name, content)` pairs to one uint8 array N×32×32×3 (RGB, 0–255), and identify each by a digest.

    Also count, by Pillow's mode name, the images that had to be converted to RGB (greyscale, CMYK, alpha,
    palette). Raises InputError for a file that is not an image, is truncated, or is not 32×32.
    """
    pixels = np.empty((len(files), SIDE, SIDE, 3), np.uint8)
    converted: Counter[str] = Counter()
    for i, (name, content) in enumerate(files):
        try:
            with Image.open(io.BytesIO(content)) as opened:
                image: Image.Image = opened
                # Before the pixels are decoded: a hostile size costs nothing.
                if image.size != (SIDE, SIDE):
                    raise InputError(f"{name} is {image.width}×{image.height}, not {SIDE}×{SIDE}: resize or remove it")
                if image.mode != "RGB":
                    converted[image.mode] += 1
                    image = image.convert("RGB")
                pixels[i] = np.frombuffer(image.tobytes(), np.uint8).reshape(SIDE, SIDE, 3)
        except InputError:
            raise
        except Exception as error:  # Pillow raises many kinds for damaged files
            raise InputError(f"{name} cannot be read as an image ({error}): replace or remove it") from None
    digests = [hashlib.blake2b(image.data, digest_size=16).digest() for image in pixels]
    return pixels, digests, converted
