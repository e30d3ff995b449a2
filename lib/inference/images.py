"""From an image of any size to the 32×32 pixels of the network's input, by one rule, or to a sentence of refusal.

The rule is the same in the command line, the service and the evaluation. Its version, INPUT_RULE, is in `metrics.json`,
`served.json` and `GET /health`: predictions compare only where it is the same. Rule 1: an image of 32×32 is taken as it
is. Any other is resized as a whole, whatever its proportions (reduced by a whole number to no less than twice the
size, then bicubic), and encoded as all training images are. docs/external.md has the measurements behind it.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lib.core.decode import IMAGE_SIZE, decode_plain, open_image, rgb

INPUT_RULE = 1

_FILTER, _REDUCING_GAP = Image.Resampling.BICUBIC, 2.0
_QUALITY = 75  # of all images of CIFAKE
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
    """Decode an image as the training data are decoded (lib.core.decode), and make it the network's input.

    Raises InputError for bytes that `open_image` or `rgb` refuses.
    """
    return _plain(content) or _decoded(open_image(content))


def network_input(image: Image.Image) -> np.ndarray:
    """Return the input of the network (uint8 32×32×3) for an RGB image of any size, by the rule INPUT_RULE."""
    if image.size == (IMAGE_SIZE, IMAGE_SIZE):
        return np.asarray(image)
    resized = image.resize((IMAGE_SIZE, IMAGE_SIZE), _FILTER, reducing_gap=_REDUCING_GAP)
    return encoded_as_in_training(np.asarray(resized))


def encoded_as_in_training(pixels: np.ndarray) -> np.ndarray:
    """Return an image (uint8 H×W×3) as it is after a JPEG of the training images' quality, 4:2:0."""
    return np.asarray(Image.open(io.BytesIO(_jpeg(Image.fromarray(pixels), _QUALITY))))


def as_jpeg(content: bytes, quality: int) -> bytes:
    """Return an image file as a JPEG of its own size, of that quality (1 to 95) and 4:2:0.

    Raises InputError as `decode_image` does.
    """
    return _jpeg(rgb(open_image(content)), quality)


def _jpeg(image: Image.Image, quality: int) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling="4:2:0")
    return file.getvalue()


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
    return DecodedImage(network_input(rgb(opened)), width, height)
