"""Decode image files to 32×32 RGB pixels."""

import hashlib
import io
import re
from collections import Counter

import numpy as np
import simplejpeg
from PIL import Image

from lib.errors import InputError

SIDE = 32
_MORE = re.compile(rb"\xff[\xe1-\xef\xfe]")  # JPEG markers of what more than pixels there is: EXIF, a profile, a text


def decode_plain(content: bytes) -> np.ndarray | None:
    """Return the pixels (uint8 32×32×3, RGB) of a plain JPEG, or None for all else, which is Pillow's to judge.

    Plain is a whole JPEG of 32×32 in colour, with nothing that would turn it or change its colours, as those of CIFAKE
    are. Its pixels are Pillow's, as both ask libjpeg-turbo for the same steps, in an eighth of the time.
    """
    if content[:3] != b"\xff\xd8\xff" or _MORE.search(content):
        return None
    try:
        if simplejpeg.decode_jpeg_header(content)[:3] != (SIDE, SIDE, "YCbCr"):
            return None
        return simplejpeg.decode_jpeg(content, fastdct=False, fastupsample=False)
    except ValueError:
        return None


def decode(files: list[tuple[str, bytes]]) -> tuple[np.ndarray, list[bytes], Counter[str]]:
    """Decode `(name, content)` pairs to one uint8 array N×32×32×3 (RGB, 0–255), and identify each by a digest.

    Also count, by Pillow's mode name, the images that had to be converted to RGB (greyscale, CMYK, alpha,
    palette). Raises InputError for a file that is not an image, is truncated, or is not 32×32.
    """
    pixels = np.empty((len(files), SIDE, SIDE, 3), np.uint8)
    converted: Counter[str] = Counter()
    for i, (name, content) in enumerate(files):
        if (plain := decode_plain(content)) is not None:
            pixels[i] = plain
            continue
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
