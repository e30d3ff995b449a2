"""Decode image files to the inputs of a network (lib.core.input_rule), at once where that takes no time."""

import threading
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lib.core import input_rule
from lib.core.decode import decode_plain, open_image, rgb
from lib.core.input_rule import INPUT_RULES, InputRule

_SMALL_FILE, _SMALL_IMAGE, _FEW_TILES = 16 * 2**10, 128 * 128, 16  # bytes, pixels, and strips or tiles of a TIFF
# Threads that give up Python's lock for each strip hand it to one another thousands of times a second, and the event
# loop, which asks for it only when nobody has got it for a while, waits for seconds. So one decodes a TIFF at a time.
_ONE_TIFF = threading.Lock()


@dataclass(frozen=True)
class DecodedImage:
    """Hold the input of the network (`pixels`, uint8 S×S×3, RGB), the image's own size, and the rule between them."""

    pixels: np.ndarray
    width: int
    height: int
    rule: InputRule

    @property
    def warning(self) -> str | None:
        """Return a sentence where the image has another size, which makes its prediction less reliable, else None."""
        side = f"{self.rule.size}×{self.rule.size}"
        if f"{self.width}×{self.height}" == side:
            return None
        of = f"the image is {self.width}×{self.height}"
        if INPUT_RULES[self.rule.version] == "crop":
            return f"{of} and only its central {side} pixels were classified"
        return f"{of} and was resized: the network was trained on images of {side} alone"


def decode_image(content: bytes, rule: InputRule) -> DecodedImage:
    """Decode an image as the training data are decoded (lib.core.decode), and make it the network's input.

    Raises InputError for bytes that `open_image` or `rgb` refuses, and for an image that the rule does.
    """
    if image := _plain(content, rule):
        return image
    with _ONE_TIFF if content.startswith((b"II", b"MM")) else nullcontext():
        return _decoded(open_image(content), rule)


def as_jpeg(content: bytes, quality: int) -> bytes:
    """Return an image file as a JPEG of its own size, of that quality (1 to 95) and 4:2:0.

    Raises InputError as `decode_image` does.
    """
    return input_rule.as_jpeg(rgb(open_image(content)), quality)


def decode_small_image(content: bytes, rule: InputRule) -> DecodedImage | None:
    """Decode an image as `decode_image` does, or return None where that could take longer than a millisecond."""
    if image := _plain(content, rule):
        return image
    if len(content) > _SMALL_FILE:
        return None
    opened = open_image(content)
    small = opened.width * opened.height <= _SMALL_IMAGE and len(opened.tile) <= _FEW_TILES
    return _decoded(opened, rule) if small else None


def _plain(content: bytes, rule: InputRule) -> DecodedImage | None:
    pixels = decode_plain(content, rule.size)
    return None if pixels is None else DecodedImage(pixels, rule.size, rule.size, rule)


def _decoded(opened: Image.Image, rule: InputRule) -> DecodedImage:
    width, height = opened.size
    rule.check(width, height)
    return DecodedImage(rule.apply(rgb(opened)), width, height, rule)
