"""Pixels of any depth and kind as 8-bit RGB."""

import numpy as np
from PIL import Image, ImageCms

from lib.core.errors import InputError

_DEEP = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of a TIFF
_SIGNED, _WHITE_IS_ZERO = (2,), 0


def to_rgb(image: Image.Image) -> Image.Image:
    """Return a loaded image as 8-bit RGB, on white where it is transparent.

    Unsigned samples of 12 or 16 bits are scaled by their depth. Those of 32 bits (float or integer) and signed ones
    fill their depth but seldom: they are scaled by the least of the usual ranges that has them, 0 to 1 (floats), 255,
    65535, and the most of the depth (integers). Raises InputError for samples outside, for NaN and for infinity.
    """
    if image.mode in _DEEP:
        image = _eight_bits(image)
    elif image.mode == "LAB":
        profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        image = ImageCms.buildTransform(*profiles, "LAB", "RGB").apply(image)
    elif image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return an image of one deep channel as grey of 8 bits, with alpha where one value is transparent."""
    tags, values = getattr(image, "tag_v2", {}), np.asarray(image)
    bits, signed = tags.get(_BITS_PER_SAMPLE, (16,))[0], tags.get(_SAMPLE_FORMAT) == _SIGNED
    if image.mode == "F":
        tops = (1, 255, 65535)
    elif bits == 32:
        values = values if signed else values.view(np.uint32)
        tops = (255, 65535, 2**31 - 1, 2**32 - 1)
    else:
        tops = (2 ** (bits - signed) - 1,)
    low, high = values.min(), values.max()
    top = next((top for top in tops if low >= 0 and high <= top), None)  # None for NaN too
    if top is None:
        raise InputError(f"the pixels are outside 0 to {tops[-1]:,}, or are no numbers: send an image of 8 or 16 bits")
    scaled = np.multiply(values, 255 / top, dtype=np.float32)
    scaled += 0.5
    grey = scaled.astype(np.uint8)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    if (clear := image.info.get("transparency")) is None:
        return Image.fromarray(grey)
    return Image.fromarray(np.stack((grey, np.where(values == clear, 0, 255).astype(np.uint8)), axis=-1))
