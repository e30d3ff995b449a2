"""Decode the bytes of any image to the 32×32 pixels of the network's input, or refuse them in one sentence."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from lib.core.decode import IMAGE_SIZE, decode_plain
from lib.core.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 50_000_000  # a larger image is refused before it is decoded
_SMALL_FILE, _SMALL_IMAGE = 16 * 2**10, 128 * 128  # bytes and pixels
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N", "I")


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
    """Decode an image: rotated by its EXIF orientation, on white where transparent, scaled to 8 bits, resized to 32×32.

    Raises InputError for bytes that are no image of FORMATS, are damaged or animated, or have more than MAX_PIXELS.
    """
    return _plain(content) or _decoded(_opened(content))


def decode_small_image(content: bytes) -> DecodedImage | None:
    """Decode an image as `decode_image` does, or return None where that could take longer than a millisecond."""
    if image := _plain(content):
        return image
    if len(content) > _SMALL_FILE:
        return None
    image = _opened(content)
    return _decoded(image) if image.width * image.height <= _SMALL_IMAGE else None


def _plain(content: bytes) -> DecodedImage | None:
    pixels = decode_plain(content)
    return None if pixels is None else DecodedImage(pixels, IMAGE_SIZE, IMAGE_SIZE)


def _opened(content: bytes) -> Image.Image:
    """Open an image by its header alone, so that no pixel of a refused one is decoded."""
    if not content:
        raise InputError("the file is empty: send an image")
    with _as_input_error():
        image = Image.open(io.BytesIO(content), formats=FORMATS)
        if image.width * image.height > MAX_PIXELS:
            raise Image.DecompressionBombError
        if getattr(image, "is_animated", False):
            raise InputError("the image is animated, or has several pages: send one of a single frame")
        return image


def _decoded(image: Image.Image) -> DecodedImage:
    with _as_input_error():
        width, height = image.size
        ImageOps.exif_transpose(image, in_place=True)
        return DecodedImage(
            np.frombuffer(_flat(image).tobytes(), np.uint8).reshape(IMAGE_SIZE, IMAGE_SIZE, 3), width, height
        )


@contextmanager
def _as_input_error() -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"the image has too many pixels: send one of at most {MAX_PIXELS:,}") from None
    except Image.UnidentifiedImageError:
        raise InputError(f"the file is no image that can be read: send {', '.join(FORMATS)}") from None
    except Exception:  # Pillow raises many kinds for damaged files
        raise InputError("the image is damaged: send a whole one") from None


def _flat(image: Image.Image) -> Image.Image:
    """Return the image as 32×32 RGB."""
    if image.mode in _SIXTEEN_BITS:
        image = Image.fromarray(((np.asarray(image).clip(0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if image.size != (IMAGE_SIZE, IMAGE_SIZE):
        image = image.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
    return image
