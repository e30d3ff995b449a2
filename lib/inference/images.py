"""Decode the bytes of any image to the 32×32 pixels of the network's input, or refuse them in one sentence."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from lib.core.decode import IMAGE_SIZE, decode_plain, open_image, rgb

_SMALL_FILE, _SMALL_IMAGE, _FEW_TILES = 16 * 2**10, 128 * 128, 16  # bytes, pixels, and strips or tiles of a TIFF


@dataclass(frozen=True)
class DecodedImage:
    """Hold the input of the network (`pixels`, uint8 32×32×3, RGB), and the size of the image before resizing."""

    pixels: np.ndarray
    width: int
    height: int

    @property
    def warning(self) -> str | None:
        """Return a sentence where the image was resized, which makes its prediction less reliable, else None."""
        if (self.width, self.height) == (IMAGE_SIZE, IMAGE_SIZE):
            return None
        return (
            f"the image is {self.width}×{self.height} and was resized: the network was trained on images of 32×32 alone"
        )


def decode_image(content: bytes) -> DecodedImage:
    """Decode an image as the training data are decoded (lib.core.decode), and resize it to 32×32.

    Raises InputError for bytes that `open_image` or `rgb` refuses.
    """
    return _plain(content) or _decoded(open_image(content))


def decode_small_image(content: bytes) -> DecodedImage | None:
    """Decode an image as `decode_image` does, or return None where that could take longer than a millisecond."""
    if image := _plain(content):
        return image
    if len(content) > _SMALL_FILE:
        return None
    opened = open_image(content)
    small = opened.width * opened.height <= _SMALL_IMAGE and len(opened.tile) <= _FEW_TILES
    return _decoded(opened) if small else None


def _plain(content: bytes) -> DecodedImage | None:
    pixels = decode_plain(content)
    return None if pixels is None else DecodedImage(pixels, IMAGE_SIZE, IMAGE_SIZE)


def _decoded(opened: Image.Image) -> DecodedImage:
    width, height = opened.size
    image = rgb(opened)
    if image.size != (IMAGE_SIZE, IMAGE_SIZE):
        image = image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return DecodedImage(np.asarray(image), width, height)
